"""Comparison of the published numbers and statements with ours."""
