"""The best rate along a knob that it is transferred over: hidden sizes, depths, batch sizes."""
