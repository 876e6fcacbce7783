"""What repeated trainings say: a mean with its interval, and which points cannot be told from the best."""
