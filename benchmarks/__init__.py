"""How long things take, each beside what it is to be held to: `make bench`, or `python -m benchmarks`."""
