"""Images of a point at selected epochs, for the slider in MLflow."""
