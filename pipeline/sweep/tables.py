"""Format tables for the terminal: the plan of a command, and its results.

A row is the points that differ in nothing but their seed. What is the same in all rows stands in a line above them.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.config.metrics import METRIC_NAMES
from pipeline.config.schema import NO_SETTINGS
from pipeline.points.job import Job
from pipeline.points.point import Point
from pipeline.points.repeats import groups_of_repeats
from pipeline.studies.grids import cell_metric, final_value
from pipeline.studies.statistics.intervals import estimate
from pipeline.system.wording import aligned, counted, shortened, three_digits

# The loss that all networks have; the metric that judges the points is next to it. Maps have the last two.
LOSS = "train/loss"
OF_MAPS = {"map/converged_share": "converged share", "map/best_loss": "smallest loss"}
# What is shown for points that this command did not complete; then numbers of an earlier command are not shown.
INCOMPLETE = {"failed": "failed", "killed": "stopped", "to run": "not trained", "to continue": "not trained"}
# Words are not shortened below this.
NARROWEST = 12
# Two spaces between columns.
GAP = 2
SECONDS = "seconds"

# Points by the folder that they are in.
ByFolder = Mapping[Path, Point]
Row = list[str]


def plan_table(jobs: Sequence[Job], title: str = "", width: int | None = None) -> str:
    """Format the points of a dry run: their knobs, signature and state; several seeds of one point are one row.

    Args:
        jobs: the points.
        title: the name of the command, for the line above the table.
        width: number of columns of the terminal; None: there is no terminal.
    """
    groups = _groups(jobs)
    names, constant = knob_columns(groups)
    rows = [[*map(words, names), "signature", "state"]]
    if _several_seeds(groups):
        rows = [[*map(words, names), "seeds", "state"]]
    for group in groups:
        states = Counter(job.state for job in group)
        ended = ", ".join(f"{number} {state}" for state, number in states.items())
        if len(group) == 1:
            ended = group[0].state
        last = group[0].signature
        if _several_seeds(groups):
            last = seeds_text(group)
        rows.append([*(group[0].knobs.get(name, "") for name in names), last, ended])
    return titled_table([*table_title(title, constant, jobs)], rows, width)


def points_table(jobs: Sequence[Job], points: Sequence[Point] = (), title: str = "", width: int | None = None) -> str:
    """Format the points of a command: their knobs, verdict, final metrics and seconds; seeds of one point are one row.

    The metrics are the loss and the one that judges the points. Of several seeds they are means with their intervals.

    Args:
        jobs: the points that the command was asked for.
        points: those that are complete as the command asks for them; a job's own point stands for one that is missing.
        title: the name of the command, for the line above the table.
        width: number of columns of the terminal; None: there is no terminal.
    """
    asked = {point.folder: point for point in points}
    trained = [point for job in jobs if (point := _point(job, asked)) is not None]
    groups = _groups(jobs)
    names, constant = knob_columns(groups)
    metrics = _metrics(trained)
    shown = [METRIC_NAMES.get(name, OF_MAPS.get(name, name)) for name in metrics]
    rows = [[*map(words, names), "verdict", *shown, SECONDS]]
    for group in groups:
        knobs = [group[0].knobs.get(name, "") for name in names]
        members = [point for job in group if (point := _point(job, asked)) is not None]
        finals = [_final(members, name, len(group)) for name in metrics]
        seconds = ""
        if members:
            seconds = f"{sum(point.outcome.seconds for point in members):.1f}"
        rows.append([*knobs, _verdict([(job, _point(job, asked)) for job in group]), *finals, seconds])
    head = table_title(title, constant, jobs)
    seeds = {seeds_text(group) for group in groups}
    if _several_seeds(groups) and len(seeds) == 1:
        head.append(f"seeds {seeds.pop()}")
    return titled_table(head, rows, width)


def _point(job: Job, asked: ByFolder) -> Point | None:
    """Return the point of a job that this command has completed or found complete."""
    if job.point is None or job.state in INCOMPLETE:
        return None
    return asked.get(job.point.folder, job.point)


def _groups(jobs: Sequence[Job]) -> list[list[Job]]:
    """Return the jobs that differ in nothing but their seed together, in the order of their first one."""
    settings = [job.config.model_dump(mode="json", exclude=NO_SETTINGS) for job in jobs]
    return [[jobs[index] for index in members] for members in groups_of_repeats(settings)]


def _several_seeds(groups: Sequence[Sequence[Job]]) -> bool:
    return any(len(group) > 1 for group in groups)


def seeds_text(group: Sequence[Job]) -> str:
    """Return the seeds of a group, for instance `1 to 5` or `1, 2, 7`."""
    seeds = sorted(job.config.seed for job in group)
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def knob_columns(groups: Sequence[Sequence[Job]]) -> tuple[list[str], dict[str, str]]:
    """Return the names of the knobs that are columns, and those with one value that all points have.

    The order is that of their first use.
    """
    jobs = [job for group in groups for job in group]
    # A dictionary keeps the order, which a set would not.
    names = dict.fromkeys(name for job in jobs for name in job.knobs)
    if _several_seeds(groups):
        names.pop("seed", None)
    values = {name: {job.knobs.get(name, "") for job in jobs} for name in names}
    constant = {name: next(iter(found)) for name, found in values.items() if len(found) == 1}
    return [name for name in names if name not in constant], constant


def table_title(title: str, constant: Mapping[str, str], jobs: Sequence[Job]) -> list[str]:
    """Return the parts of the line above a table: the name of the command, and what is the same in all rows."""
    parts = [f"{words(name)} {value}" for name, value in constant.items() if name != "epochs"]
    epochs: set[int] = {job.config.training.epochs for job in jobs}
    if len(epochs) == 1:
        parts.append(counted(epochs.pop(), "epoch"))
    if title and parts:
        parts[0] = f"{title}: {parts[0]}"
    elif title:
        parts = [title]
    return parts


def words(name: str) -> str:
    """Return the name of a knob as it is read: `learning rate`."""
    return name.replace("_", " ")


def _metrics(points: Sequence[Point]) -> list[str]:
    """Return the metrics that are columns: the loss, the one that judges the points, and those of maps."""
    judging = [cell_metric([point]) for point in points]
    wanted = dict.fromkeys([LOSS, *judging, *OF_MAPS])
    return [name for name in wanted if any(name in point.outcome.final for point in points)]


def _final(points: Sequence[Point], metric: str, asked: int) -> str:
    """Format the final values of the seeds of a point, of which `asked` were to train; empty if none has one."""
    values = [final_value(point, metric) for point in points]
    values += [math.nan] * (asked - len(values))
    found = estimate(values, metric)
    if not found.values:
        return ""
    if asked == 1:
        return three_digits(found.mean)
    return found.text


def _verdict(seeds: Sequence[tuple[Job, Point | None]]) -> str:
    """Return the verdict on a point, or how often its seeds have each, for instance `4 converged, 1 diverged`."""
    found: dict[str, list[Point | None]] = {}
    for job, point in seeds:
        label = INCOMPLETE.get(job.state, job.state)
        if point is not None:
            label = point.diagnosis.label
        found.setdefault(label, []).append(point)
    texts = {label: f"{label}{_at_update(members)}" for label, members in found.items()}
    if len(found) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{len(members)} {texts[label]}" for label, members in found.items())


def _at_update(points: Sequence[Point | None]) -> str:
    """Say when seeds diverged, for instance ` at update 7` or ` at updates 7 to 12`; empty if they did not."""
    steps = [point.outcome.diverged_step for point in points if point is not None]
    known = sorted(step for step in steps if step is not None)
    if not known:
        return ""
    if known[0] == known[-1]:
        return f" at update {known[0]:,}"
    return f" at updates {known[0]:,} to {known[-1]:,}"


def titled_table(head: Sequence[str], rows: Sequence[Row], width: int | None) -> str:
    """Return the table below its title line."""
    lines = [", ".join(head)] if head else []
    return "\n".join([*lines, _fitted(rows, width)])


def _fitted(rows: Sequence[Row], width: int | None) -> str:
    """Format rows as a table that fits the terminal where possible. Numbers are never shortened."""
    if width is None or _width(rows) <= width:
        return aligned(rows)
    last = rows[0][-1]
    rows = [*_stacked(rows[0]), *rows[1:]]
    # How long it took matters least.
    if _width(rows) > width and last == SECONDS:
        rows = [row[:-1] for row in rows]
    for column in _by_length(rows):
        excess = _width(rows) - width
        if excess <= 0:
            break
        longest = max(len(row[column]) for row in rows)
        most = max(NARROWEST, longest - excess)
        rows = [line for row in rows for line in _wrapped(row, column, most)]
    return aligned(rows)


def _width(rows: Sequence[Row]) -> int:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return sum(widths) + GAP * (len(widths) - 1)


def _stacked(head: Row) -> list[Row]:
    """Write each heading as lines of about the longest word, the last ones directly above the column."""
    longest = max(len(word) for cell in head for word in cell.split())
    lines = [textwrap.wrap(cell, longest) for cell in head]
    height = max(map(len, lines))
    padded = [[""] * (height - len(parts)) + parts for parts in lines]
    return [list(line) for line in zip(*padded, strict=True)]


def _by_length(rows: Sequence[Row]) -> list[int]:
    """Return the columns, the widest first."""
    columns = range(len(rows[0]))
    return sorted(columns, key=lambda column: -max(len(row[column]) for row in rows))


def _wrapped(row: Row, column: int, width: int) -> list[Row]:
    """Return a row as several if a cell is too wide for one line: the rest of it stands below. A number stays whole."""
    cell = row[column]
    if len(cell) <= width or _is_number(cell):
        return [row]
    first, *others = textwrap.wrap(" ".join(shortened(word, width) for word in cell.split()), width)
    blank = [""] * len(row)
    below = [[*blank[:column], line, *blank[column + 1 :]] for line in others]
    return [[*row[:column], first, *row[column + 1 :]], *below]


def _is_number(cell: str) -> bool:
    """Whether a cell has nothing but numbers, such as `0.976 ± 0.003 (4 of 5)`."""
    return re.fullmatch(r"[\d\s.,()±+e-]+( of \d+\))?", cell) is not None
