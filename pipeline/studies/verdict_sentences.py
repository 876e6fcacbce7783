"""Say how training went at each value of the horizontal axis, in words, from the verdicts of its points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.diagnosis.verdicts import Diagnosis
from pipeline.points.point import Point
from pipeline.studies.grids import Cell, cell_metric, cells
from pipeline.studies.groups import shared_knobs
from pipeline.studies.knobs import Knob, Layout
from pipeline.studies.named_values import MOST_CELLS, named_cells, plural, said, span, spans, values_of
from pipeline.system.wording import counted, listed

# Each verdict as a verb, of one value and of several; others are said as `is VERDICT`.
VERBS: Mapping[str, tuple[str, str]] = {
    "converged": ("converges", "converge"),
    "improving": ("still improves", "still improve"),
    "overfitting": ("overfits", "overfit"),
    "oscillating": ("oscillates", "oscillate"),
    "stalled": ("stalls", "stall"),
    "diverged": ("diverges", "diverge"),
}
# Verdicts whose evidence is told, because the numbers behind them are what a rate does.
TOLD = ("diverged", "stalled", "oscillating")
# Maximum number of verdicts whose evidence is told.
MOST_TOLD = 2


def verdict_sentence(points: Sequence[Point], shown: Layout) -> str:
    """Return the verdicts in words, from the smallest value on.

    Example:
        "rate 0.001 is too slow; 0.01 to 10 converge; 100 and 1000 stall (saturation)"
    """
    found = cells(points, shown, cell_metric(points))
    labels: dict[str, list[Cell]] = {}
    for cell in found:
        labels.setdefault(_usual(cell), []).append(cell)
    across = shown.across
    ordered = sorted(labels.items(), key=lambda item: values_of(item[1], across)[0])
    if len(across.values) == 1:
        parts = _counted(points)
    else:
        parts = [_at_values(label, members, found, shown) for label, members in ordered]
        # Only the first values are said with their name.
        name = across.name
        if len(values_of(ordered[0][1], across)) > 1:
            name = plural(across)
        parts[0] = f"{name} {parts[0]}"
    return "; ".join([*parts, *_lost(found, shown)])


def evidence_sentences(points: Sequence[Point], shown: Layout, told: Sequence[str] = TOLD) -> Iterator[str]:
    """Yield the numbers behind the verdicts in `told`, each at the first value that has it."""
    ordered = sorted(points, key=lambda point: shown.across.values.index(shown.across.of(point)))
    first: dict[str, Point] = {}
    for point in ordered:
        if point.diagnosis.verdict in told:
            first.setdefault(point.diagnosis.label, point)
    for point in list(first.values())[:MOST_TOLD]:
        others = [knob.said(knob.of(point)) for knob in shared_knobs(shown)]
        where = shown.across.said(shown.across.of(point))
        if others:
            where += f" with {listed(others)}"
        yield f"at {where}, {point.diagnosis.evidence}."


def _told_of(cell: Cell) -> list[Diagnosis]:
    """Return the diagnoses of a cell: those of the seeds that trained, or if none did, of those that diverged."""
    trained = [point.diagnosis for point in cell.points if not point.diverged]
    return trained or [point.diagnosis for point in cell.points]


def _usual(cell: Cell) -> str:
    """Return the verdict, with its cause, that most seeds of a cell have; of equally many, that of the first seed."""
    return Counter(diagnosis.label for diagnosis in _told_of(cell)).most_common(1)[0][0]


def counted_verdicts(points: Sequence[Point]) -> str:
    """Return how many points have each verdict, the most frequent first.

    Example:
        "of 12 points 5 are too slow, 4 still improve and 3 converge"
    """
    labels = Counter(point.diagnosis.label for point in points)
    examples = {point.diagnosis.label: point.diagnosis for point in points}
    parts = [f"{count} {_verb(examples[label], count)}" for label, count in labels.most_common()]
    return f"of {counted(len(points), 'training')} {listed(parts)}"


def _counted(points: Sequence[Point]) -> list[str]:
    """Say how many points have each verdict, where no number varies."""
    trained = [point.diagnosis for point in points if not point.diverged] or [point.diagnosis for point in points]
    parts = []
    for label in dict.fromkeys(diagnosis.label for diagnosis in trained):
        members = [diagnosis for diagnosis in trained if diagnosis.label == label]
        number = f"{len(members)} of {len(points)} points"
        if len(members) == len(points):
            number = f"all {len(points)} points"
        parts.append(f"{number} {_verb(members[0], len(members))}")
    return parts


def _at_values(label: str, members: Sequence[Cell], found: Sequence[Cell], shown: Layout) -> str:
    """Say at which values of the horizontal axis points have a verdict."""
    across = shown.across
    everywhere = []
    partly: dict[str, list[Any]] = {}
    for value in values_of(members, across):
        mine = [cell for cell in members if across.of(cell.points[0]) == value]
        total = [cell for cell in found if across.of(cell.points[0]) == value]
        share = _share(label, mine, total, shown)
        if share:
            partly.setdefault(share, []).append(value)
        else:
            everywhere.append(value)
    tried = values_of(found, across)
    names = spans(everywhere, tried, across)
    for share, values in partly.items():
        each = ""
        if len(values) > 1 and share.endswith("seeds"):
            each = " each"
        names.append(f"{span(values, tried, across)} ({share}{each})")
    diagnosis = next(one for one in _told_of(members[0]) if one.label == label)
    return f"{listed(names)} {_verb(diagnosis, len(values_of(members, across)))}"


def _share(label: str, mine: Sequence[Cell], total: Sequence[Cell], shown: Layout) -> str:
    """Return which cells of a value have a verdict, and how many of their seeds; empty if all have it.

    Args:
        label: the verdict, with its cause.
        mine: the cells of which most seeds have it.
        total: all cells of the value.
        shown: the knobs.
    """
    diagnoses = [one for cell in mine for one in _told_of(cell)]
    having = sum(one.label == label for one in diagnoses)
    parts = []
    knobs: list[Knob] = [*shared_knobs(shown), *shown.further]
    if len(mine) < len(total) and len(knobs) == 1:
        parts.append(f"only {said(values_of(mine, knobs[0]), values_of(total, knobs[0]), knobs[0])}")
    elif len(mine) < len(total):
        parts.append(f"only {len(mine)} of {len(total)} points")
    if having < len(diagnoses):
        parts.append(f"{having} of {len(diagnoses)} seeds")
    return ", ".join(parts)


def _verb(diagnosis: Diagnosis, count: int) -> str:
    """Return a verdict as a verb with its cause, for instance `stall (saturation)`."""
    one, several = VERBS.get(diagnosis.verdict, (f"is {diagnosis.verdict}", f"are {diagnosis.verdict}"))
    verb = several
    if count == 1:
        verb = one
    if diagnosis.cause:
        verb += f" ({diagnosis.cause})"
    return verb


def _lost(found: Sequence[Cell], shown: Layout) -> Iterator[str]:
    """Yield where only some of the seeds trained: `at 0.1, 4 of 5 seeds trained`."""
    partly = [cell for cell in found if 0 < cell.estimate.trained < cell.estimate.asked]
    if len(found) == 1:
        yield from (f"{cell.estimate.seeds} seeds trained" for cell in partly)
    elif len(partly) > MOST_CELLS:
        yield f"at {len(partly)} of {len(found)} points, some seeds diverged"
    else:
        yield from (f"at {named_cells([cell], found, shown)}, {cell.estimate.seeds} seeds trained" for cell in partly)
