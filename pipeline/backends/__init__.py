"""One contract, two ways to train."""
