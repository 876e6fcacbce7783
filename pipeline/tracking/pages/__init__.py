"""What MLflow shows of a run and of an experiment: descriptions, images and saved views."""
