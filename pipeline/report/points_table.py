"""The table of all points of a study, for its page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pipeline.config.metrics import METRIC_NAMES
from pipeline.points.breaking_rates import network_of
from pipeline.points.point import Point
from pipeline.studies.breaking import HEADING, breaking_cells
from pipeline.studies.grids import Cell, PointsByBackend, cell_metric, cells, recorded
from pipeline.studies.kinds import study_kind
from pipeline.studies.knobs import RATE, SEED, SIZE, Knob, further_knobs, layout
from pipeline.system.wording import table


def points_table(backends: PointsByBackend) -> list[str]:
    """Return the table of all points; those that differ only in their seed are one row, a column of one text goes."""
    first = next(iter(backends.values()))
    knobs = [Knob(RATE, ()), Knob(SIZE, ())]
    if not study_kind(first).single:
        knobs += [knob for knob in further_knobs(first) if knob.key != SEED]
    points = [point for members in backends.values() for point in members]
    metrics = [name for name in METRIC_NAMES if recorded(points, name)]
    headings = ["point", "backend", *(knob.name for knob in knobs), "diagnosis"]
    breaking = {backend: breaking_cells(members) for backend, members in backends.items()}
    predicted = any(breaking.values())
    headings += [METRIC_NAMES[name] for name in metrics]
    if predicted:
        headings.append(HEADING)
    rows = [[*headings, "evidence"]]
    for backend, members in backends.items():
        for cell in cells(members, layout(members), cell_metric(members)):
            row = _row(cell.points, metrics, knobs)
            if predicted:
                row.insert(-1, breaking[backend].get(network_of(cell.points[0].config), ""))
            rows.append(row)
    # Names that hold only the settings in these columns would repeat them, so their column is omitted.
    shared = set.intersection(*(set(point.name.split()) for point in points))
    shown = {name for knob in knobs for name in (knob.name, knob.key.rpartition(".")[-1])}
    told_apart_by = {part.partition("=")[0] for point in points for part in {*_name(point).split()} - shared}
    if told_apart_by <= shown:
        rows = [row[1:] for row in rows]
    return _without_constants(rows)


def _without_constants(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the table of rows; what is the same in all of several rows is said once, before it."""
    if len(rows) < 3:
        return table(rows)
    columns = list(zip(*rows, strict=True))
    same = [column for column in columns if len(set(column[1:])) == 1]
    lines = table(list(zip(*(column for column in columns if column not in same), strict=True)))
    said = [f"{column[0]} {column[1]}" for column in same if column[1]]
    if said:
        lines = [f"The same in all rows: {', '.join(said)}.", "", *lines]
    return lines


def _name(point: Point) -> str:
    """Return a point's name without its seed."""
    return " ".join(part for part in point.name.split() if not part.startswith(f"{SEED}="))


def _row(seeds: Sequence[Point], metrics: Sequence[str], knobs: Sequence[Knob]) -> list[str]:
    """Return the row of points that differ in nothing but the seed."""
    point = seeds[0]
    row = [f"`{_name(point)}`", point.config.backend.name]
    row += [_setting(point, knob) for knob in knobs]
    labels = Counter(seed.diagnosis.label for seed in seeds)
    (usual, _), *others = labels.most_common()
    evidence = next(seed for seed in seeds if seed.diagnosis.label == usual).diagnosis.evidence
    if not others:
        row.append(usual)
    else:
        row.append(", ".join(f"{label} ({count} of {len(seeds)})" for label, count in labels.most_common()))
    for name in metrics:
        found = Cell(tuple(seeds), name).estimate
        # The last finite metrics of a diverged point are not a result; its diagnosis describes it.
        text = ""
        if found.trained:
            text = found.text
        row.append(text)
    return [*row, evidence]


def _setting(point: Point, knob: Knob) -> str:
    value = knob.of(point)
    if knob.key == SIZE and value is None:
        return ""
    return knob.text(value)
