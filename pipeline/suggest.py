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
from pipeline.diagnosis.range_test import shortage
from pipeline.points.point import Point
from pipeline.points.results import read_study
from pipeline.studies.range_tests import minimum_counts, seed_tests
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT


def suggested_rates(results: Path, factors: Sequence[float]) -> list[float]:
    """Return the rate suggested by a range test times each factor, to two digits; of several seeds the geometric mean.

    Args:
        results: a results folder; its points are range tests that differ in nothing but the seed.
        factors: the multiples of the suggested rate.

    Raises:
        LabError: no point was found, one is not a range test, they differ in more than the seed, are too short to
            judge, or too few have a clear minimum.
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
    for point in points:
        if point.config.kind != "range_test":
            raise LabError(
                f"`{point.name}` is not a range test.",
                expected="the loss of every update, recorded with recording.update_losses=true",
                received="none",
                fix=again,
            )
    group, *others = seed_tests(points)
    if others:
        raise LabError(
            f"The range tests in {results} differ in more than the seed.",
            expected="range tests of one network, which suggest one rate",
            received=f"{group.name}; {'; '.join(other.name for other in others)}",
            fix="train one of them again, into a folder of its own (results=DIR)",
        )
    if not any(test is not None and test.judged for test in group.tests):
        needed, received = shortage(points[0].history)
        raise LabError(
            "The range test is too short to suggest a rate.",
            expected=needed,
            received=received,
            fix="train longer (training.epochs), or with smaller minibatches (training.batch_size)",
        )
    found = group.suggested
    if found is None:
        # Some seeds may be too short to judge, and have no remedy of their own.
        remedies = dict.fromkeys(test.unclear.remedy for test in group.tests if test and test.unclear)
        raise LabError(
            "The range test suggests no rate.",
            expected="a clear minimum of the smoothed loss, with more than half of the seeds",
            received=minimum_counts(group),
            fix="; ".join(remedies) or "train longer (training.epochs)",
        )
    # A range test is accurate to two digits at most, and short numbers keep the names of points short.
    return [float(f"{found.rate * factor:.2g}") for factor in factors]


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
