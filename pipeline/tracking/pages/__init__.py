"""What MLflow shows of a run and an experiment."""
