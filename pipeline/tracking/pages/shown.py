"""Which commands of a study its views show: the newest sweep of each backend, and those that joined it.

A command joins if it is for one point, with one or several seeds. Otherwise it takes the place of the earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pipeline.points.point import POINTS
from pipeline.points.reading import repeats_in
from pipeline.points.sweep_record import SweepRecord
from pipeline.system.errors import LabError
from pipeline.tracking.pages.labels import is_one_point, settings_of
from pipeline.tracking.pages.views import BACKENDS


def joins(root: Path, sweep: SweepRecord, others: Iterable[SweepRecord]) -> bool:
    """Whether the views show the point of a command beside what they show already, instead of in its place.

    A point with several seeds joins only a sweep of several points. Where all commands are for one point, with several
    seeds each, the newest replaces the others: they had other settings, or other code.

    Args:
        root: folder that holds .points/.
        sweep: the record of the command.
        others: the records of the study in the same store.
    """
    if not has_one_point(root, sweep):
        return False
    if not sweep.parent:
        return True
    return any(
        one.key != sweep.key and sweep.backend in _backends(one) and not has_one_point(root, one) for one in others
    )


def has_one_point(root: Path, sweep: SweepRecord) -> bool:
    """Whether the points of a command differ in nothing but their seed.

    What was signed decides, because points of two profiles may have the same name. Only where points have not begun, or
    were trained on another machine, do their names decide.
    """
    known: set[str] = set()
    unknown = False
    for point in sweep.points:
        shared = _shared(root, point.signature)
        if shared:
            known.add(shared)
        else:
            unknown = True
        if len(known) > 1:
            return False
    return not unknown or is_one_point(point.name for point in sweep.points)


def _shared(root: Path, signature: str) -> str:
    """Return the hash that a point shares with its other seeds; empty if it is unknown."""
    for folder in (signature, f"{signature}.training"):
        # A file that cannot be read is reported by whoever sends the point.
        with suppress(LabError):
            shared = repeats_in(root / POINTS / folder)
            if shared:
                return shared
    return ""


def _backends(sweep: SweepRecord) -> set[str]:
    """Return the backends of a sweep's points; its record names that of the first."""
    named = {dict(settings_of(point.name)).get("backend") for point in sweep.points}
    if len(named) > 1:
        return set(BACKENDS)
    return {sweep.backend}
