"""Training in NumPy: a stack of networks at once, with the grid axis first."""
