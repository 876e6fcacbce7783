"""Attempts at points, and what a sync reads of one on disk: whether it is there, complete or failed, and its results.

Everything is read from its folder, so it makes no difference which process trains the point, or when.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.config.schema import Config
from pipeline.points.folder import ERROR, PointFolder
from pipeline.points.job import Job
from pipeline.points.point import Point
from pipeline.points.reading import RunRecord, read_attempt, read_own_config, read_own_point, read_run
from pipeline.points.sweep_record import SweepRecord
from pipeline.system.errors import DamagedError


@dataclass(frozen=True)
class Attempt:
    """An attempt to sync: the name and signature of its point, and the id of the attempt (see points/job.py)."""

    name: str
    signature: str
    attempt_id: str


def attempts(jobs: Iterable[Job]) -> list[Attempt]:
    """Return the attempts that a command is making or has found complete; points without an attempt are skipped."""
    return [Attempt(job.name, job.signature, job.run.attempt) for job in jobs if job.run is not None]


class AttemptFolder:
    """Reads the folder of one attempt, which is in training or at its final path.

    Args:
        folder: the folder of the point.
        attempt: the attempt; a folder with a different attempt is treated as missing.
        sweep: the record of the command, with the study and the store.

    Attributes:
        of_point: the folder of the point, whichever attempt it has.
        config: the config of the point, once its folder is found.
    """

    def __init__(self, folder: PointFolder, attempt: Attempt, sweep: SweepRecord) -> None:
        self.of_point = folder
        self.config: Config | None = None
        self._attempt = attempt
        self._sweep = sweep
        self._run: RunRecord | None = None
        self._point: Point | None = None

    def look(self) -> bool:
        """Look for the folder of the attempt, read its run.json and config, and return whether the folder was found.

        Raises:
            LabError: the folder exists, but its config cannot be read.
        """
        for folder in (self.of_point.path, self.of_point.final):
            run = read_run(folder)
            if run is None or run.attempt != self._attempt.attempt_id:
                continue
            try:
                config = read_own_config(folder)
            except DamagedError:
                if folder.exists():
                    raise
                # The point was completed after `read_run`, and its folder was renamed to the final path.
                continue
            # The point may have been trained for another study or another store.
            target = {"study": self._sweep.study, "tracking": self._sweep.tracking}
            self._run = run
            self.config = config.model_copy(update=target)
            return True
        return False

    def started(self) -> tuple[RunRecord, Config]:
        """Return the run.json and the config that `look` has read."""
        if self._run is None or self.config is None:
            raise RuntimeError("`look` has not found the attempt")
        return self._run, self.config

    def is_in_training(self) -> bool:
        """Return whether the folder of a point in training is of the attempt, which may have failed."""
        return read_attempt(self.of_point.path) == self._attempt.attempt_id

    def is_complete(self) -> bool:
        """Return whether the attempt has completed the point."""
        return read_attempt(self.of_point.final) == self._attempt.attempt_id

    def error(self) -> str | None:
        """Return why the attempt failed; None if it has not failed."""
        try:
            return (self.of_point.path / ERROR).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def point(self) -> Point:
        """Return the trained point, reading it on the first call.

        Raises:
            LabError: the point cannot be read.
        """
        if self._point is None:
            self._point = read_own_point(self.of_point.final, self._attempt.name, self._attempt.signature)
        return self._point
