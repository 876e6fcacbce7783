"""The numbers that the texts print, each beside the number seen here, the digits on which they agree, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from pipeline.points.point import Point
from pipeline.system.files import readable
from pipeline.system.formats import read_rows

Results = Mapping[str, Mapping[str, Sequence[Point]]]
"""Trained points by study and backend."""

Verdict = Literal["reproduced", "within rounding", "differs", "not run"]
Key = tuple[str, str, int | None, float, str]
"""Which printed number: study, quantity, hidden size, learning rate, place."""
Spreads = Mapping[Key, tuple[float, float]]
"""The smallest and the largest number that rounding was seen to make of a printed one."""

BACKENDS = ("numpy", "keras")
SEED = 1
"""The texts' own seed."""
ERROR_DIGITS = 12
WEIGHT_DECIMALS = 8
FINAL_WEIGHTS_AFTER = 60_000
FIRST_WEIGHTS = {0.01: 0.45, 0.1: 4.5, 1.0: 45.0}
"""line_y3x: the weight after one epoch by rate, printed with two decimals."""

FILES = {
    "three_bits.csv": ("hidden_size", "learning_rate", "iteration", "error"),
    "three_bits_final_weights.csv": ("learning_rate", "layer", "row", "column", "weight"),
    "three_bits_direction_changes.csv": ("learning_rate", "layer", "row", "column", "count"),
}
ROUNDING_COLUMNS = ("study", "quantity", "model.hidden_size", "optimizer.learning_rate", "place", "networks",
                    "smallest", "largest", "median", "relative_spread", "control")  # fmt: skip
"""Of the table that pipeline.rounding writes."""
WHOLE = {"hidden_size", "iteration", "layer", "row", "column", "count"}


class Cell(NamedTuple):
    """One printed number and the one seen.

    Attributes:
        study, backend: where it was looked for.
        quantity: what kind of number: `error`, `final weight`, `direction changes`, `weight after one epoch`.
        hidden_size, learning_rate: of the point.
        place: which of the point's numbers: an iteration, or a weight.
        value: seen; None where there is no such point, or it did not train that far.
        published: printed.
        relative_difference: |value - published| / |published|.
        digits: on how many digits they agree; `exact` or `not exact` for a count; `not run`.
        printed_digits: how many significant digits the text prints; None for a count.
        rounding_smallest, rounding_largest: between which the number lies when the initial weights are moved by one
            unit in the last place (pipeline.rounding); None where that was not measured.
    """

    study: str
    backend: str
    quantity: str
    hidden_size: int | None
    learning_rate: float
    place: str
    value: float | None
    published: float
    relative_difference: float | None
    digits: str
    printed_digits: int | None
    rounding_smallest: float | None = None
    rounding_largest: float | None = None

    @property
    def key(self) -> Key:
        """What it shares with the same printed number on another backend."""
        return self.study, self.quantity, self.hidden_size, self.learning_rate, self.place

    @property
    def agrees(self) -> bool:
        """Whether the count is exact, or the number agrees on every printed digit."""
        return self.digits in ("exact", str(self.printed_digits))

    @property
    def verdict(self) -> Verdict:
        """`reproduced`: the two agree; `within rounding`: they do not, and both lie in the measured spread."""
        if self.value is None:
            return "not run"
        if self.agrees:
            return "reproduced"
        smallest, largest = self.rounding_smallest, self.rounding_largest
        if smallest is None or largest is None:
            return "differs"
        both = min(self.value, self.published), max(self.value, self.published)
        return "within rounding" if smallest <= both[0] and both[1] <= largest else "differs"


def relative_difference(value: float, published: float) -> float:
    """|value - published| / |published|; 0 where both are 0, inf where only the published one is."""
    if value == published:
        return 0.0
    return abs(value - published) / abs(published) if published else math.inf


def digits_that_agree(value: float, published: float, printed: int) -> int:
    """On how many significant digits two numbers agree: floor(-log10(relative difference)), 0 to `printed`.

    A value that rounds to the printed number agrees on all of its digits.

    Args:
        value: what was seen, finite.
        published: what is printed.
        printed: how many significant digits the text prints.
    """
    if f"{value:.{printed - 1}e}" == f"{published:.{printed - 1}e}":
        return printed
    difference = relative_difference(value, published)
    return min(math.floor(-math.log10(difference)), printed) if difference < 1 else 0


def significant(published: float, decimals: int) -> int:
    """How many significant digits a number has when it is printed with `decimals` decimals; at least 1."""
    if published == 0:
        return 1
    return max(math.floor(math.log10(abs(published))) + 1 + decimals, 1)


def find_point(results: Results, study: str, backend: str, rate: float, size: int | None) -> Point | None:
    """The point of a study that has this rate and hidden size and the texts' seed and optimizer."""
    for point in results.get(study, {}).get(backend, []):
        config = point.config
        same = math.isclose(point.learning_rate, rate) and point.hidden_size == size
        if same and config.seed == SEED and config.optimizer.name == "sgd":
            return point
    return None


def cells(results: Results, published: Path, spreads: Spreads | None = None) -> list[Cell]:
    """Every printed number of all tables, once for each backend.

    Args:
        results: trained points.
        published: folder of the tables of printed numbers.
        spreads: what rounding makes of them, as `read_spreads` gives it.

    Raises:
        LabError: a table of published numbers is missing or has other columns.
    """
    tables = {name: _read_table(published / name, columns) for name, columns in FILES.items()}
    found = [
        cell
        for backend in BACKENDS
        for cell in (
            *_errors(results, backend, tables["three_bits.csv"]),
            *_final_weights(results, backend, tables["three_bits_final_weights.csv"]),
            *_direction_changes(results, backend, tables["three_bits_direction_changes.csv"]),
            *_first_weights(results, backend),
        )
    ]
    measured = spreads or {}
    return [
        cell._replace(rounding_smallest=measured[cell.key][0], rounding_largest=measured[cell.key][1])
        if cell.key in measured
        else cell
        for cell in found
    ]


def read_spreads(file: Path) -> Spreads:
    """Read the table that pipeline.rounding writes; nothing was measured where there is none.

    Raises:
        LabError: it is another table, or cannot be read.
    """
    if not file.exists():
        return {}
    with readable(
        f"The measured rounding in {file}",
        expected=f"a CSV file with the columns {', '.join(ROUNDING_COLUMNS)}",
        fix="python -m pipeline.rounding writes it again",
    ):
        spreads = {}
        for row in read_rows(file.read_bytes(), ROUNDING_COLUMNS):
            size = int(row["model.hidden_size"]) if row["model.hidden_size"] else None
            key = (row["study"], row["quantity"], size, float(row["optimizer.learning_rate"]), row["place"])
            smallest, largest = float(row["smallest"]), float(row["largest"])
            if not (math.isfinite(largest - smallest) and smallest <= largest):
                raise ValueError(f"no range from {smallest} to {largest}")
            spreads[key] = smallest, largest
    return spreads


def metric_at(point: Point | None, metric: str, step: int) -> float | None:
    """A metric's value at an epoch; None where it was not recorded."""
    if point is None:
        return None
    steps, values = point.history.series(metric)
    there = np.flatnonzero(steps == step)
    return float(values[there[0]]) if len(there) else None


def _errors(results: Results, backend: str, rows: Sequence[Mapping[str, float]]) -> Iterator[Cell]:
    for row in rows:
        rate, size, iteration = row["learning_rate"], int(row["hidden_size"]), int(row["iteration"])
        point = find_point(results, "three_bits", backend, rate, size)
        value = metric_at(point, "train/mean_absolute_error", iteration)
        place = f"iteration {iteration}"
        yield _cell("three_bits", backend, "error", size, rate, place, value, row["error"], ERROR_DIGITS)


def _final_weights(results: Results, backend: str, rows: Sequence[Mapping[str, float]]) -> Iterator[Cell]:
    for row in rows:
        layer, i, j = int(row["layer"]), int(row["row"]), int(row["column"])
        point = find_point(results, "three_bits", backend, row["learning_rate"], 4)
        snapshot = point.history.snapshots.get(FINAL_WEIGHTS_AFTER) if point else None
        weights = snapshot.get(f"layer_{layer}/weights") if snapshot else None
        there = weights is not None and i < weights.shape[0] and j < weights.shape[1]
        value = float(weights[i, j]) if weights is not None and there else None
        place, printed = f"layer {layer}, row {i}, column {j}", significant(row["weight"], WEIGHT_DECIMALS)
        rate = row["learning_rate"]
        yield _cell("three_bits", backend, "final weight", 4, rate, place, value, row["weight"], printed)


def _direction_changes(results: Results, backend: str, rows: Sequence[Mapping[str, float]]) -> Iterator[Cell]:
    for row in rows:
        layer, i, j = int(row["layer"]), int(row["row"]), int(row["column"])
        point = find_point(results, "three_bits", backend, row["learning_rate"], 4)
        counts = point.history.tables.get("direction_changes", []) if point else []
        trained = point is not None and point.outcome.epochs == FINAL_WEIGHTS_AFTER
        seen = [c["count"] for c in counts if (c["layer"], c["row"], c["column"]) == (layer, i, j) and trained]
        place = f"layer {layer}, row {i}, column {j}"
        value, rate = seen[0] if seen else None, row["learning_rate"]
        yield _cell("three_bits", backend, "direction changes", 4, rate, place, value, row["count"], None)


def _first_weights(results: Results, backend: str) -> Iterator[Cell]:
    for rate, printed in FIRST_WEIGHTS.items():
        value = metric_at(find_point(results, "line_y3x", backend, rate, None), "weights/weight", 1)
        digits = significant(printed, decimals=2)
        yield _cell("line_y3x", backend, "weight after one epoch", None, rate, "epoch 1", value, printed, digits)


def _cell(
    study: str,
    backend: str,
    quantity: str,
    size: int | None,
    rate: float,
    place: str,
    value: float | None,
    published: float,
    printed: int | None,
) -> Cell:
    """A cell with its difference; `printed` significant digits, None for a count."""
    if value is None:
        return Cell(study, backend, quantity, size, rate, place, None, published, None, "not run", printed)
    if printed is None:
        digits = "exact" if value == published else "not exact"
    else:
        digits = str(digits_that_agree(value, published, printed))
    difference = relative_difference(value, published)
    return Cell(study, backend, quantity, size, rate, place, value, published, difference, digits, printed)


def _read_table(file: Path, columns: Sequence[str]) -> list[dict[str, float]]:
    with readable(
        f"The published numbers in {file}",
        expected=f"a CSV file with the columns {', '.join(columns)}, numbers only",
        fix="restore the file from git, or name the folder: published=DIR",
    ):
        rows = [{name: float(row[name]) for name in columns} for row in read_rows(file.read_bytes(), columns)]
        for row in rows:
            if not all(map(math.isfinite, row.values())):
                raise ValueError(f"a value that is not a number: {row}")
            if any(row[name] < 0 or row[name] != int(row[name]) for name in WHOLE.intersection(row)):
                raise ValueError(f"a place that is not a whole number: {row}")
    return rows
