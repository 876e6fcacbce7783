"""MLflow: the store, runs, models, data sets, views, and the tracking server."""
