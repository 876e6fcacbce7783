"""Print learning rates for checking the suggestion of a range test.

`python -m pipeline.suggest [results=DIR] [factors=[0.1,1,10]]` prints the suggested rate times each factor,
separated by commas, as a grid for `optimizer.learning_rate`.
"""

from __future__ import annotations

if not __package__:
    raise SystemExit("error: this is a module; in the project's folder, type: python -m pipeline.suggest")

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from pipeline.config.reading import read_folder
from pipeline.diagnosis.range_test import range_test, shortage
from pipeline.points.point import Point
from pipeline.points.results import read_study
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT


def suggested_rates(results: Path, factors: Sequence[float]) -> list[float]:
    """Return the rate suggested by a range test times each factor, to two digits.

    Args:
        results: a results folder; its first point is the range test.
        factors: the multiples of the suggested rate.

    Raises:
        LabError: no point was found, or it is not a range test, is too short to judge, or its loss never fell.
    """
    again = f"python -m pipeline.train experiment=lr_range_test results={results}"
    points: list[Point] = []
    # A missing folder is not damaged, but `read_study` would advise deleting it.
    if (results / "sweep.json").exists():
        points = read_study(results)
    if not points:
        raise LabError(
            f"There are no results in {results}.",
            expected="the results folder of a range test",
            fix=again,
        )
    if points[0].config.kind != "range_test":
        raise LabError(
            f"`{points[0].name}` is not a range test.",
            expected="the loss of every update, recorded with recording.update_losses=true",
            received="none",
            fix=again,
        )
    found = range_test(points[0].history)
    if found is None or not found.judged:
        needed, received = shortage(points[0].history)
        raise LabError(
            "The range test is too short to suggest a rate.",
            expected=needed,
            received=received,
            fix="train longer (training.epochs), or with smaller minibatches (training.batch_size)",
        )
    if found.suggested_rate is None:
        raise LabError(
            "The range test suggests no rate.",
            expected="a loss that falls at some rate",
            received=f"a loss that is lowest at the first rate, in the range {found.rates[0]:g} to {found.rates[-1]:g}",
            fix="start at a lower rate (optimizer.learning_rate) or train longer (training.epochs)",
        )
    # A range test is accurate to two digits at most, and short numbers keep the names of points short.
    return [float(f"{found.suggested_rate * factor:.2g}") for factor in factors]


def suggest(config: DictConfig) -> None:
    """Print the rates, separated by commas."""
    factors = config["factors"]
    usable = isinstance(factors, ListConfig) and len(factors) > 0 and all(map(_positive, factors))
    if not usable:
        raise LabError(
            "Invalid factors.",
            expected="a list of numbers above 0",
            received=repr(factors),
            fix="factors=[0.1,1,10]",
        )
    rates = suggested_rates(read_folder(config, "results", PROJECT), [float(factor) for factor in factors])
    print(",".join(f"{rate:g}" for rate in rates))


def _positive(number: object) -> bool:
    # `bool` is a subclass of `int`.
    return isinstance(number, int | float) and not isinstance(number, bool) and number > 0 and math.isfinite(number)


if __name__ == "__main__":
    sys.exit(cli.run(suggest, "suggest", answers=True))
