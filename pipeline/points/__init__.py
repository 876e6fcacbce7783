"""The definition of a point, and its files on disk."""
