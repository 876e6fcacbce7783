"""Predict the learning rate at which training breaks, from the curvature of the loss at the initial weights.

python -m pipeline.predict experiment=three_bits
python -m pipeline.predict -m experiment=mnist optimizer=sgd,momentum,adam

The arguments are those of `python -m pipeline.train`. It trains and tracks nothing.
"""

from __future__ import annotations

if not __package__:
    raise SystemExit("error: this is a module; in the project's folder, type: python -m pipeline.predict")

import sys

from pipeline.sweep.command import TrainCommand
from pipeline.system import cli

if __name__ == "__main__":
    command = TrainCommand(predicts=True)
    sys.exit(cli.run(command.train_point, "config", command.finish))
