"""The images that MLflow steps through."""
