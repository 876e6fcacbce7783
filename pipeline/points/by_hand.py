"""Studies that were trained by hand, without `results=`: both their points and their list are in .points/ only."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from pipeline.points.point import POINTS, Point
from pipeline.points.reading import read_own_point
from pipeline.points.sweep_record import SweepRecord, all_sweeps
from pipeline.system.errors import DamagedError

log = logging.getLogger(__name__)


def sweeps_by_hand(root: Path, not_these: Collection[str], with_a_file: Collection[str]) -> list[SweepRecord]:
    """Return the newest sweep of each study and backend that was trained by hand, NumPy before the other backends.

    A single training counts only for a study with a file in conf/experiment/: any other is a try, and answers no
    question.

    Args:
        root: folder that holds .points/.
        not_these: studies that have their points elsewhere.
        with_a_file: studies that have a file.

    Raises:
        LabError: a record cannot be read although it may be intact.
    """
    newest: dict[tuple[str, bool, str], SweepRecord] = {}
    for _, sweep in all_sweeps(root):
        if sweep.study in not_these or not (sweep.parent or sweep.study in with_a_file):
            continue
        if not any(_is_complete(root, point.signature) for point in sweep.points):
            continue
        key = (sweep.study, sweep.backend != "numpy", sweep.backend)
        earlier = newest.get(key)
        if earlier is None or earlier.when <= sweep.when:
            newest[key] = sweep
    return [newest[key] for key in sorted(newest)]


def read_sweep_points(root: Path, sweep: SweepRecord) -> list[Point]:
    """Read the complete points of a sweep in .points/, in the order of its record, with its study, question and report.

    What is missing or damaged is left out with a warning.

    Raises:
        LabError: a point cannot be read although it may be intact.
    """
    points = []
    for member in sweep.points:
        if not _is_complete(root, member.signature):
            continue
        try:
            point = read_own_point(root / POINTS / member.signature, member.name, member.signature)
            points.append(_as_asked(point, sweep))
        except DamagedError as error:
            log.warning(f"skipped: {error}")
    if len(points) < len(sweep.points):
        log.warning(f"{sweep.name}, trained by hand: {len(points)} of {len(sweep.points)} points are complete")
    return points


def _as_asked(point: Point, sweep: SweepRecord) -> Point:
    """Return a point with what its sweep asks: another one, in other words, may have trained it."""
    if sweep.report is None:
        return point
    asked = {"study": sweep.study, "question": sweep.question, "report": sweep.report}
    return replace(point, config=point.config.model_copy(update=asked))


def _is_complete(root: Path, signature: str) -> bool:
    return (root / POINTS / signature / "SHA256SUMS").exists()
