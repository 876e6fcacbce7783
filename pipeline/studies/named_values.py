"""Name values of knobs, and the cells that have them, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipeline.studies.grids import Cell
from pipeline.studies.knobs import Knob, Layout
from pipeline.system.wording import counted, listed

# Maximum number of cells to name one by one.
MOST_CELLS = 3


def values_of(found: Sequence[Cell], knob: Knob) -> list[Any]:
    """Return the values of a knob that some cells have, in order."""
    present = {knob.of(cell.points[0]) for cell in found}
    return [value for value in knob.values if value in present]


def span(values: Sequence[Any], tried: Sequence[Any], knob: Knob) -> str:
    """Name some of the values that were tried, at least one, for instance `0.0001 and 0.003 to 0.03`."""
    return listed(spans(values, tried, knob))


def spans(values: Sequence[Any], tried: Sequence[Any], knob: Knob) -> list[str]:
    """Name some of the values that were tried; three numbers and more that follow each other as `0.003 to 0.03`."""
    runs: list[list[Any]] = [[]]
    for value in tried:
        if value in values:
            runs[-1].append(value)
        else:
            runs.append([])
    names: list[str] = []
    for run in runs:
        if len(run) > 2 and knob.numeric:
            names.append(f"{knob.text(run[0])} to {knob.text(run[-1])}")
        else:
            names += [knob.text(value) for value in run]
    return names


def said(values: Sequence[Any], tried: Sequence[Any], knob: Knob) -> str:
    """Name values with the name of their knob: `rate 0.01`, `rates 0.003 to 0.03`."""
    if len(values) == 1:
        return knob.said(values[0])
    return f"{plural(knob)} {span(values, tried, knob)}"


def plural(knob: Knob) -> str:
    """Return the name of a knob for several values: `rates`, `hidden sizes`; a key such as `batch_size` stays."""
    if knob.name in ("rate", "hidden size"):
        return f"{knob.name}s"
    return knob.name


def named_cells(members: Sequence[Cell], compared: Sequence[Cell], shown: Layout) -> str:
    """Name cells by the values of their knobs: `rates 0.003 and 0.01 with hidden size 512`; of many only the number.

    Args:
        members: the cells to name.
        compared: all cells, those included.
        shown: the knobs.
    """
    # What is the same for all points is named only if there is one; a network without a hidden layer has no size.
    alone = len(compared) == 1
    knobs = [
        knob for knob in (shown.up, *shown.apart) if len(knob.values) > 1 or (alone and knob.values[0] is not None)
    ]
    values = [values_of(members, knob) for knob in knobs]
    across = values_of(members, shown.across)
    # Each value of one knob is there with each of the others.
    if math.prod(map(len, values)) * len(across) == len(members):
        text = said(across, values_of(compared, shown.across), shown.across)
        others = [said(own, values_of(compared, knob), knob) for knob, own in zip(knobs, values, strict=True)]
        if others:
            text += f" with {listed(others)}"
        return text
    if len(members) <= MOST_CELLS:
        return listed([named_cells([cell], compared, shown) for cell in members])
    return f"{len(members)} of {counted(len(compared), 'point')}"
