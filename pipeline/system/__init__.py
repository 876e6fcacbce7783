"""Utilities for files, processes, signals, the terminal and the command line, independent of what is trained."""
