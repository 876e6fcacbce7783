"""How much rounding decides: the numbers that do not agree, trained again from minimally different weights.

`python -m pipeline.rounding [results=DIR] [published=DIR] [reports=DIR] [networks=64] [seed=0]`

Two correct programs may add the same numbers in a different order, and then differ in the last bit. To measure what
becomes of such a difference in a printed number, its point is trained again many times, as one stack, with each initial
weight moved up or down by one unit in the last place.
"""

from __future__ import annotations

import csv
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from omegaconf import DictConfig

from pipeline.backends.shared.history import History
from pipeline.backends.shared.initial_weights import Weights, draw
from pipeline.config.reading import read_folder
from pipeline.points.point import Point, outcome_of
from pipeline.points.results import read_results
from pipeline.report.published.reproduction import ROUNDING_COLUMNS, Key, Results, cells, find_point
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.files import explained, write_file
from pipeline.system.project import PROJECT
from pipeline.system.terminal import TrainingProgress
from pipeline.system.wording import aligned

# More networks do not widen the range much, and the memory of the stack grows with them.
MOST_NETWORKS = 1000


class Spread(NamedTuple):
    """What rounding makes of one printed number. A row of rounding.csv.

    Attributes:
        study, quantity, hidden_size, learning_rate, place: which number it is, as in `Key`.
        networks: how many networks trained far enough to have it, including the one from unmoved weights.
        smallest, largest, median: of the numbers of these networks.
        relative_spread: (largest - smallest) / |median|.
        control: the number from unmoved weights, which is that of the trained point; None if it did not get that far.
    """

    study: str
    quantity: str
    hidden_size: int | None
    learning_rate: float
    place: str
    networks: int
    smallest: float
    largest: float
    median: float
    relative_spread: float
    control: float | None


def moved(weights: Weights, generator: np.random.Generator) -> Weights:
    """Move each number by one unit in the last place of its dtype, up or down at random.

    Args:
        weights: arrays by name; they are not changed.
        generator: draws a direction for each number, in the order of the arrays.
    """
    return {
        # The limits have the dtype of the weights: with those of float64, the next float64 would be computed.
        name: np.nextafter(array, np.where(generator.random(array.shape) < 0.5, -np.inf, np.inf).astype(array.dtype))
        for name, array in weights.items()
    }


def train_moved(point: Point, networks: int, seed: int, project: Path) -> list[Point]:
    """Train a point again on NumPy, as one stack: once from its own initial weights, then from moved ones.

    Args:
        point: the point.
        networks: how many networks begin from moved weights.
        seed: the seed of the directions in which weights are moved.
        project: folder that holds data/prepared.

    Returns:
        networks + 1 points, beginning with the one from unmoved weights.
    """
    # Imported here, so that `--help` and a missing folder are answered without loading what trains.
    from pipeline.backends.numpy.training import train
    from pipeline.data.arrays import load

    config = point.config
    generator = np.random.default_rng(seed)
    arrays = load(config.data, config.dtype, project).first(config.training.rows)
    own = draw(config.model, arrays.features, arrays.outputs, config.seed, config.dtype)
    initial = [own, *(moved(own, generator) for _ in range(networks))]
    histories = [History() for _ in initial]
    progress = TrainingProgress(f"{config.study} {point.name}, {len(initial)} networks", config.training.epochs)
    try:
        train([config] * len(initial), arrays, histories, progress, initial=initial)
    finally:
        progress.close()
    return [replace(point, history=history, outcome=outcome_of(history)) for history in histories]


def measure(results: Results, published: Path, networks: int, seed: int, project: Path) -> list[Spread]:
    """Measure the spread of every printed number that does not agree on at least one backend.

    Args:
        results: trained points; a number whose point NumPy did not train is left out.
        published: the folder of the printed numbers.
        networks: how many networks begin from moved weights.
        seed: the seed of the directions in which weights are moved.
        project: folder that holds data/prepared.

    Raises:
        LabError: the printed numbers cannot be read.
    """
    off = dict.fromkeys(cell.key for cell in cells(results, published) if cell.value is not None and not cell.agrees)
    # A point has many printed numbers, for instance the errors after 10,000 and 20,000 iterations: it is trained once.
    by_point: dict[tuple[str, int | None, float], list[Key]] = {}
    for key in off:
        by_point.setdefault((key.study, key.hidden_size, key.learning_rate), []).append(key)
    spreads = []
    for (study, size, rate), keys in by_point.items():
        point = find_point(results, study, "numpy", rate, size)
        if point is None:
            continue
        found = [numbers(study, one, published) for one in train_moved(point, networks, seed, project)]
        reached = [key for key in keys if any(key in each for each in found)]
        spreads += [spread(key, [each.get(key) for each in found]) for key in reached]
    return spreads


def numbers(study: str, point: Point, published: Path) -> dict[Key, float]:
    """Return those numbers of a NumPy point that the texts print."""
    found = cells({study: {"numpy": [point]}}, published)
    return {cell.key: cell.value for cell in found if cell.value is not None}


def spread(key: Key, values: Sequence[float | None]) -> Spread:
    """Sum up the values of one printed number.

    Args:
        key: which number.
        values: one for each network, beginning with the control; None for a network that did not train far enough.
    """
    reached = [value for value in values if value is not None]
    smallest = min(reached)
    largest = max(reached)
    median = statistics.median(reached)
    width = largest - smallest
    if median:
        relative = width / abs(median)
    elif width:
        relative = math.inf
    else:
        relative = 0.0
    return Spread(*key, len(reached), smallest, largest, median, relative, values[0])


def rounding(config: DictConfig) -> None:
    """Read the results, measure the spreads, write rounding.csv, and print its main columns."""
    results, published, reports = (read_folder(config, key, PROJECT) for key in ("results", "published", "reports"))
    networks = _whole(config, "networks", 1, MOST_NETWORKS)
    seed = _whole(config, "seed", 0, 2**32 - 1)
    spreads = measure(read_results(results), published, networks, seed, PROJECT)
    file = reports / "rounding.csv"
    with explained(file):
        reports.mkdir(parents=True, exist_ok=True)
        write_file(file, lambda beside: _write(beside, spreads))
    print(_shown(spreads))


def _whole(config: Mapping[str, object], key: str, least: int, most: int) -> int:
    value = config[key]
    # `bool` is a kind of `int`: networks=true would train one network.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise LabError(
            f"{key} is not usable.",
            expected=f"a whole number from {least} to {most}",
            received=repr(value),
            fix=f"leave {key} out, or set it to such a number",
        )
    return value


def _write(file: Path, spreads: Sequence[Spread]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([ROUNDING_COLUMNS, *spreads])


def _shown(spreads: Sequence[Spread]) -> str:
    if not spreads:
        return "every printed number that was computed agrees on every printed digit: there is nothing to measure"
    rows = [["study", "quantity", "hidden size", "rate", "where", "smallest", "largest", "spread"]]
    for one in spreads:
        size = str(one.hidden_size or "")
        rate = f"{one.learning_rate:g}"
        numbers = [f"{one.smallest:.6g}", f"{one.largest:.6g}", f"{one.relative_spread:.2g}"]
        rows.append([one.study, one.quantity, size, rate, one.place, *numbers])
    return aligned(rows)


if __name__ == "__main__":
    sys.exit(cli.run(rounding, "rounding"))
