"""NumPy beside Keras: how far apart the two backends are in every metric and every weight, and what each costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.config.schema import flatten
from pipeline.points.point import Point
from pipeline.report.published.reproduction import BACKENDS, Results
from pipeline.system.wording import table

OWN_KNOBS = ("backend.", "results", "tracking.")
"""Knobs that tell the backends apart and decide no number."""
SINGLE_WEIGHTS = ("weights/weight", "weights/bias", "weights/layer_")
"""Metrics of single weights; their arrays are compared too."""


class Parity(NamedTuple):
    """One comparison of a study's two backends. A row of parity.csv.

    Attributes:
        study: over all of its points that both backends trained.
        quantity: a metric, an array of weights, or `seconds`.
        kind: `absolute`: the largest |numpy - keras|; `relative`: the largest |numpy - keras| / max(|numpy|, |keras|);
            `ratio`: keras / numpy.
        value: that difference or ratio.
        point, epoch: where it was found; empty for a ratio.
        numpy, keras: what they had there; for `seconds` their training time over all points.
    """

    study: str
    quantity: str
    kind: Literal["absolute", "relative", "ratio"]
    value: float
    point: str
    epoch: int | None
    numpy: float
    keras: float


def pairs(results: Results, study: str) -> list[tuple[Point, Point]]:
    """The points of a study that both backends trained: NumPy's and Keras'."""
    mine, theirs = (results.get(study, {}).get(backend, []) for backend in BACKENDS)
    others = {point.name: point for point in theirs}
    return [(point, others[point.name]) for point in mine if point.name in others]


def parity(results: Results, study: str) -> list[Parity]:
    """Compare a study's backends.

    Metrics are compared at every epoch at which both recorded them; a point that diverged has none from there on.
    Weights are compared at the last snapshot that both took while they were finite and neither had diverged.

    Returns:
        For each metric the largest absolute and the largest relative difference, for each array of weights the
        largest absolute one, and the ratio of the seconds; nothing where no point was trained by both.
    """
    both = pairs(results, study)
    compared = [row for one, other in both for row in (*_metrics(study, one, other), *_weights(study, one, other))]
    largest: dict[tuple[str, str], Parity] = {}
    for row in compared:
        kept = largest.setdefault((row.quantity, row.kind), row)
        largest[row.quantity, row.kind] = max(kept, row, key=lambda one: one.value)
    rows = [*largest.values()]
    if both:
        seconds = [sum(point.outcome.seconds for point in points) for points in zip(*both, strict=True)]
        ratio = seconds[1] / seconds[0] if seconds[0] else math.inf
        rows.append(Parity(study, "seconds", "ratio", ratio, "", None, *seconds))
    return rows


def _metrics(study: str, one: Point, other: Point) -> Iterator[Parity]:
    recorded = set(other.history.names())
    for name in one.history.names():
        if name not in recorded:
            continue
        epochs, mine = one.history.series(name)
        their_epochs, theirs = other.history.series(name)
        common, places, their_places = np.intersect1d(epochs, their_epochs, return_indices=True)
        if not len(common):
            continue
        a, b = mine[places], theirs[their_places]
        apart, size = np.abs(a - b), np.maximum(np.abs(a), np.abs(b))
        relative = np.divide(apart, size, out=np.zeros_like(apart), where=size > 0)
        yield _largest(study, name, "absolute", apart, one.name, common, a, b)
        yield _largest(study, name, "relative", relative, one.name, common, a, b)


def _weights(study: str, one: Point, other: Point) -> Iterator[Parity]:
    mine, theirs = one.history.snapshots, other.history.snapshots
    end = min((point.outcome.epochs for point in (one, other) if point.diverged), default=math.inf)
    common = [
        epoch for epoch in mine if epoch in theirs and epoch < end and all(map(_finite, (mine[epoch], theirs[epoch])))
    ]
    if not common:
        return
    last = max(common)
    for name, array in mine[last].items():
        if theirs[last].get(name, np.empty(0)).shape != array.shape:
            continue
        a, b = (weights[last][name].astype(np.float64).ravel() for weights in (mine, theirs))
        yield _largest(study, name, "absolute", np.abs(a - b), one.name, np.full(a.shape, last), a, b)


def _finite(weights: Mapping[str, NDArray[np.floating]]) -> bool:
    return all(bool(np.isfinite(array).all()) for array in weights.values())


def _largest(
    study: str,
    quantity: str,
    kind: Literal["absolute", "relative"],
    differences: NDArray[np.floating],
    point: str,
    epochs: NDArray[np.integer],
    mine: NDArray[np.floating],
    theirs: NDArray[np.floating],
) -> Parity:
    place = int(np.argmax(differences))
    return Parity(study, quantity, kind, float(differences[place]), point, int(epochs[place]),
                  float(mine[place]), float(theirs[place]))  # fmt: skip


def parity_lines(results: Results) -> list[str]:
    """The section on the two backends in Markdown: a table of differences, what the configs say, a table of costs."""
    compared = {study: rows for study in results if (rows := parity(results, study))}
    if not compared:
        return ["No point was trained by both backends."]
    both = {study: pairs(results, study) for study in compared}
    alike = {study: rows for study, rows in compared.items() if any(not _unlike(*pair) for pair in both[study])}
    lines = [
        "The largest difference between the two backends over all points of a study and all recorded epochs, and in "
        "brackets the largest relative to the larger of the two numbers. A point that diverged counts up to there. "
        "Weights: the largest difference in the last snapshot that both took. [parity.csv](parity.csv) says at which "
        "point and epoch each was found.",
        "",
    ]
    if alike:
        lines += [*table(_differences(alike)), ""]
    sentences = [f"- {sentence}" for study in compared for sentence in _sentences(study, both[study])]
    if sentences:
        lines += [*sentences, ""]
    lines += [
        "Where the training loss differs most, and the seconds of training, over the points that both trained:",
        "",
    ]
    return lines + table(_costs(compared, both))


def _differences(rows: Mapping[str, Sequence[Parity]]) -> list[list[str]]:
    """A row for each quantity, a column for each study."""
    compared = {(row.study, row.quantity, row.kind): row.value for members in rows.values() for row in members}
    names = dict.fromkeys(name for _, name, kind in compared if kind == "absolute")
    shown = sorted((name for name in names if not name.startswith(SINGLE_WEIGHTS)), key=lambda n: n.startswith("layer"))
    lines = [["", *rows]]
    for name in shown:
        cells = []
        for study in rows:
            absolute, relative = (compared.get((study, name, kind)) for kind in ("absolute", "relative"))
            bracket = "" if relative is None or not absolute else f" ({relative:.2g})"
            cells.append("" if absolute is None else f"{absolute:.2g}{bracket}")
        lines.append([name, *cells])
    return lines


def _unlike(one: Point, other: Point) -> list[str]:
    """The knobs that decide numbers and that the two backends were not given alike."""
    theirs = dict(flatten(other.config))
    return [
        f"{key} is {value} on NumPy and {theirs.get(key)} on Keras"
        for key, value in flatten(one.config)
        if not key.startswith(OWN_KNOBS) and value != theirs.get(key)
    ]


def _sentences(study: str, both: Sequence[tuple[Point, Point]]) -> Iterator[str]:
    """Which points are not the same computation on both backends, and which diverged on one of them only."""
    found: dict[str, list[str]] = {}
    for one, other in both:
        for difference in _unlike(one, other):
            found.setdefault(difference, []).append(f"`{one.name}`")
    told = " is not in the table" if all(_unlike(*pair) for pair in both) else ""
    for difference, names in found.items():
        where = "at every point" if len(names) == len(both) else f"at {', '.join(names)}"
        yield f"{study}{told}: {difference}, {where}, which is not the same computation."
    for one, other in both:
        if one.diverged != other.diverged:
            yield f"{study}: `{one.name}` {_ended(one)} on NumPy and {_ended(other)} on Keras."


def _ended(point: Point) -> str:
    outcome = point.outcome
    if outcome.diverged_step is None:
        return f"stayed finite for {outcome.epochs:,} epochs"
    return f"diverged after {outcome.diverged_step:,} updates"


def _costs(compared: Mapping[str, Sequence[Parity]], both: Mapping[str, Sequence[object]]) -> list[list[str]]:
    """A row for each study: where the backends are furthest apart, their seconds and the ratio."""
    lines = [
        ["study", "points", "differs most at", "training loss, numpy and keras", "seconds, numpy and keras", "ratio"]
    ]
    for study, rows in compared.items():
        by_kind = {(row.quantity, row.kind): row for row in rows}
        loss, seconds = by_kind.get(("train/loss", "absolute")), by_kind["seconds", "ratio"]
        where = ["", ""]
        if loss is not None and loss.value:
            where = [f"`{loss.point}`, epoch {loss.epoch:,}", f"{loss.numpy:.4g} and {loss.keras:.4g}"]
        lines.append([study, str(len(both[study])), *where, f"{seconds.numpy:.2f} and {seconds.keras:.2f}",
                      f"{seconds.value:.3g}"])  # fmt: skip
    return lines


def parity_table(results: Results, study: str) -> list[str]:
    """How far apart the backends are at each point of a study, as Markdown; nothing where none is trained by both.

    A row for each point that both trained: the largest relative difference of the training loss over the epochs, and
    the last loss of each.
    """
    rows = [["point", "largest relative difference of the training loss", "at epoch", *BACKENDS]]
    for mine, theirs in pairs(results, study):
        steps, one = mine.history.series("train/loss")
        their_steps, other = theirs.history.series("train/loss")
        common, at, there = np.intersect1d(steps, their_steps, return_indices=True)
        if not len(common):
            continue
        a, b = one[at], other[there]
        size = np.maximum(np.abs(a), np.abs(b))
        apart = np.divide(np.abs(a - b), size, out=np.zeros_like(size), where=size > 0)
        place = int(np.argmax(apart))
        rows.append([f"`{mine.name}`", f"{apart[place]:.2g}", f"{common[place]:,}", f"{a[-1]:.4g}", f"{b[-1]:.4g}"])
    return table(rows) if len(rows) > 1 else []
