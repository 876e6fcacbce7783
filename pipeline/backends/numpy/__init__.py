"""Training implemented in NumPy: a stack of points at once, along a leading grid axis."""
