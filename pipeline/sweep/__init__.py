"""A command's points: what to train, in which stacks, and the table that says how it went."""
