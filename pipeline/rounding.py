"""Measure the effect of rounding on the published numbers that do not match.

`python -m pipeline.rounding [results=DIR] [published=DIR] [reports=DIR] [networks=64] [seed=0]`

Two correct programs may sum in a different order and then differ in the last bit. To measure how much that changes a
published number, its point is retrained many times, as one stack, with each initial weight perturbed by one unit in the
last place: the smallest possible amount, up or down.
"""

from __future__ import annotations

if not __package__:
    raise SystemExit("error: this is a module; in the project's folder, type: python -m pipeline.rounding")

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
from pipeline.points.destination import check_reports
from pipeline.points.point import Point, outcome_of
from pipeline.points.results import read_results
from pipeline.report.digits import DIGITS, significant
from pipeline.report.published.reproduction import Results, cells, find_point
from pipeline.report.published.tables import ROUNDING_COLUMNS, Key, read_spreads, rounding_key
from pipeline.system import cli
from pipeline.system.errors import DamagedError, LabError
from pipeline.system.files import explained, write_file
from pipeline.system.formats import read_rows
from pipeline.system.project import PROJECT
from pipeline.system.terminal import TrainingProgress
from pipeline.system.wording import aligned, counted

# More networks hardly widen the range, but the memory of the stack grows with their number.
MOST_NETWORKS = 1000
# All digits of a number in float64.
MOST_DIGITS = 17


class Spread(NamedTuple):
    """A row of rounding.csv: the effect of rounding on one published number.

    Attributes:
        study, quantity, hidden_size, learning_rate, place: identify the number, as in `Key`.
        networks: number of networks that trained far enough to have a value, including the unperturbed one.
        smallest, largest, median: of their values.
        relative_spread: (largest - smallest) / |median|.
        control: the value from unperturbed weights, which is the trained point's own; None if it did not get that far.
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


def perturbed(weights: Weights, generator: np.random.Generator) -> Weights:
    """Perturb each number by one unit in the last place of its dtype, up or down at random.

    Args:
        weights: arrays by name; they are not changed.
        generator: source of the directions, drawn for each number in the order of the arrays.
    """
    return {
        # The limits must have the dtype of the weights: float64 limits would give the next float64 instead.
        name: np.nextafter(array, np.where(generator.random(array.shape) < 0.5, -np.inf, np.inf).astype(array.dtype))
        for name, array in weights.items()
    }


def train_perturbed(point: Point, networks: int, seed: int, project: Path) -> list[Point]:
    """Retrain a point on NumPy, as one stack: first from its own initial weights, then from perturbed weights.

    Args:
        point: the point.
        networks: number of networks with perturbed weights.
        seed: seed for the perturbation directions.
        project: folder that holds data/prepared.

    Returns:
        networks + 1 points; the first has the unperturbed weights.
    """
    # Imported here, so that `--help` and missing folders are handled without loading the training code.
    from pipeline.backends.numpy.training import train
    from pipeline.data.arrays import load

    config = point.config
    generator = np.random.default_rng(seed)
    arrays = load(config.data, config.dtype, project).at_most(config.training.rows)
    own = draw(config.dense, arrays.features, arrays.outputs, config.seed, config.dtype)
    initial = [own, *(perturbed(own, generator) for _ in range(networks))]
    histories = [History() for _ in initial]
    progress = TrainingProgress(f"{config.study} {point.name}, {len(initial)} networks", config.training.epochs)
    try:
        train([config] * len(initial), arrays, histories, progress, initial=initial)
    finally:
        progress.close()
    return [replace(point, history=history, outcome=outcome_of(history)) for history in histories]


def measure(results: Results, published: Path, networks: int, seed: int, project: Path) -> list[Spread]:
    """Measure the spread of every published number that does not match on at least one backend.

    Args:
        results: trained points; numbers whose point was not trained on NumPy are skipped.
        published: the folder with the published numbers.
        networks: number of networks with perturbed weights.
        seed: seed for the perturbation directions.
        project: folder that holds data/prepared.

    Raises:
        LabError: the published numbers cannot be read.
    """
    off = dict.fromkeys(cell.key for cell in cells(results, published) if cell.value is not None and not cell.agrees)
    # Grouped by point: one training gives all its numbers, such as the errors after 10,000 and 20,000 iterations.
    by_point: dict[tuple[str, int | None, float], list[Key]] = {}
    for key in off:
        by_point.setdefault((key.study, key.hidden_size, key.learning_rate), []).append(key)
    spreads = []
    for (study, size, rate), keys in by_point.items():
        point = find_point(results, study, "numpy", rate, size)
        if point is None:
            continue
        found = [numbers(study, one, published) for one in train_perturbed(point, networks, seed, project)]
        reached = [key for key in keys if any(key in each for each in found)]
        spreads += [spread(key, [each.get(key) for each in found]) for key in reached]
    return spreads


def numbers(study: str, point: Point, published: Path) -> dict[Key, float]:
    """Return the values of the published numbers that a NumPy point has."""
    found = cells({study: {"numpy": [point]}}, published)
    return {cell.key: cell.value for cell in found if cell.value is not None}


def spread(key: Key, values: Sequence[float | None]) -> Spread:
    """Summarize the values of one published number.

    Args:
        key: the number.
        values: one value for each network, with the control's first; None for networks that did not train far enough.
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
    """Measure the spreads of all published numbers that do not match, write rounding.csv, and print a summary."""
    results, published, reports = (read_folder(config, key, PROJECT) for key in ("results", "published", "reports"))
    check_reports(reports, PROJECT)
    networks = _whole(config, "networks", 1, MOST_NETWORKS)
    seed = _whole(config, "seed", 0, 2**32 - 1)
    trained = read_results(results)
    file = reports / "rounding.csv"
    kept = _kept(file, trained, published)
    spreads = measure(trained, published, networks, seed, PROJECT)
    with explained(file):
        reports.mkdir(parents=True, exist_ok=True)
        write_file(file, lambda temporary: _write(temporary, [*kept, *map(_printed, spreads)]))
    print(_shown(spreads))
    if kept:
        print(f"kept: {counted(len(kept), 'earlier row')} of numbers that are not trained here")


def _kept(file: Path, results: Results, published: Path) -> list[list[str]]:
    """Return the rows of an earlier table on numbers that the results do not have, such as those of a fresh clone."""
    try:
        if not read_spreads(file):
            return []
    except DamagedError:
        # The table is written anew, as the message about a damaged one advises.
        return []
    computed = {cell.key for cell in cells(results, published) if cell.value is not None}
    rows = read_rows(file.read_bytes(), ROUNDING_COLUMNS)
    return [[row[name] for name in ROUNDING_COLUMNS] for row in rows if rounding_key(row) not in computed]


def _whole(config: Mapping[str, object], key: str, least: int, most: int) -> int:
    value = config[key]
    # `bool` is a subclass of `int`: networks=true would train one network.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise LabError(
            f"Invalid {key}.",
            expected=f"a whole number from {least} to {most}",
            received=repr(value),
            fix=f"omit {key}, or set it to such a number",
        )
    return value


def _printed(one: Spread) -> Spread:
    """Return a row with two digits of the width of its range: where it ends is a matter of chance."""
    digits = MOST_DIGITS
    if one.relative_spread and math.isfinite(one.relative_spread):
        digits = min(MOST_DIGITS, max(DIGITS, 2 - math.floor(math.log10(one.relative_spread))))
    control = one.control
    if control is not None:
        control = significant(control, digits)
    return one._replace(
        smallest=significant(one.smallest, digits),
        largest=significant(one.largest, digits),
        median=significant(one.median, digits),
        relative_spread=significant(one.relative_spread, 2),
        control=control,
    )


def _write(file: Path, rows: Sequence[Sequence[object]]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([ROUNDING_COLUMNS, *rows])


def _shown(spreads: Sequence[Spread]) -> str:
    if not spreads:
        return "all published numbers that were computed match to every printed digit; nothing to measure"
    rows = [["study", "quantity", "hidden size", "rate", "place", "smallest", "largest", "spread"]]
    for one in spreads:
        size = str(one.hidden_size or "")
        rate = f"{one.learning_rate:g}"
        numbers = [f"{one.smallest:.6g}", f"{one.largest:.6g}", f"{one.relative_spread:.2g}"]
        rows.append([one.study, one.quantity, size, rate, one.place, *numbers])
    return aligned(rows)


if __name__ == "__main__":
    sys.exit(cli.run(rounding, "rounding"))
