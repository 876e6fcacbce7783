"""Published numbers compared with the reproduced ones: digits that match, and a verdict.

The numbers are in the source texts, the four publications that README.md lists: "the texts" in this package. A count
matches if it is equal; any other number matches if it rounds to all digits that the text prints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from pipeline.points.point import Point
from pipeline.report.published.tables import FILES, Key, Spreads, read_table

# Trained points by study and backend.
Results = Mapping[str, Mapping[str, Sequence[Point]]]
Verdict = Literal["reproduced", "within rounding", "differs", "not run"]

BACKENDS = ("numpy", "keras")
# The seed used in the texts.
SEED = 1
# The digits or decimals that the texts print, and the number of epochs after which they print the weights.
ERROR_DIGITS = 12
WEIGHT_DECIMALS = 8
FINAL_WEIGHTS_AFTER = 60_000
# line_y3x: the weight after one epoch by rate, printed with two decimals.
FIRST_WEIGHTS = {0.01: 0.45, 0.1: 4.5, 1.0: 45.0}


class Cell(NamedTuple):
    """A row of reproduction.csv: one published number and the reproduced one.

    Attributes:
        study, quantity, hidden_size, learning_rate, place: as in `Key`.
        backend: the backend that computed the number.
        value: the reproduced number; None if there is no such point, or if it was not trained that far.
        published: the published number.
        relative_difference: |value - published| / |published|.
        digits: the number of digits that match; `exact` or `not exact` for a count; `not run` without a value.
        printed_digits: the number of significant digits that the text prints; None for a count.
        rounding_smallest, rounding_largest: the range of the number when the initial weights are perturbed by one unit
            in the last place (pipeline.rounding); None if it was not measured.
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
        """The published number's key, which is the same on both backends."""
        return Key(self.study, self.quantity, self.hidden_size, self.learning_rate, self.place)

    @property
    def agrees(self) -> bool:
        """Whether the number matches to every printed digit, or exactly if it is a count."""
        return self.digits in ("exact", str(self.printed_digits))

    @property
    def verdict(self) -> Verdict:
        """`reproduced` if the two numbers match; otherwise `within rounding` if both are within the measured range."""
        if self.value is None:
            return "not run"
        if self.agrees:
            return "reproduced"
        if self.rounding_smallest is None or self.rounding_largest is None:
            return "differs"
        low = min(self.value, self.published)
        high = max(self.value, self.published)
        if self.rounding_smallest <= low and high <= self.rounding_largest:
            return "within rounding"
        return "differs"


def relative_difference(value: float, published: float) -> float:
    """|value - published| / |published|; 0 if both are 0, inf if only the published number is."""
    if value == published:
        return 0.0
    if published == 0:
        return math.inf
    return abs(value - published) / abs(published)


def digits_that_agree(value: float, published: float, printed: int) -> int:
    """Return the number of significant digits that match: floor(-log10(relative difference)), 0 to `printed`.

    A value that rounds to the published number matches it to all digits.

    Args:
        value: the reproduced number.
        published: the published number.
        printed: the number of significant digits that the text prints.

    Example:
        >>> digits_that_agree(0.00225381368217, 0.00224922117381, printed=12)
        2
    """
    # Rounding is checked first: 0.4549 is printed as 0.45, but the formula on its own finds only one matching digit.
    if f"{value:.{printed - 1}e}" == f"{published:.{printed - 1}e}":
        return printed
    difference = relative_difference(value, published)
    # 0.0 and -0.0 are the same number, but are not written in the same way.
    if difference == 0:
        return printed
    # Negated, rather than `>=`, so that NaN is included: every comparison with it is false.
    if not difference < 1:
        return 0
    return min(math.floor(-math.log10(difference)), printed)


def significant(published: float, decimals: int) -> int:
    """Return the number of significant digits of a number printed with `decimals` decimals; at least 1."""
    if published == 0:
        return 1
    # floor(log10) + 1 is the number of digits before the decimal point; it is negative for 0.00123.
    return max(math.floor(math.log10(abs(published))) + 1 + decimals, 1)


def find_point(results: Results, study: str, backend: str, rate: float, size: int | None) -> Point | None:
    """Find the point of a study with this rate and hidden size that has the seed and the optimizer of the texts."""
    for point in results.get(study, {}).get(backend, []):
        config = point.config
        same = math.isclose(point.learning_rate, rate) and point.hidden_size == size
        if same and config.seed == SEED and config.optimizer.name == "sgd":
            return point
    return None


def cells(results: Results, published: Path, spreads: Spreads | None = None) -> list[Cell]:
    """Compare every published number with each backend.

    Args:
        results: trained points.
        published: the folder with the tables of published numbers.
        spreads: the measured rounding ranges, from `read_spreads`.

    Raises:
        LabError: a table of published numbers is missing, or its columns are wrong.
    """
    tables = {name: read_table(published / name, columns) for name, columns in FILES.items()}
    found: list[Cell] = []
    for backend in BACKENDS:
        found += _errors(results, backend, tables["three_bits.csv"])
        found += _final_weights(results, backend, tables["three_bits_final_weights.csv"])
        found += _direction_changes(results, backend, tables["three_bits_direction_changes.csv"])
        found += _first_weights(results, backend)
    measured = spreads or {}
    for index, cell in enumerate(found):
        if cell.key in measured:
            smallest, largest = measured[cell.key]
            found[index] = cell._replace(rounding_smallest=smallest, rounding_largest=largest)
    return found


def metric_at(point: Point | None, metric: str, step: int) -> float | None:
    """Return a metric's value at an epoch; None without a point, or if it was not recorded at that epoch."""
    if point is None:
        return None
    steps, values = point.history.series(metric)
    indices = np.flatnonzero(steps == step)
    if not len(indices):
        return None
    return float(values[indices[0]])


def _errors(results: Results, backend: str, rows: Sequence[Mapping[str, float]]) -> Iterator[Cell]:
    for row in rows:
        iteration = int(row["iteration"])
        key = Key("three_bits", "error", int(row["hidden_size"]), row["learning_rate"], f"iteration {iteration}")
        point = find_point(results, "three_bits", backend, key.learning_rate, key.hidden_size)
        value = metric_at(point, "train/mean_absolute_error", iteration)
        yield _cell(key, backend, value, row["error"], ERROR_DIGITS)


def _final_weights(results: Results, backend: str, rows: Sequence[Mapping[str, float]]) -> Iterator[Cell]:
    for row in rows:
        layer, i, j = (int(row[name]) for name in ("layer", "row", "column"))
        key = Key("three_bits", "final weight", 4, row["learning_rate"], f"layer {layer}, row {i}, column {j}")
        point = find_point(results, "three_bits", backend, key.learning_rate, key.hidden_size)
        value = None
        if point is not None:
            weights = point.history.snapshots.get(FINAL_WEIGHTS_AFTER, {}).get(f"layer_{layer}/weights")
            if weights is not None and i < weights.shape[0] and j < weights.shape[1]:
                value = float(weights[i, j])
        yield _cell(key, backend, value, row["weight"], significant(row["weight"], WEIGHT_DECIMALS))


def _direction_changes(results: Results, backend: str, rows: Sequence[Mapping[str, float]]) -> Iterator[Cell]:
    for row in rows:
        layer, i, j = (int(row[name]) for name in ("layer", "row", "column"))
        key = Key("three_bits", "direction changes", 4, row["learning_rate"], f"layer {layer}, row {i}, column {j}")
        point = find_point(results, "three_bits", backend, key.learning_rate, key.hidden_size)
        value = None
        # Counts from shorter or longer training cannot be compared with the published ones.
        if point is not None and point.outcome.epochs == FINAL_WEIGHTS_AFTER:
            counts = point.history.tables.get("direction_changes", [])
            of_weight = (c["count"] for c in counts if (c["layer"], c["row"], c["column"]) == (layer, i, j))
            value = next(of_weight, None)
        yield _cell(key, backend, value, row["count"], printed=None)


def _first_weights(results: Results, backend: str) -> Iterator[Cell]:
    for rate, published in FIRST_WEIGHTS.items():
        key = Key("line_y3x", "weight after one epoch", None, rate, "epoch 1")
        value = metric_at(find_point(results, "line_y3x", backend, rate, size=None), "weights/weight", step=1)
        yield _cell(key, backend, value, published, significant(published, decimals=2))


def _cell(key: Key, backend: str, value: float | None, published: float, printed: int | None) -> Cell:
    """Compare a number with the published one, which has `printed` significant digits, or None for a count."""
    difference = None
    digits = "not run"
    if value is not None:
        difference = relative_difference(value, published)
        if printed is not None:
            digits = str(digits_that_agree(value, published, printed))
        elif value == published:
            digits = "exact"
        else:
            digits = "not exact"
    return Cell(
        **key._asdict(),
        backend=backend,
        value=value,
        published=published,
        relative_difference=difference,
        digits=digits,
        printed_digits=printed,
    )
