"""Figures that know no study."""
