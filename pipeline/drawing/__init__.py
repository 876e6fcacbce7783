"""Plotting code that is independent of any study."""
