"""Balls that roll down a curve."""
