"""Sends the rows of a journal to MLflow while a point trains."""

from __future__ import annotations

from itertools import islice

from pipeline.backends.shared.history import Metric
from pipeline.points.checkpoint import covered_rows
from pipeline.points.folder import CHECKPOINT, HEADER, JOURNAL, PointFolder
from pipeline.points.reading import read_journal
from pipeline.system.files import MISSING, modified_ns
from pipeline.tracking.tracker import Tracker
from pipeline.tracking.transfer import CheckpointSender


class JournalRows:
    """Sends each row of the journal of a point once, as soon as a checkpoint covers it.

    Later rows are not sent, because training that resumes from the checkpoint writes them again, with new timestamps.

    Args:
        folder: the folder of the point.
        checkpoints: sends checkpoints to MLflow, for a worker without a shared disk; None to keep them local.

    Attributes:
        sent: the number of rows that MLflow has accepted.
    """

    def __init__(self, folder: PointFolder, checkpoints: CheckpointSender | None) -> None:
        self.sent = 0
        self._folder = folder
        self._checkpoints = checkpoints
        # The length of the rows that were sent, and the modification time of the checkpoint that covers them. The same
        # time means that there are no new rows to send.
        self._bytes = len(HEADER)
        self._checkpoint_time = 0

    def send(self, tracker: Tracker, run_id: str) -> None:
        """Send the new rows that are covered by a checkpoint.

        Raises:
            LabError: MLflow rejects them.
        """
        checkpoint_time = modified_ns(self._folder.path / CHECKPOINT)
        limit = None
        if self._checkpoints is not None:
            limit = self._checkpoints.send(tracker, run_id, self._folder)
        elif checkpoint_time == self._checkpoint_time:
            return
        found = self._new_rows(limit)
        if found is None:
            return
        metrics, length = found
        tracker.log_metrics(run_id, metrics)
        # After the call, so that rows that MLflow did not accept are sent again.
        self.sent += len(metrics)
        self._bytes += length
        self._checkpoint_time = checkpoint_time

    def _new_rows(self, limit: int | None) -> tuple[list[Metric], int] | None:
        """Return new rows of the journal, and their length in bytes; None if they cannot be read now.

        `limit` is the number of rows covered by the last checkpoint sent, if checkpoints are sent.
        """
        try:
            rows = covered_rows(self._folder.path / CHECKPOINT)
            if limit is not None:
                rows = min(rows, limit)
            new = max(rows - self.sent, 0)
            with (self._folder.path / JOURNAL).open("rb") as journal:
                journal.seek(self._bytes)
                text = b"".join(islice(journal, new))
            # The journal is truncated; training will detect this when it resumes.
            if text.count(b"\n") < new:
                return None
            return read_journal(HEADER + text), len(text)
        except (*MISSING, ValueError):
            # The files do not exist yet, or the point has just been completed.
            return None
