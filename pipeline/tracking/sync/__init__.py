"""Writes to MLflow what is on disk: while points train, and whenever a store is rebuilt."""
