"""Train the points of a command: choose, stack or distribute them, and show their results in a table."""
