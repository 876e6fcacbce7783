"""Studies of how short a warm-up may be at rates at which training would break."""
