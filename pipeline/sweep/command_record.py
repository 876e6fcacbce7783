"""The record of a command on disk: the points it was asked for, how it ended, and what it shows as a whole."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.points.job import Job
from pipeline.points.point import Point
from pipeline.points.results import gather
from pipeline.points.sweep_lock import SweepLock
from pipeline.points.sweep_record import (
    SweepRecord,
    earlier_sweep,
    extremes,
    list_points,
    sweep_folder,
    sweep_key,
    write_sweep,
)
from pipeline.studies.kinds import sweep_figures
from pipeline.sweep.figures import write_figures
from pipeline.system.errors import LabError, explain
from pipeline.system.failures import Failures
from pipeline.system.last_line import doing
from pipeline.system.processes import command


def new_record(first: Config, code: Mapping[str, str], total: int | None, jobs: Sequence[Job]) -> SweepRecord:
    """Return the record of a command that begins now.

    Args:
        first: the config of its first point.
        code: tags that describe the code, from `code_state`.
        total: number of points of the command; None: unknown, because they come one by one.
        jobs: the points so far.
    """
    # If the points come one by one, the others are not known yet, and the command line identifies the sweep.
    members = [command()]
    if total is not None:
        members = [job.signature for job in jobs]
    return SweepRecord(
        key=sweep_key(first.study, first.backend.name, first.tracking, members),
        study=first.study,
        backend=first.backend.name,
        parent=total != 1,
        command=command(),
        tracking=first.tracking,
        tags=dict(code),
        started=time.time_ns() // 1_000_000,
        question=first.question,
        report=first.report,
        models=first.recording.models,
    )


class CommandRecord:
    """The record of a command in its folder in .points/, which marks the command as running until `release`.

    Args:
        root: folder that holds .points/.
        sweep: the content of the record.

    Attributes:
        undrawn: the figures of the sweep that could not be drawn, with their errors.

    Raises:
        LabError: the mark cannot be written.
    """

    def __init__(self, root: Path, sweep: SweepRecord) -> None:
        self.sweep = sweep
        self.undrawn = Failures()
        self._folder = sweep_folder(root, sweep.key)
        self._lock = SweepLock(root, sweep.key)
        self._lock.hold()

    def begin(self, jobs: Sequence[Job]) -> None:
        """Record the points that are asked for now, and that the command is running.

        Args:
            jobs: all points so far.

        Raises:
            LabError: the record cannot be written.
        """
        sweep = self.sweep
        sweep.asked = time.time_ns() // 1_000_000
        before = earlier_sweep(self._folder)
        points = {job.signature: job.name for job in jobs}
        known: dict[str, str] = {}
        if before is not None:
            known = {point.signature: point.name for point in before.points}
        # Where points come one by one, the others of an earlier command may follow. They stay in the record until this
        # command is complete.
        points |= {signature: name for signature, name in known.items() if signature not in points}
        sweep.points = list_points((name, signature) for signature, name in points.items())
        done = all(job.state == "done" and job.signature in known for job in jobs)
        if before is not None and before.status == "FINISHED" and done:
            # A repeated command with nothing left to do changes neither times nor values.
            sweep.started = before.started
            sweep.ended = before.ended
            sweep.values = before.values
            sweep.status = before.status
        else:
            # The earlier batches of this command may have had nothing left to do.
            sweep.ended = None
            sweep.status = "RUNNING"
        write_sweep(self._folder, sweep)

    def end(
        self, jobs: Sequence[Job], points: Sequence[Point], stopped: BaseException | None, results: Path | None
    ) -> list[str]:
        """Record how the command ended, and gather its results if all points are complete.

        Args:
            jobs: all points.
            points: those that are complete.
            stopped: what ended the command early; None: it trained everything that it could.
            results: the results folder; None: there is none.

        Returns:
            Messages about what could not be written.
        """
        sweep = self.sweep
        complete = bool(points) and len(points) == len(jobs)
        sweep.status = "FAILED"
        if complete:
            sweep.status = "FINISHED"
        elif isinstance(stopped, KeyboardInterrupt):
            sweep.status = "KILLED"
        if stopped is not None and not isinstance(stopped, (KeyboardInterrupt, LabError)):
            sweep.tags = {**sweep.tags, "error": str(explain(stopped))}
        asked = list_points((job.name, job.signature) for job in jobs)
        try:
            # An earlier command has recorded this sweep if it ended it and this one had nothing to do.
            if sweep.ended is None or any(job.state != "done" for job in jobs):
                if complete:
                    sweep.points = asked
                figures = jobs[0].config.recording.figures != "none"
                with doing("drawing the figures of the sweep"):
                    self._sum_up(points, not isinstance(stopped, KeyboardInterrupt), figures)
            if complete and results is not None:
                with doing(f"copying the points to {results}"):
                    gather(results, jobs, replace(sweep, points=asked), self._folder)
        except Exception as error:  # noqa: BLE001 - an error of our own must not keep the points from MLflow either
            # The caller reports this only after the status has reached MLflow.
            sweep.status = "FAILED"
            if not isinstance(error, LabError):
                sweep.tags = {**sweep.tags, "error": str(explain(error))}
            # `_sum_up` may have written that the command finished. What keeps this from being corrected, such as a full
            # disk, must not replace the error.
            with suppress(Exception):
                write_sweep(self._folder, sweep)
            return [str(explain(error))]
        return []

    def release(self) -> None:
        """Remove the mark: the command is over."""
        self._lock.release()

    def _sum_up(self, points: Sequence[Point], draw: bool, figures: bool) -> None:
        """Write the figures and the values of the sweep as a whole."""
        sweep = self.sweep
        sweep.ended = time.time_ns() // 1_000_000
        if points and draw:
            sweep.values = {"points": float(len(points))} | extremes(points)
            if sweep.parent and figures:
                write_figures(self._folder, partial(sweep_figures, points), sweep.name, self.undrawn)
        write_sweep(self._folder, sweep)
