"""Train one point, or a grid of points.

python -m pipeline.train experiment=three_bits
python -m pipeline.train -m optimizer.learning_rate=0.001,0.01 model.hidden_size=32,128
"""

from __future__ import annotations

if not __package__:
    raise SystemExit("error: this is a module; in the project's folder, type: python -m pipeline.train")

import sys

from pipeline.sweep.command import TrainCommand
from pipeline.system import cli

if __name__ == "__main__":
    command = TrainCommand()
    sys.exit(cli.run(command.train_point, "config", command.finish))
