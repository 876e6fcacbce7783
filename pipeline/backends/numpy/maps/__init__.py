"""Maps: every pair of values of two settings, trained in one run."""
