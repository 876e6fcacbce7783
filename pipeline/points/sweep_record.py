"""The record of a command and its points, in `.points/.sweeps/ID/`: the source of the sweep's MLflow run.

sweep.json      study, backend, command, tracking, tags, times, status, and the points by name
plots/          figures over all points
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import TypeAdapter

from pipeline.config.metrics import best_of, judged_by, judges
from pipeline.config.schema import Models, Report, Tracking
from pipeline.points.identity import NOT_SIGNED
from pipeline.points.point import POINTS, Point, folder_name
from pipeline.points.repeats import groups_of_repeats
from pipeline.system.errors import DamagedError
from pipeline.system.failures import Apart, Failures, together
from pipeline.system.files import explained, readable, short_hash, write_file

log = logging.getLogger(__name__)

SWEEPS = POINTS / ".sweeps"
# A name that is safe to join to a path, because it cannot escape the parent folder. `pipeline.remove` relies on that.
SAFE_NAME = r"(?!\.{1,2}$)[A-Za-z0-9=_.,-]{1,100}"


@dataclass(frozen=True)
class SweepPoint:
    """One of a sweep's points: its name, its signature, and the name of its folder in a results folder."""

    name: str
    signature: str
    folder: str


@dataclass
class SweepRecord:
    """A command and its points.

    Attributes:
        key: the same for all commands that request the same points in the same store (`sweep_key`).
        study: the name of the study.
        backend: the name of the backend.
        parent: whether the sweep has an MLflow run of its own, the parent of its points' runs; not for a single point.
        command: the command line.
        tracking: the MLflow store that the sweep is for.
        tags: git commit and other tags of its MLflow run.
        started, ended: milliseconds since 1970.
        status: an MLflow run status.
        values: metrics of the sweep: the number of points, and their best values.
        asked: when the command was last run, even if nothing was trained, in milliseconds since 1970; always 0 in a
            results folder, so that running the command again does not change DVC's output.
        points: in the order of the command.
        question: what the study asks; None: nothing, or the record is that of an earlier version.
        report: how the points are compared and shown; None: the record is that of an earlier version.
        models: which of its points have models in MLflow; all in the record of an earlier version.
    """

    key: str
    study: str
    backend: str
    parent: bool
    command: str
    tracking: Tracking
    tags: dict[str, str]
    started: int
    ended: int | None = None
    status: str = "RUNNING"
    values: dict[str, float] = field(default_factory=dict)
    asked: int = 0
    points: list[SweepPoint] = field(default_factory=list)
    question: str | None = None
    report: Report | None = None
    models: Models = "all"

    @property
    def name(self) -> str:
        """Study and backend, as the sweep is called in messages and in MLflow."""
        return f"{self.study} {self.backend}"

    @property
    def when(self) -> int:
        """When the command was last run, if known, otherwise when it first was; in milliseconds since 1970."""
        # `asked` is 0 in a results folder and in a record of an earlier version.
        return self.asked or self.started

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a dict that JSON can hold, for sweep.json and for messages between processes.

        `RECORD.validate_python` converts it back.
        """
        content: dict[str, Any] = RECORD.dump_python(self)
        return content


RECORD = TypeAdapter(SweepRecord)


def sweep_key(study: str, backend: str, tracking: Tracking, members: Iterable[str]) -> str:
    """Return a short hash that is the same for all commands that request the same points in the same store.

    Args:
        study: the name of the study.
        backend: the name of the backend.
        tracking: the MLflow store.
        members: the signatures of the points, in any order; the command line if the signatures are not known yet.
    """
    store = tracking.model_dump(mode="json")
    # A sorted set, because neither the order of the points nor duplicates make a different sweep.
    text = json.dumps([study, backend, store, sorted(set(members))], sort_keys=True)
    return short_hash(text.encode())


def list_points(named: Iterable[tuple[str, str]]) -> list[SweepPoint]:
    """Return `SweepRecord.points` for pairs of name and signature, each with a folder name of its own.

    Points of two profiles in one grid may have the same name; the second one gets its signature in its folder name.
    """
    points: list[SweepPoint] = []
    taken: set[str] = set()
    for name, signature in named:
        folder = folder_name(name)
        if folder in taken:
            # 83 characters, a hyphen and 16 digits make 100, the longest name that `SAFE_NAME` allows.
            folder = f"{folder[:83]}-{signature}"
        taken.add(folder)
        points.append(SweepPoint(name, signature, folder))
    return points


def extremes(points: Sequence[Point]) -> dict[str, float]:
    """Return the best final value of each metric that judges, such as a loss, among the points that did not diverge.

    Of points that differ in nothing but the seed it is the mean that counts, not the luckiest of them. Such a group of
    which a seed diverged counts only if no other has trained with all its seeds. Where validation rows judge, metrics
    of test rows are those of the group that is the best on them.
    """
    # What a point is called, and where it is kept, may differ if it was trained for another study.
    settings = [point.config.model_dump(mode="json", exclude=NOT_SIGNED) for point in points]
    groups = [[points[index] for index in members] for members in groups_of_repeats(settings)]
    best = {}
    for name in sorted({name for point in points for name in point.outcome.final if judges(name)}):
        means = _means(groups, name)
        if means:
            best[f"best/{name}"] = best_of(name, means.values())
    return best | _told(groups)


def _means(groups: Iterable[Sequence[Point]], name: str) -> dict[int, float]:
    """Return the mean final value of a metric of each group that counts, by the number of the group."""
    complete = {}
    partly = {}
    for number, members in enumerate(groups):
        values = [point.outcome.final[name] for point in members if not point.diverged and name in point.outcome.final]
        finite = [value for value in values if math.isfinite(value)]
        if len(finite) == len(members):
            complete[number] = fmean(finite)
        elif finite:
            partly[number] = fmean(finite)
    return complete or partly


def _told(groups: Sequence[Sequence[Point]]) -> dict[str, float]:
    """Return the test metrics of the group that is best on validation rows; nothing without these.

    The best over test rows would have been chosen by them, and would look better than it is.
    """
    judged = next((judged_by(members[0].config) for members in groups), "")
    means = _means(groups, judged)
    if not judged.startswith("validation/") or not means:
        return {}
    best = best_of(judged, means.values())
    chosen = groups[next(number for number, mean in means.items() if mean == best)]
    names = {name for point in chosen for name in point.outcome.final if judges(name) and name.startswith("test/")}
    return {f"best/{name}": mean for name in sorted(names) for mean in _means([chosen], name).values()}


def sweep_folder(root: Path, key: str) -> Path:
    """Return the folder of a sweep, which holds its record and its plots."""
    return root / SWEEPS / key


def write_sweep(folder: Path, sweep: SweepRecord) -> None:
    """Write sweep.json, and create the folder for the plots.

    Raises:
        LabError: the folder cannot be written.
    """
    text = json.dumps(sweep.to_dict(), indent=2) + "\n"
    with explained(folder):
        (folder / "plots").mkdir(parents=True, exist_ok=True)
        write_file(folder / "sweep.json", lambda file: file.write_text(text, encoding="utf-8"))


def read_sweep(folder: Path) -> SweepRecord:
    """Read sweep.json.

    Raises:
        DamagedError: the file is missing, truncated, changed or of the wrong type.
        LabError: the file cannot be read for another reason.
    """
    file = folder / "sweep.json"
    with readable(
        f"The list of points {file}",
        expected="the sweep.json that training writes",
        fix=f"delete {folder} and retrain its points",
    ):
        sweep = RECORD.validate_json(file.read_bytes(), strict=True)
        # All these names are joined to paths, some of which are deleted: none may escape its folder.
        for point in sweep.points:
            if not re.fullmatch(SAFE_NAME, point.folder):
                raise ValueError(f"not a safe folder name for a point: {point.folder}")
        for key in (sweep.key, *(point.signature for point in sweep.points)):
            if not re.fullmatch("[0-9a-f]{16}", key):
                raise ValueError(f"not 16 hexadecimal digits: {key}")
        for name in (sweep.study, sweep.backend):
            if not re.fullmatch(SAFE_NAME, name):
                raise ValueError(f"not a safe name: {name}")
    return sweep


def earlier_sweep(folder: Path) -> SweepRecord | None:
    """Read the record that an earlier command left, if any.

    Returns:
        The record; None if there is none, or if it is damaged, which is reported.

    Raises:
        LabError: the record cannot be read for another reason.
    """
    if not (folder / "sweep.json").exists():
        return None
    try:
        return read_sweep(folder)
    except DamagedError as error:
        log.warning(f"skipped: {error}")
        return None


def all_sweeps(root: Path, unread: Failures | None = None) -> Iterator[tuple[Path, SweepRecord]]:
    """Yield the folder and record of each sweep; damaged records are skipped with a warning.

    Args:
        root: folder that holds .points/.
        unread: gets the error of each record that cannot be read although it may be intact; such a record is skipped.
            None: its error is raised.

    Raises:
        LabError: without `unread`, a record cannot be read although it may be intact.
    """
    apart: Apart = together
    if unread is not None:
        apart = unread.apart
    for file in sorted((root / SWEEPS).glob("*/sweep.json")):
        sweep = None
        with apart(str(file.relative_to(root))):
            sweep = earlier_sweep(file.parent)
        if sweep is not None:
            yield file.parent, sweep


def referenced(sweeps: Sequence[SweepRecord]) -> set[str]:
    """Return the signatures of all points of the sweeps."""
    return {point.signature for sweep in sweeps for point in sweep.points}
