"""Files, processes, signals, the terminal and the command line: what knows nothing of training."""
