"""What is said of the knobs of a study that are no axes: the best over all other knobs, and the spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pipeline.points.point import Point
from pipeline.studies.grids import METRIC_NAMES, Cell, cell_metric, cells, final_value, profile
from pipeline.studies.knobs import Knob, Layout
from pipeline.system.wording import listed

# Maximum number of values of a knob to name in a sentence.
MOST_NAMED = 8


def profile_sentences(points: Sequence[Point], shown: Layout) -> Iterator[str]:
    """Yield for each knob without an axis the best result at each of its values, over all other knobs."""
    metric = cell_metric(points)
    for knob in shown.apart:
        best = profile(points, shown, knob, metric)
        yield f"by {knob.name}, the best over all other knobs: {METRIC_NAMES[metric]} {_at(knob, best)}."


def _at(knob: Knob, best: Sequence[Cell | None]) -> str:
    """List the best results with the values of a knob; of many values only the first, the last and their number."""
    texts = []
    for value, cell in zip(knob.values, best, strict=True):
        text = f"diverged at {knob.text(value)}"
        if cell is not None:
            text = f"{cell.value:.4g} at {knob.text(value)}"
        texts.append(text)
    if len(texts) > MOST_NAMED:
        return f"{texts[0]} to {texts[-1]} ({len(texts)} values, in the figure)"
    return listed(texts)


def seed_sentences(points: Sequence[Point], shown: Layout) -> Iterator[str]:
    """Yield how many seeds there are, and the spread over them if nothing else varies."""
    if len(shown.seeds) < 2:
        return
    metric = cell_metric(points)
    seeds = listed([str(seed) for seed in shown.seeds])
    if len(shown.seeds) > MOST_NAMED:
        seeds = f"{shown.seeds[0]} to {shown.seeds[-1]}, {len(shown.seeds)} of them"
    cell, *others = sorted(cells(points, shown, metric), key=lambda found: -len(found.points))
    if len(cell.points) == 1:
        yield f"the points differ in their seeds too ({seeds})."
        return
    if others:
        yield f"each number is the mean over the seeds ({seeds})."
        return
    finite = [value for value in (final_value(point, metric) for point in points) if math.isfinite(value)]
    if finite:
        yield (
            f"over the seeds ({seeds}), the {METRIC_NAMES[metric]} is {min(finite):.4g} to {max(finite):.4g}, "
            f"mean {cell.value:.4g}."
        )
    lost = len(points) - len(finite)
    if lost:
        yield f"{lost} of {len(points)} seeds diverged."
