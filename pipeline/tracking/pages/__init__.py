"""The content of MLflow's pages for runs and experiments: descriptions, images and saved views."""
