"""NumPy compared with Keras: differences in every metric and weight."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.drawing.plot_data import Floats
from pipeline.points.point import Point
from pipeline.report.published.reproduction import Results

Kind = Literal["absolute", "relative"]


class Parity(NamedTuple):
    """A row of parity.csv: one comparison of the two backends on a study.

    Attributes:
        study: the study, represented by all points that both backends trained.
        quantity: a metric or an array of weights.
        kind: `absolute`, the largest |numpy - keras|; `relative`, the largest |numpy - keras| / max(|numpy|, |keras|).
        value: that difference.
        point: the point with the largest difference.
        epoch: the epoch of the largest difference.
        numpy: NumPy's value at that point and epoch.
        keras: the same for Keras.
    """

    study: str
    quantity: str
    kind: Kind
    value: float
    point: str
    epoch: int
    numpy: float
    keras: float

    @property
    def relative(self) -> float:
        """The difference of the two values, relative to the larger one."""
        return float(relative_differences(np.array([self.numpy]), np.array([self.keras]))[0])


def pairs(results: Results, study: str) -> list[tuple[Point, Point]]:
    """Pair the points of a study that both backends trained: NumPy's point, then Keras' point of the same name."""
    backends = results.get(study, {})
    keras = {point.name: point for point in backends.get("keras", [])}
    return [(point, keras[point.name]) for point in backends.get("numpy", []) if point.name in keras]


def parity(results: Results, study: str) -> list[Parity]:
    """Compare the two backends on a study.

    Metrics are compared at every epoch at which both backends recorded them; diverged points have none after diverging.
    Weights are compared at the last snapshot that both took before diverging.

    Returns:
        For each metric the largest absolute and the largest relative difference, for each array of weights the largest
        absolute difference. Empty if no point was trained by both backends.
    """
    both = pairs(results, study)
    largest: dict[tuple[str, str], Parity] = {}
    for one, other in both:
        for row in (*_metrics(study, one, other), *_weights(study, one, other)):
            kept = largest.setdefault((row.quantity, row.kind), row)
            largest[row.quantity, row.kind] = max(kept, row, key=lambda compared: compared.value)
    return list(largest.values())


def _metrics(study: str, one: Point, other: Point) -> Iterator[Parity]:
    """Yield the largest absolute and the largest relative difference of each metric."""
    for name in one.history.names():
        epochs, mine, theirs = at_common_epochs(one, other, name)
        if not len(epochs):
            continue
        compared: dict[Kind, Floats] = {
            "absolute": np.abs(mine - theirs),
            "relative": relative_differences(mine, theirs),
        }
        for kind, differences in compared.items():
            worst = int(np.argmax(differences))
            yield Parity(
                study=study,
                quantity=name,
                kind=kind,
                value=float(differences[worst]),
                point=one.name,
                epoch=int(epochs[worst]),
                numpy=float(mine[worst]),
                keras=float(theirs[worst]),
            )


def at_common_epochs(one: Point, other: Point, metric: str) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Return the epochs at which both points recorded a metric, and its values there: three arrays (epochs,)."""
    epochs, values = one.history.series(metric)
    other_epochs, other_values = other.history.series(metric)
    common, indices, other_indices = np.intersect1d(epochs, other_epochs, return_indices=True)
    return common, values[indices], other_values[other_indices]


def relative_differences(mine: Floats, theirs: Floats) -> Floats:
    """|mine - theirs| / max(|mine|, |theirs|), (epochs,): symmetric in the two, and at most 2; 0 if both are 0."""
    size = np.maximum(np.abs(mine), np.abs(theirs))
    differences: Floats = np.divide(np.abs(mine - theirs), size, out=np.zeros_like(size), where=size > 0)
    return differences


def _weights(study: str, one: Point, other: Point) -> Iterator[Parity]:
    """Yield the largest difference of each array of weights at the last comparable snapshot."""
    mine = one.history.snapshots
    theirs = other.history.snapshots
    # The last snapshot of a diverged point may be finite but meaningless, for instance 1e30 compared with 3.
    end = min((point.outcome.epochs for point in (one, other) if point.diverged), default=math.inf)
    common = [
        epoch for epoch in mine if epoch in theirs and epoch < end and _finite(mine[epoch]) and _finite(theirs[epoch])
    ]
    if not common:
        return
    last = max(common)
    for name, array in mine[last].items():
        their_array = theirs[last].get(name)
        if their_array is None or their_array.shape != array.shape:
            continue
        # Both in float64, so that the difference of two float32 weights is not rounded a second time.
        a = array.astype(np.float64).ravel()
        b = their_array.astype(np.float64).ravel()
        differences = np.abs(a - b)
        worst = int(np.argmax(differences))
        yield Parity(
            study=study,
            quantity=name,
            kind="absolute",
            value=float(differences[worst]),
            point=one.name,
            epoch=last,
            numpy=float(a[worst]),
            keras=float(b[worst]),
        )


def _finite(weights: Mapping[str, NDArray[np.floating]]) -> bool:
    return all(bool(np.isfinite(array).all()) for array in weights.values())
