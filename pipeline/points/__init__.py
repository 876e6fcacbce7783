"""What a point is, and all its files."""
