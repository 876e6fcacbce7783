"""The points of workers that share no disk with the command: they return them through the tracking server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.points.clone import clone_id
from pipeline.points.job import Job
from pipeline.points.sweep_record import SweepRecord
from pipeline.system.errors import LabError, explain

# This module imports MLflow, which is needed only for nodes without a shared disk.
if TYPE_CHECKING:
    from pipeline.tracking.tracker import Tracker


class ServerPoints:
    """Fetches the points of one sweep from its tracking server, and closes the runs of those that were lost.

    Args:
        sweep: the record of the command, with the study and the store.
        root: folder that holds .points/.
    """

    def __init__(self, sweep: SweepRecord, root: Path) -> None:
        self._sweep = sweep
        self._root = root

    def check(self) -> None:
        """Check that the sweep has a tracking server.

        Raises:
            LabError: it has none, so that workers could not return their points.
        """
        tracking = self._sweep.tracking.name
        if tracking != "server":
            raise LabError(
                "Workers have no way to return their points.",
                expected="tracking=server, through which nodes without a shared disk return trained points",
                received=f"hydra.launcher.shared_disk=false with tracking={tracking}",
                fix="add tracking=server tracking.uri=ADDRESS, or hydra.launcher.shared_disk=true",
            )

    def tracker(self) -> Tracker:
        """Connect to the tracking server.

        Raises:
            LabError: the server does not answer.
        """
        from pipeline.tracking.tracker import Tracker

        return Tracker(self._sweep.tracking, self._sweep.study, self._root)

    def fetch(self, jobs: Sequence[Job], replaced: Mapping[str, Sequence[str | None]]) -> dict[str, LabError]:
        """Fetch points that MLflow has.

        Args:
            jobs: the points.
            replaced: by signature, the attempts that existed before this command and are to be replaced, the complete
                one first.

        Returns:
            The errors of those that could not be fetched, by signature.
        """
        from pipeline.tracking.transfer import fetch_point

        errors: dict[str, LabError] = {}
        if jobs:
            try:
                tracker = self.tracker()
            except LabError as error:
                return {job.signature: error for job in jobs}
            for job in jobs:
                # With `force`, the complete attempt from before this command must not be fetched.
                try:
                    fetch_point(tracker, job, excluded_attempt=replaced.get(job.signature, [None])[0])
                except Exception as error:  # noqa: BLE001 - an error of our own must not cost the other points
                    errors[job.signature] = explain(error)
        return errors

    def close_runs(self, jobs: Sequence[Job]) -> None:
        """Set the runs of lost workers to KILLED."""
        # This machine has no folders of these points, so the command's sync does not know their runs. If MLflow does
        # not answer, their status stays as it is.
        from pipeline.tracking.ownership import is_ours

        if jobs:
            with suppress(LabError):
                tracker = self.tracker()
                clone = clone_id(self._root)
                for run in [run for job in jobs for run in tracker.runs(job.signature) if run.status == "RUNNING"]:
                    # Another clone may be training the same point.
                    if is_ours(tracker, run, clone):
                        tracker.end_run(run.run_id, "KILLED")
