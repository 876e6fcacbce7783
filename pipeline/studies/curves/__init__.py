"""Studies of balls that roll on a curve."""
