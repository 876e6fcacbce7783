"""Which commands of a study its views show: the newest sweep of each backend, and those that joined it.

A command joins if it is for one point, with one or several seeds. Otherwise it takes the place of the earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.points.point import POINTS
from pipeline.points.reading import read_signed
from pipeline.points.repeats import differ_in_seeds_only, keys_of_points
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
    known: list[dict[str, Any]] = []
    unknown = False
    for point in sweep.points:
        signed = _signed(root, point.signature)
        if signed is None:
            unknown = True
            continue
        # Of two points of a large grid the first two tell.
        if known and not differ_in_seeds_only(known[0], signed):
            return False
        known.append(signed)
    if len(set(keys_of_points(known))) > 1:
        return False
    return not unknown or is_one_point(point.name for point in sweep.points)


def _signed(root: Path, signature: str) -> dict[str, Any] | None:
    """Return what was signed of a point; None if it is unknown."""
    for folder in (signature, f"{signature}.training"):
        # A file that cannot be read is reported by whoever sends the point.
        with suppress(LabError):
            signed = read_signed(root / POINTS / folder)
            if signed is not None:
                return signed
    return None


def _backends(sweep: SweepRecord) -> set[str]:
    """Return the backends of a sweep's points; its record names that of the first."""
    named = {dict(settings_of(point.name)).get("backend") for point in sweep.points}
    if len(named) > 1:
        return set(BACKENDS)
    return {sweep.backend}
