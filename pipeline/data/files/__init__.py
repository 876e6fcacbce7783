"""Files of a user's own rows: text, Parquet and NumPy arrays, read into a pandas DataFrame."""
