"""Training in NumPy, in the open: many networks at once, the grid axis first."""
