"""Metrics on their way out of a running training: to the journal, then to MLflow, off the training loop."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from pipeline.errors import LabError
from pipeline.history import History
from pipeline.points import PointFolder
from pipeline.tracking import Tracker

MIRROR_SECONDS = 2.0


class Mirror:
    """Writes new metrics to their journals and to MLflow, from a thread of its own, while the body of `with` trains.

    Args:
        tracker: writes to MLflow.
        runs: for each point its history, its folder and its run id.
    """

    def __init__(self, tracker: Tracker, runs: Sequence[tuple[History, PointFolder, str]]) -> None:
        self.tracker, self.runs = tracker, runs
        self.sent = [0] * len(runs)
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def __enter__(self) -> Mirror:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        self.thread.join()
        if error is None:
            self._send()
        else:
            with suppress(LabError):  # what ended the training is what has to be told
                self._send()

    def raise_error(self) -> None:
        """Raise what kept metrics from MLflow, if anything did; the journals are complete all the same."""
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while not self.stop.wait(MIRROR_SECONDS):
                self._send()
        except BaseException as error:
            self.error = error

    def _send(self) -> None:
        for place, (history, folder, run_id) in enumerate(self.runs):
            new = history.metrics[self.sent[place] :]
            if not new:
                continue
            folder.append(new)
            self.sent[place] += len(new)
            if self.error is None:
                try:
                    self.tracker.log_metrics(run_id, new)
                except LabError as error:
                    self.error = error
