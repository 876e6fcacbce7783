"""How much rounding decides: the numbers that do not agree, trained again from weights moved by the least there is.

`python -m pipeline.rounding [results=DIR] [published=DIR] [reports=DIR] [networks=64] [seed=0]`

Two correct programs may add the same numbers up in another order, and then differ in the last bit. What that makes of
a printed number is measured: its point is trained again, many times as one stack, with each initial weight one unit in
the last place up or down.
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

MOST_NETWORKS = 1000


class Spread(NamedTuple):
    """What rounding makes of one printed number. A row of rounding.csv.

    Attributes:
        study, quantity, hidden_size, learning_rate, place: which number.
        networks: how many reached it, the one from unmoved weights among them.
        smallest, largest, median: of theirs.
        relative_spread: (largest - smallest) / |median|.
        control: from unmoved weights, which is the trained point's own number; None where it did not reach it.
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
    """Each number one unit in the last place of its dtype up or down, at random."""
    return {
        name: np.nextafter(array, np.where(generator.random(array.shape) < 0.5, -np.inf, np.inf).astype(array.dtype))
        for name, array in weights.items()
    }


def train_moved(point: Point, networks: int, seed: int, project: Path) -> list[Point]:
    """Train a point again on NumPy as one stack: from its own initial weights, then from moved ones.

    Args:
        point: a trained point.
        networks: how many with moved weights.
        seed: of the directions.
        project: folder that holds data/prepared.
    """
    from pipeline.backends.numpy.training import train
    from pipeline.data.arrays import load

    config, generator = point.config, np.random.default_rng(seed)
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
    """The spread of every printed number that does not agree on every printed digit on some backend.

    Args:
        results: trained points; a number whose point NumPy did not train is left out.
        published: folder of the printed numbers.
        networks, seed, project: as `train_moved` takes them.

    Raises:
        LabError: the printed numbers cannot be read.
    """
    off = dict.fromkeys(cell.key for cell in cells(results, published) if cell.value is not None and not cell.agrees)
    spreads = []
    for study, size, rate in dict.fromkeys((key[0], key[2], key[3]) for key in off):
        point = find_point(results, study, "numpy", rate, size)
        if point is None:
            continue
        seen = [numbers(study, one, published) for one in train_moved(point, networks, seed, project)]
        wanted = [key for key in off if (key[0], key[2], key[3]) == (study, size, rate)]
        reached = [key for key in wanted if any(key in each for each in seen)]
        spreads += [spread(key, [each.get(key) for each in seen]) for key in reached]
    return spreads


def numbers(study: str, point: Point, published: Path) -> dict[Key, float]:
    """The numbers of a point of the NumPy backend that the texts print."""
    found = cells({study: {"numpy": [point]}}, published)
    return {cell.key: cell.value for cell in found if cell.value is not None}


def spread(key: Key, values: Sequence[float | None]) -> Spread:
    """Sum up the values of one printed number, the control's first; None for a network that did not get so far."""
    reached = [value for value in values if value is not None]
    smallest, largest, median = min(reached), max(reached), statistics.median(reached)
    width = largest - smallest
    relative = width / abs(median) if median else math.inf if width else 0.0
    return Spread(*key, len(reached), smallest, largest, median, relative, values[0])


def rounding(config: DictConfig) -> None:
    """Read the results, measure, write rounding.csv, and show it."""
    results, published, reports = (read_folder(config, key, PROJECT) for key in ("results", "published", "reports"))
    networks, seed = _whole(config, "networks", 1, MOST_NETWORKS), _whole(config, "seed", 0, 2**32 - 1)
    spreads = measure(read_results(results), published, networks, seed, PROJECT)
    file = reports / "rounding.csv"
    with explained(file):
        reports.mkdir(parents=True, exist_ok=True)
        write_file(file, lambda beside: _write(beside, spreads))
    print(_shown(spreads))


def _whole(config: Mapping[str, object], key: str, least: int, most: int) -> int:
    value = config[key]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise LabError(f"{key} is not usable.", expected=f"a whole number from {least} to {most}",
                       received=repr(value), fix=f"leave {key} out, or name such a number")  # fmt: skip
    return value


def _write(file: Path, spreads: Sequence[Spread]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([ROUNDING_COLUMNS, *spreads])


def _shown(spreads: Sequence[Spread]) -> str:
    if not spreads:
        return "every printed number that was seen agrees on every printed digit: there is nothing to measure"
    rows = [["study", "quantity", "hidden size", "rate", "where", "smallest", "largest", "spread"]]
    for one in spreads:
        size = "" if one.hidden_size is None else str(one.hidden_size)
        rows.append([one.study, one.quantity, size, f"{one.learning_rate:g}", one.place, f"{one.smallest:.6g}",
                     f"{one.largest:.6g}", f"{one.relative_spread:.2g}"])  # fmt: skip
    return aligned(rows)


if __name__ == "__main__":
    sys.exit(cli.run(rounding, "rounding"))
