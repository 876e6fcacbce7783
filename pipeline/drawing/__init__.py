"""Figures and images, without any knowledge of studies."""
