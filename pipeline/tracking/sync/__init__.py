"""What is on disk, written to MLflow: while points train, and again whenever it is asked for."""
