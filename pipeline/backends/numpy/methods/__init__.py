"""Training methods with a loop of their own."""
