"""Keeps the MLflow run of one attempt at a point up to date with its folder: rows first, then how it ended.

Everything is read from disk, so it makes no difference which process trains the point, or when.
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
    """An attempt at a point that a sync keeps up to date: name and signature of the point, id of the attempt."""

    name: str
    signature: str
    attempt: str


def attempts(jobs: Iterable[Job]) -> list[Attempt]:
    """Return the attempts that a command makes or has found complete; jobs that have not begun are left out."""
    return [Attempt(job.name, job.signature, job.run.attempt) for job in jobs if job.run is not None]


class PointSync:
    """Keeps the MLflow run of one attempt up to date with its folder.

    Args:
        folder: the folder of the point.
        attempt: the attempt; a folder that holds another attempt is ignored.
        sweep: the record of the command, whose study and store the run is for.
        checkpoints: sends checkpoints to MLflow, for a worker that does not share a disk; None to send none.

    Attributes:
        config: the config of the point, once its folder was found.
        run_id: its MLflow run, once it was found or created.
        settled: whether MLflow has everything, and nothing more will come.
    """

    def __init__(
        self, folder: PointFolder, attempt: Attempt, sweep: SweepRecord, checkpoints: CheckpointSender | None = None
    ) -> None:
        self.attempt = attempt
        self.config: Config | None = None
        self.run_id: str | None = None
        self.settled = False
        self._folder = folder
        self._sweep = sweep
        self._checkpoints = checkpoints
        self._run: Run | None = None
        self._point: Point | None = None
        # How far the journal was sent, in rows and in bytes, and when the checkpoint was written that counted on it.
        self._rows = 0
        self._bytes = len(HEADER)
        self._seen = 0

    def look(self) -> bool:
        """Look for the folder of the attempt, and read how it was started; returns whether the folder exists.

        Raises:
            LabError: the folder exists, but its config cannot be read.
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
                # The point has become complete since `read_run`, and its folder was moved to the final path.
                continue
            # The point may have been trained for another study, or for another store.
            target = {"study": self._sweep.study, "tracking": self._sweep.tracking}
            self._run = run
            self.config = config.model_copy(update=target)
            return True
        return False

    def is_complete(self) -> bool:
        """Return whether the attempt has become a trained point."""
        return read_attempt(self._folder.final) == self.attempt.attempt

    def read(self) -> Point:
        """Return the trained point, which is read once.

        Raises:
            LabError: it cannot be read.
        """
        if self._point is None:
            self._point = read_own_point(self._folder.final, self.attempt.name, self.attempt.signature)
        return self._point

    def open(self, tracker: Tracker, runs: Sequence[TrackedRun], belongs: Mapping[str, str], owner: str) -> None:
        """Find the MLflow run of the attempt, or create it.

        Args:
            tracker: the tracker of its experiment.
            runs: the existing runs with the signature of the point.
            belongs: tags that say where the run belongs: its sweep and parent run, colour, views.
            owner: the process that trains; see `Sync`.
        """
        run, config = self._started()
        for existing in runs:
            if existing.tags.get("lab.attempt") != self.attempt.attempt:
                continue
            if "lab.complete" in existing.tags and existing.status == "FINISHED":
                self._take_over(tracker, existing, runs, belongs)
            else:
                tracker.reopen_run(existing.run_id, {**belongs, "lab.owner": owner})
                tracker.log_config(existing.run_id, config, existing.params)
            self.run_id = existing.run_id
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
        # Set only now: if MLflow rejects the config, the next call finds the new run and completes it.
        self.run_id = run_id

    def _take_over(
        self, tracker: Tracker, complete: TrackedRun, runs: Sequence[TrackedRun], belongs: Mapping[str, str]
    ) -> None:
        """Use a complete run: update where it belongs, and delete the runs of attempts that were abandoned."""
        if any(complete.tags.get(key) != value for key, value in belongs.items()):
            tracker.tag(complete.run_id, belongs)
        for other in runs:
            # A run that is RUNNING belongs to another command, which trains the point again.
            if other.run_id != complete.run_id and other.status != "RUNNING":
                tracker.delete_run(other.run_id)
        self.settled = True

    def send(self, tracker: Tracker, parent: str | None, ended: Status | None = None) -> bool:
        """Send what is new: rows first, then how the attempt ended.

        Args:
            tracker: the tracker of its experiment.
            parent: the run of its sweep.
            ended: the status for an attempt that is neither complete nor failed; None while it continues.

        Returns:
            Whether the attempt is complete.
        """
        run_id = self._opened()
        if self.is_complete():
            self._send_complete(tracker, run_id, parent)
            return True
        error = None
        if read_attempt(self._folder.path) == self.attempt.attempt:
            # The error before the rows: a point with an error gets no more rows, so all of them are sent.
            error = self._read_error()
            self._send_rows(tracker, run_id)
        if error is not None:
            tracker.tag(run_id, {"error": error})
            ended = "FAILED"
        if ended is not None:
            tracker.end_run(run_id, ended)
            self.settled = True
        return False

    def _send_rows(self, tracker: Tracker, run_id: str) -> None:
        """Send new rows that a checkpoint counts on.

        Training that continues from the checkpoint writes the rows behind it again, with other timestamps.
        """
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
        # After the call: rows that MLflow did not accept are sent again.
        self._rows += len(metrics)
        self._bytes += length
        self._seen = changed

    def _new_rows(self, limit: int | None) -> tuple[list[Metric], int] | None:
        """Return new rows of the journal, and their length in bytes; None where they cannot be read now.

        `limit` is the number of rows in the checkpoint that was sent, if checkpoints are sent.
        """
        try:
            rows = counted_rows(self._folder.path / CHECKPOINT)
            if limit is not None:
                rows = min(rows, limit)
            new = max(rows - self._rows, 0)
            with (self._folder.path / JOURNAL).open("rb") as journal:
                journal.seek(self._bytes)
                text = b"".join(islice(journal, new))
            # A journal that was cut short is found by training when it continues.
            if text.count(b"\n") < new:
                return None
            return read_journal(HEADER + text), len(text)
        except (*MISSING, ValueError):
            # The folder does not have its files yet, or the point has become complete.
            return None

    def _send_complete(self, tracker: Tracker, run_id: str, parent: str | None) -> None:
        """Send the rest of a complete point, close its run, and delete the runs of attempts that it replaces."""
        run, config = self._started()
        point = self.read()
        history = point.history
        tracker.log_metrics(run_id, history.metrics[self._rows :])
        self._rows = len(history.metrics)
        # Times come from the point itself, so that `rebuild` writes the same run.
        ended = run.started
        if history.metrics:
            ended = history.metrics[-1].timestamp
        tracker.log_outcome(run_id, config, point.outcome, ended)
        tracker.log_folder(run_id, point.folder)
        present_point(tracker, run_id, parent, point, run)
        # Near the end, because `open` and `fetch_point` take this tag to mean that MLflow has all of the above.
        tracker.tag(run_id, {"outcome": point.outcome.outcome, "lab.complete": "true"})
        tracker.end_run(run_id, "FINISHED", ended)
        for other in tracker.runs(self.attempt.signature):
            if other.run_id != run_id and other.tags.get("lab.role") == "point":
                tracker.delete_run(other.run_id)
        if self._checkpoints is not None:
            drop_checkpoints(tracker, run_id)
        self.settled = True

    def _read_error(self) -> str | None:
        """Return why the attempt failed; None where it has not failed."""
        try:
            return (self._folder.path / ERROR).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _started(self) -> tuple[Run, Config]:
        """Return what `look` has read."""
        if self._run is None or self.config is None:
            raise RuntimeError("`look` has not found the attempt")
        return self._run, self.config

    def _opened(self) -> str:
        """Return the run that `open` has found or created."""
        if self.run_id is None:
            raise RuntimeError("`open` has not found or created the run")
        return self.run_id
