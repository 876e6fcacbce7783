"""What trained points say."""
