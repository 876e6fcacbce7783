"""Studies that compare methods or features."""
