"""NumPy compared with Keras: differences in every metric and weight, and training times."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.config.schema import flatten
from pipeline.drawing.plot_data import Floats
from pipeline.points.point import Point
from pipeline.report.published.reproduction import BACKENDS, Results
from pipeline.system.wording import table

# Settings that differ between the backends but do not affect results.
IRRELEVANT_KEYS = ("backend.", "results", "tracking.")
# Metrics of single weights. The table omits them, because it compares entire arrays of weights.
SINGLE_WEIGHTS = ("weights/weight", "weights/bias", "weights/layer_")
Kind = Literal["absolute", "relative", "ratio"]


class Parity(NamedTuple):
    """A row of parity.csv: one comparison of the two backends on a study.

    Attributes:
        study: the study, represented by all points that both backends trained.
        quantity: a metric, an array of weights, or `seconds`.
        kind: `absolute`, the largest |numpy - keras|; `relative`, the largest |numpy - keras| / max(|numpy|, |keras|);
            `ratio`, keras / numpy.
        value: that difference or ratio.
        point: the point with the largest difference; empty for a ratio.
        epoch: the epoch of the largest difference; None for a ratio.
        numpy: NumPy's value at that point and epoch; for `seconds`, its total training time.
        keras: the same for Keras.
    """

    study: str
    quantity: str
    kind: Kind
    value: float
    point: str
    epoch: int | None
    numpy: float
    keras: float


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
        absolute difference, and the ratio of the training times. Empty if no point was trained by both backends.
    """
    both = pairs(results, study)
    largest: dict[tuple[str, str], Parity] = {}
    for one, other in both:
        for row in (*_metrics(study, one, other), *_weights(study, one, other)):
            kept = largest.setdefault((row.quantity, row.kind), row)
            largest[row.quantity, row.kind] = max(kept, row, key=lambda compared: compared.value)
    rows = list(largest.values())
    if both:
        numpy_seconds = sum(one.outcome.seconds for one, _ in both)
        keras_seconds = sum(other.outcome.seconds for _, other in both)
        ratio = math.inf
        if numpy_seconds:
            ratio = keras_seconds / numpy_seconds
        rows.append(Parity(study, "seconds", "ratio", ratio, "", None, numpy_seconds, keras_seconds))
    return rows


def _metrics(study: str, one: Point, other: Point) -> Iterator[Parity]:
    """Yield the largest absolute and the largest relative difference of each metric."""
    for name in one.history.names():
        epochs, mine, theirs = _at_common_epochs(one, other, name)
        if not len(epochs):
            continue
        compared: dict[Kind, Floats] = {
            "absolute": np.abs(mine - theirs),
            "relative": _relative_differences(mine, theirs),
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


def _at_common_epochs(one: Point, other: Point, metric: str) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Return the epochs at which both points recorded a metric, and its values there: three arrays (epochs,)."""
    epochs, values = one.history.series(metric)
    other_epochs, other_values = other.history.series(metric)
    common, indices, other_indices = np.intersect1d(epochs, other_epochs, return_indices=True)
    return common, values[indices], other_values[other_indices]


def _relative_differences(mine: Floats, theirs: Floats) -> Floats:
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


def parity_lines(results: Results) -> list[str]:
    """Write the section on the two backends as Markdown: differences, config differences, and training times."""
    compared = {study: rows for study in results if (rows := parity(results, study))}
    if not compared:
        return ["No point was trained by both backends."]
    both = {study: pairs(results, study) for study in compared}
    # Differences are meaningless if the configs ask for different computations, such as finite differences on one
    # backend and backpropagation on the other. Such studies get a sentence instead of a column.
    comparable = {
        study: rows
        for study, rows in compared.items()
        if any(not _config_differences(one, other) for one, other in both[study])
    }
    lines = [
        "The largest difference between the two backends over all points of a study and all recorded epochs; in "
        "parentheses, the largest relative difference (relative to the larger value). Diverged points are compared "
        "only up to the epoch at which they diverged, and weights at the last snapshot that both backends took. "
        "[parity.csv](parity.csv) lists the point and the epoch of each difference.",
        "",
    ]
    if comparable:
        lines += [*table(_difference_rows(comparable)), ""]
    sentences = [f"- {sentence}" for study in compared for sentence in _sentences(study, both[study])]
    if sentences:
        lines += [*sentences, ""]
    lines += [
        "The largest difference in training loss, and the training times in seconds, for the points that both backends "
        "trained:",
        "",
    ]
    return lines + table(_cost_rows(compared, both))


def _difference_rows(rows: Mapping[str, Sequence[Parity]]) -> list[list[str]]:
    """Return a header, and a row for each quantity with a column for each study."""
    values = {(row.study, row.quantity, row.kind): row.value for members in rows.values() for row in members}
    names = dict.fromkeys(quantity for _, quantity, kind in values if kind == "absolute")
    shown = [name for name in names if not name.startswith(SINGLE_WEIGHTS)]
    # Metrics first, then weights; the sort keeps the order within both.
    shown.sort(key=lambda name: name.startswith("layer"))
    lines = [["", *rows]]
    for name in shown:
        cells = [
            _difference_cell(values.get((study, name, "absolute")), values.get((study, name, "relative")))
            for study in rows
        ]
        lines.append([name, *cells])
    return lines


def _difference_cell(absolute: float | None, relative: float | None) -> str:
    if absolute is None:
        return ""
    if relative is None or absolute == 0:
        return f"{absolute:.2g}"
    return f"{absolute:.2g} ({relative:.2g})"


def _config_differences(one: Point, other: Point) -> list[str]:
    """List the settings that affect results and differ between the two backends."""
    theirs = dict(flatten(other.config))
    return [
        f"{key} is {value} on NumPy and {theirs.get(key)} on Keras"
        for key, value in flatten(one.config)
        if not key.startswith(IRRELEVANT_KEYS) and value != theirs.get(key)
    ]


def _sentences(study: str, both: Sequence[tuple[Point, Point]]) -> Iterator[str]:
    """Yield the points whose computations are not comparable, and the points that diverged on only one backend."""
    found: dict[str, list[str]] = {}
    for one, other in both:
        for difference in _config_differences(one, other):
            found.setdefault(difference, []).append(f"`{one.name}`")
    subject = study
    if all(_config_differences(one, other) for one, other in both):
        subject = f"{study} is not in the table"
    for difference, names in found.items():
        affected = "every point"
        if len(names) < len(both):
            affected = ", ".join(names)
        yield f"{subject}: at {affected}, {difference}, so the computations are not comparable."
    for one, other in both:
        if one.diverged != other.diverged:
            yield f"{study}: `{one.name}` {_ended(one)} on NumPy and {_ended(other)} on Keras."


def _ended(point: Point) -> str:
    outcome = point.outcome
    if outcome.diverged_step is None:
        return f"stayed finite for {outcome.epochs:,} epochs"
    return f"diverged after {outcome.diverged_step:,} updates"


def _cost_rows(compared: Mapping[str, Sequence[Parity]], both: Mapping[str, Sequence[object]]) -> list[list[str]]:
    """Return a header, and a row for each study: its largest difference in training loss, and the training times."""
    lines = [
        [
            "study",
            "points",
            "largest difference at",
            "training loss, numpy and keras",
            "seconds, numpy and keras",
            "ratio",
        ]
    ]
    for study, rows in compared.items():
        by_kind = {(row.quantity, row.kind): row for row in rows}
        loss = by_kind.get(("train/loss", "absolute"))
        seconds = by_kind["seconds", "ratio"]
        position = ""
        losses = ""
        if loss is not None and loss.value:
            position = f"`{loss.point}`, epoch {loss.epoch:,}"
            losses = f"{loss.numpy:.4g} and {loss.keras:.4g}"
        times = f"{seconds.numpy:.2f} and {seconds.keras:.2f}"
        lines.append([study, str(len(both[study])), position, losses, times, f"{seconds.value:.3g}"])
    return lines


def parity_table(results: Results, study: str) -> list[str]:
    """Write the differences between the backends at each point of a study as a Markdown table.

    Each row has the largest relative difference in training loss over the epochs that both recorded, and the loss of
    each backend at the last of these epochs.

    Returns:
        The lines of the table; empty if no point was trained by both backends.
    """
    rows = [["point", "largest relative difference in training loss", "at epoch", *BACKENDS]]
    for one, other in pairs(results, study):
        epochs, mine, theirs = _at_common_epochs(one, other, "train/loss")
        if not len(epochs):
            continue
        differences = _relative_differences(mine, theirs)
        worst = int(np.argmax(differences))
        rows.append(
            [
                f"`{one.name}`",
                f"{differences[worst]:.2g}",
                f"{epochs[worst]:,}",
                f"{mine[-1]:.4g}",
                f"{theirs[-1]:.4g}",
            ]
        )
    if len(rows) == 1:
        return []
    return table(rows)
