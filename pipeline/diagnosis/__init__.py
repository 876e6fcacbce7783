"""How a training went: judged from its config and its history alone."""
