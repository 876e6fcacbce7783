"""A results folder: a command's points in one place, for DVC to keep, and back from where DVC has restored it.

sweep.json, plots/      as in .points/.sweeps/ID/
POINT/                  as in .points/SIGNATURE/
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config.schema import Tracking
from pipeline.points.folder import PointFolder
from pipeline.points.job import Job, read_own_point
from pipeline.points.point import POINTS, Point
from pipeline.points.sweep_record import SweepRecord, read_sweep, sweep_folder, sweep_key, write_sweep
from pipeline.pulled import or_pulled
from pipeline.system.errors import LabError
from pipeline.system.files import explained, write_sums, written_whole


def gather(destination: Path, jobs: Sequence[Job], sweep: SweepRecord, folder: Path) -> None:
    """Copy all points of a command, which are complete, to a results folder, in place of what it held.

    Args:
        destination: the results folder.
        jobs: in the order of `sweep.points`.
        sweep: what the command is.
        folder: the sweep's own files.

    Raises:
        LabError: the folder holds other things, or cannot be written.
    """
    if destination.exists() and any(destination.iterdir()) and not (destination / "sweep.json").exists():
        raise LabError(
            f"{destination} is not a results folder.",
            expected="a folder that an earlier sweep wrote, or one that does not exist",
            received="a folder with other things in it",
            fix="name another folder: results=results/STUDY/BACKEND",
        )
    with explained(destination), written_whole(destination) as new:
        for job, member in zip(jobs, sweep.points, strict=True):
            copy = new / member["folder"]
            shutil.copytree(job.folder.final, copy)
            if job.point is not None and job.point.config != job.config:  # of another study with the same numbers
                (copy / "config.json").write_text(json.dumps(job.config.model_dump(mode="json"), indent=2) + "\n")
                write_sums(copy)
        write_sweep(new, replace(sweep, asked=0))
        shutil.copytree(folder / "plots", new / "plots", dirs_exist_ok=True)


def restore(results: Path, root: Path, tracking: Tracking) -> None:
    """Take a results folder into .points/, as if it had been trained here for a store, whichever it was trained for.

    Raises:
        LabError: it is not what training wrote.
    """
    with or_pulled():
        sweep = read_sweep(results)
    for member in sweep.points:
        with or_pulled():
            point = read_own_point(results / member["folder"], member["name"], member["signature"])
        _copy(point, root / POINTS / member["signature"])
    wanted = tracking.model_dump(mode="json")
    sweep.key, sweep.tracking = _key(sweep, wanted), wanted
    folder = sweep_folder(root, sweep.key)
    if not (folder / "sweep.json").exists():
        if (results / "plots").exists():  # of a single point and of maps it was empty, and DVC keeps no empty folder
            with explained(folder):
                shutil.copytree(results / "plots", folder / "plots", dirs_exist_ok=True)
        write_sweep(folder, sweep)


def _key(sweep: SweepRecord, tracking: Mapping[str, Any]) -> str:
    """The key that the same command has for another store."""
    for members in ([point["signature"] for point in sweep.points], [sweep.command]):
        if sweep_key(sweep.study, sweep.backend, sweep.tracking, members) == sweep.key:
            return sweep_key(sweep.study, sweep.backend, tracking, members)
    return sweep.key  # an earlier version made it in another way


def _copy(point: Point, destination: Path) -> None:
    claim = PointFolder(destination.parent.parent, destination.name)
    if destination.exists() or not claim.claim():
        return
    try:
        with explained(destination), written_whole(destination) as new:
            shutil.copytree(point.folder, new, dirs_exist_ok=True)
    finally:
        claim.release()
