"""Images of a point at some epochs, for the slider in MLflow."""
