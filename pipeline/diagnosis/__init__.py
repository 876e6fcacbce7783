"""How training went: judged from a point's config and history alone."""
