"""The connection of a sync to its store, opened on first use, and the question whether the whole store has failed."""

from __future__ import annotations

from pathlib import Path

from pipeline.points.sweep_record import SweepRecord
from pipeline.system.errors import LabError, UnavailableError
from pipeline.tracking.ownership import kill_orphans
from pipeline.tracking.tracker import Tracker


class Connection:
    """The experiment of a sweep in its store.

    Args:
        root: folder that holds .points/ and mlruns/.
        sweep: the record of the command, with the study and the store.
        of_worker: whether a worker connects. A command also ends the runs whose process has exited.
    """

    def __init__(self, root: Path, sweep: SweepRecord, of_worker: bool) -> None:
        self._root = root
        self._sweep = sweep
        self._of_worker = of_worker
        self._tracker: Tracker | None = None

    def tracker(self) -> Tracker:
        """Return the tracker, opening it on the first call.

        Raises:
            LabError: the store or the experiment cannot be used at all.
        """
        if self._tracker is None:
            tracker = Tracker(self._sweep.tracking, self._sweep.study, self._root)
            if not self._of_worker:
                kill_orphans(tracker)
            self._tracker = tracker
        return self._tracker

    def reopen_if_deleted(self) -> bool:
        """Open the experiment again if it was deleted in MLflow; return whether it was."""
        if self.tracker().has_experiment():
            return False
        # Opening it again restores it with its runs, or makes another one if it was deleted for good.
        self._tracker = None
        self.tracker()
        return True

    def check(self) -> None:
        """Find out whether the whole store has failed, or only one item.

        Raises:
            UnavailableError: no call succeeds.
        """
        if self._tracker is None:
            return
        try:
            self._tracker.has_experiment()
        except LabError as error:
            raise UnavailableError(
                "MLflow does not work.", expected="a store that answers", received=error.received
            ) from None
