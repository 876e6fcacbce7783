"""The config of one grid point: typed sections, the rules across them, and the parser for Hydra's composed config."""
