"""One attempt at a point between its folder and its MLflow run: rows first, then how it ended.

Everything is read from the disk, so that it makes no difference which process has trained the point, or when.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from pipeline.backends.shared.history import Metric
from pipeline.config.schema import Config
from pipeline.points.checkpoint import counted_rows
from pipeline.points.folder import CHECKPOINT, ERROR, HEADER, JOURNAL, PointFolder
from pipeline.points.job import Job
from pipeline.points.point import Point
from pipeline.points.reading import Run, read_attempt, read_journal, read_own_config, read_own_point, read_run
from pipeline.points.sweep_record import SweepRecord
from pipeline.system.errors import DamagedError
from pipeline.system.files import MISSING, written
from pipeline.tracking.pages.presentation import present_point
from pipeline.tracking.tracker import Status, TrackedRun, Tracker
from pipeline.tracking.transfer import CheckpointSender, drop_checkpoints


@dataclass(frozen=True)
class Attempt:
    """Which attempt at which point a sync keeps up with, and what the point is called."""

    name: str
    signature: str
    attempt: str


def attempts(jobs: Iterable[Job]) -> list[Attempt]:
    """The attempts that a command makes, or has found complete."""
    return [Attempt(job.name, job.signature, job.run.attempt) for job in jobs if job.run is not None]


class PointSync:
    """Keeps the MLflow run of one attempt up to date with its folder.

    Args:
        folder: the point's.
        attempt: which attempt is meant; a folder that holds another one counts as not there.
        sweep: whose study and store the run is for.
        checkpoints: sends checkpoints through MLflow, for a worker that shares no disk; None: they stay here.

    Attributes:
        config: the point's, once its folder was found.
        run_id: its MLflow run, once that was found or made.
        settled: whether MLflow has everything, and nothing more is to come.
    """

    def __init__(
        self, folder: PointFolder, attempt: Attempt, sweep: SweepRecord, checkpoints: CheckpointSender | None = None
    ) -> None:
        self.attempt = attempt
        self.config: Config | None = None
        self.run_id: str | None = None
        self.settled = False
        self._folder, self._sweep, self._checkpoints = folder, sweep, checkpoints
        self._run: Run | None = None
        self._point: Point | None = None
        self._rows = 0
        self._bytes = len(HEADER)
        self._seen = 0

    def look(self) -> bool:
        """Read how the attempt was asked for; returns whether its folder is there.

        Raises:
            LabError: it is, and its config cannot be read.
        """
        for folder in (self._folder.path, self._folder.final):
            run = read_run(folder)
            if run is None or run.attempt != self.attempt.attempt:
                continue
            try:
                config = read_own_config(folder)
            except DamagedError:
                if folder.exists():
                    raise
                continue  # it has just become complete
            # It may have been trained for another study, or for another store.
            place = {"study": self._sweep.study, "tracking": self._sweep.tracking}
            self._run, self.config = run, config.model_copy(update=place)
            return True
        return False

    def is_complete(self) -> bool:
        """Whether the attempt has come to a trained point."""
        return read_attempt(self._folder.final) == self.attempt.attempt

    def read(self) -> Point:
        """The trained point.

        Raises:
            LabError: it cannot be read.
        """
        if self._point is None:
            self._point = read_own_point(self._folder.final, self.attempt.name, self.attempt.signature)
        return self._point

    def open(self, tracker: Tracker, runs: Sequence[TrackedRun], belongs: Mapping[str, str], owner: str) -> None:
        """Find the MLflow run of the attempt, or make it.

        Args:
            tracker: of its experiment.
            runs: what there is with the point's signature.
            belongs: tags that say where the run belongs: its sweep, whose child it is, colour, views.
            owner: see `Sync`.
        """
        run, config = self._started()
        for there in runs:
            if there.tags.get("lab.attempt") != self.attempt.attempt:
                continue
            if "lab.complete" in there.tags and there.status == "FINISHED":
                self._take_over(tracker, there, runs, belongs)
            else:
                tracker.reopen_run(there.run_id, {**belongs, "lab.owner": owner})
                tracker.log_config(there.run_id, config, there.params)
            self.run_id = there.run_id
            return
        tags = run.tags | dict(belongs) | {
            "lab.role": "point",
            "lab.attempt": self.attempt.attempt,
            "lab.owner": owner,
            "signature": self.attempt.signature,
            "study": config.study,
            "backend": config.backend.name,
            "overrides": " ".join(run.overrides),
        }  # fmt: skip
        run_id = tracker.start_run(self.attempt.name, tags, run.started)
        tracker.log_config(run_id, config)
        self.run_id = run_id

    def _take_over(
        self, tracker: Tracker, there: TrackedRun, runs: Sequence[TrackedRun], belongs: Mapping[str, str]
    ) -> None:
        """MLflow has the complete point: say where it belongs now, and drop the runs of reruns that were given up."""
        if any(there.tags.get(key) != value for key, value in belongs.items()):
            tracker.tag(there.run_id, belongs)
        for other in runs:
            if other.run_id != there.run_id and other.status != "RUNNING":
                tracker.delete_run(other.run_id)
        self.settled = True

    def send(self, tracker: Tracker, parent: str | None, ended: Status | None = None) -> bool:
        """Send what is new, rows first, then how the attempt ended.

        Args:
            tracker: of its experiment.
            parent: the run of its sweep.
            ended: what an attempt has come to that is neither complete nor failed; None: it goes on.

        Returns:
            Whether it is complete.
        """
        run_id = self._opened()
        if self.is_complete():
            self._send_complete(tracker, run_id, parent)
            return True
        error = None
        if read_attempt(self._folder.path) == self.attempt.attempt:
            error = self._read_error()  # before the rows: a point that has failed gets no more of them
            self._send_rows(tracker, run_id)
        if error is not None:
            tracker.tag(run_id, {"error": error})
            ended = "FAILED"
        if ended is not None:
            tracker.end_run(run_id, ended)
            self.settled = True
        return False

    def _send_rows(self, tracker: Tracker, run_id: str) -> None:
        """Send new rows that a checkpoint counts on: training that goes on from it writes those behind it anew."""
        changed = written(self._folder.path / CHECKPOINT)
        limit = None
        if self._checkpoints is not None:
            limit = self._checkpoints.send(tracker, run_id, self._folder)
        elif changed == self._seen:
            return
        found = self._new_rows(limit)
        if found is None:
            return
        metrics, length = found
        tracker.log_metrics(run_id, metrics)
        self._rows += len(metrics)
        self._bytes += length
        self._seen = changed

    def _new_rows(self, limit: int | None) -> tuple[list[Metric], int] | None:
        """New rows of the journal, and how many bytes they take; None where they cannot be read now."""
        try:
            rows = counted_rows(self._folder.path / CHECKPOINT)
            if limit is not None:
                rows = min(rows, limit)
            new = max(rows - self._rows, 0)
            with (self._folder.path / JOURNAL).open("rb") as journal:
                journal.seek(self._bytes)
                text = b"".join(islice(journal, new))
            if text.count(b"\n") < new:  # cut short, which training finds when it goes on
                return None
            return read_journal(HEADER + text), len(text)
        except (*MISSING, ValueError):  # not there yet, or complete meanwhile
            return None

    def _send_complete(self, tracker: Tracker, run_id: str, parent: str | None) -> None:
        """Write the rest of a complete point, close its run, and drop the runs of attempts that it replaces."""
        run, config = self._started()
        point = self.read()
        history = point.history
        tracker.log_metrics(run_id, history.metrics[self._rows :])
        self._rows = len(history.metrics)
        ended = history.metrics[-1].timestamp if history.metrics else run.started
        tracker.log_outcome(run_id, config, point.outcome, ended)
        tracker.log_folder(run_id, point.folder)
        present_point(tracker, run_id, parent, point, run)
        tracker.tag(run_id, {"outcome": point.outcome.outcome, "lab.complete": "true"})
        tracker.end_run(run_id, "FINISHED", ended)
        for other in tracker.runs(self.attempt.signature):
            if other.run_id != run_id and other.tags.get("lab.role") == "point":
                tracker.delete_run(other.run_id)
        if self._checkpoints is not None:
            drop_checkpoints(tracker, run_id)
        self.settled = True

    def _read_error(self) -> str | None:
        """Why the attempt failed; None where it has not."""
        try:
            return (self._folder.path / ERROR).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _started(self) -> tuple[Run, Config]:
        if self._run is None or self.config is None:
            raise RuntimeError("`look` has not found the attempt")
        return self._run, self.config

    def _opened(self) -> str:
        if self.run_id is None:
            raise RuntimeError("`open` has not found or made the run")
        return self.run_id
