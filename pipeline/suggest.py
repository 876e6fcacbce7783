"""Which rates verify what a learning-rate range test suggests.

`python -m pipeline.suggest [results=DIR] [factors=[0.1,1,10]]` prints them as a grid for `optimizer.learning_rate`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from pipeline.config.reading import read_folder
from pipeline.diagnosis.range_test import range_test
from pipeline.points.results import read_study
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT


def suggested_rates(results: Path, factors: Sequence[float]) -> list[float]:
    """The rate that the first point of a results folder suggests, times each factor, to two digits.

    Raises:
        LabError: there is no point, it is no range test, or its loss never fell.
    """
    again = f"python -m pipeline.train experiment=lr_range_test results={results}"
    points = read_study(results) if (results / "sweep.json").exists() else []
    if not points:
        raise LabError(
            f"There are no results in {results}.",
            expected="the folder of a range test, as training writes it",
            fix=again,
        )
    found = range_test(points[0].history)
    if found is None:
        raise LabError(
            f"`{points[0].name}` is no range test.",
            expected="a table of the loss of every update: recording.update_losses=true",
            received="none",
            fix=again,
        )
    if found.suggested_rate is None:
        raise LabError(
            "The range test suggests no rate.",
            expected="a loss that falls somewhere on its way",
            received=f"one that is lowest at its start, over rates {found.rates[0]:g} to {found.rates[-1]:g}",
            fix="begin lower (optimizer.learning_rate) or train longer (training.epochs)",
        )
    return [float(f"{found.suggested_rate * factor:.2g}") for factor in factors]


def suggest(config: DictConfig) -> None:
    """Print the rates, separated by commas."""
    factors = config["factors"]
    numbers = list(factors) if isinstance(factors, ListConfig) else []
    if not numbers or not all(_positive(number) for number in numbers):
        raise LabError("factors cannot be used.", expected="a list of numbers above 0", received=repr(factors),
                       fix="factors=[0.1,1,10]")  # fmt: skip
    rates = suggested_rates(read_folder(config, "results", PROJECT), [float(number) for number in numbers])
    print(",".join(f"{rate:g}" for rate in rates))


def _positive(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and number > 0 and math.isfinite(number)


if __name__ == "__main__":
    sys.exit(cli.run(suggest, "suggest"))
