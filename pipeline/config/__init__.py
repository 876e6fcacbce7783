"""The config of one grid point: typed sections, the rules between them, and the one reader of what Hydra composed."""
