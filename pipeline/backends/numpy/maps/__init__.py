"""Maps: every pair of values of two knobs, trained in one run."""
