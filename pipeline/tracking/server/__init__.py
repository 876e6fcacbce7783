"""The tracking server: its process, and the checks before it starts."""
