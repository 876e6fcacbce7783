"""Methods with a training loop of their own."""
