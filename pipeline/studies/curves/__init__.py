"""Studies of balls on a curve."""
