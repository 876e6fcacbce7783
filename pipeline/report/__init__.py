"""The pages and tables of the report."""
