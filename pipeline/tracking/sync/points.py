"""Syncs one attempt at a point from its folder to its MLflow run: metrics first, then the outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from pipeline.points.folder import PointFolder
from pipeline.points.sweep_record import SweepRecord
from pipeline.system.errors import DamagedError
from pipeline.system.failures import Parts
from pipeline.tracking.models import chosen_epochs, log_models
from pipeline.tracking.ownership import CLONE, OWNER, drop_abandoned, heartbeat, is_ours
from pipeline.tracking.pages.presentation import DIAGNOSIS, NONE_YET, RESULT, RUN_NAME
from pipeline.tracking.sync.attempts import Attempt, AttemptFolder
from pipeline.tracking.sync.complete import (
    EARLIER,
    ESSENTIAL,
    STATUS,
    has_all,
    has_missing_parts,
    is_marked_complete,
    missing_tag,
    send_complete,
)
from pipeline.tracking.sync.placement import PARENT, adapted
from pipeline.tracking.sync.rows import JournalRows
from pipeline.tracking.tracked_run import TrackedRun
from pipeline.tracking.tracker import Status, Tracker
from pipeline.tracking.transfer import CheckpointSender, drop_checkpoints


class PointSync:
    """Syncs one attempt at a point from its folder to its MLflow run.

    Args:
        folder: the folder of the point.
        attempt: the attempt to sync.
        sweep: the record of the command, with the study and the store.
        checkpoints: sends checkpoints to MLflow, for a worker without a shared disk; None to keep them local.
        check: called after a part of the point failed; raises UnavailableError if all others would fail too.

    Attributes:
        attempt: the attempt to sync.
        folder: its folder, from which everything is read.
        run_id: its MLflow run, once it is found or created.
        settled: whether everything is sent; nothing more will follow.
        fetchable: whether the run has what another machine needs to fetch the point, even if other parts are missing.
        parts: the parts of the complete point, with the errors of those that could not be sent.
        parent: the run of the sweep under which the run is shown; None for a single point.
        ours: whether the run is of this clone.
        placement: the tags that place the run, as they were last wanted.
    """

    def __init__(
        self,
        folder: PointFolder,
        attempt: Attempt,
        sweep: SweepRecord,
        checkpoints: CheckpointSender | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.attempt = attempt
        self.folder = AttemptFolder(folder, attempt, sweep)
        self.run_id: str | None = None
        self.settled = False
        self.fetchable = False
        self.parts = Parts(check)
        self.parent: str | None = None
        self.ours = False
        self.placement: Mapping[str, str] = {}
        self._sweep = sweep
        self._checkpoints = checkpoints
        self._clone = ""
        # Whether the point had other runs when its own was found or created.
        self._has_earlier = False
        # Whether its run has everything but models, which an earlier command may not have wanted.
        self._whole = False
        self._rows = JournalRows(folder, checkpoints)

    def open(self, tracker: Tracker, runs: Sequence[TrackedRun], placement_tags: Mapping[str, str], owner: str) -> None:
        """Find the MLflow run of the attempt, or create it.

        Args:
            tracker: the tracker of its experiment.
            runs: the existing runs with the signature of the point.
            placement_tags: tags for its clone, sweep, parent run, colour and views.
            owner: the process that trains, from `processes.owner`.
        """
        run, config = self.folder.started()
        self.parent = placement_tags.get(PARENT)
        self.placement = placement_tags
        self.ours = True
        self._clone = placement_tags[CLONE]
        self._has_earlier = bool(runs)
        same = [existing for existing in runs if existing.tags.get("lab.attempt") == self.attempt.attempt_id]
        ours = [existing for existing in same if is_ours(tracker, existing, self._clone, self.attempt.attempt_id)]
        # Ours first: if the results of another clone were restored here, both have the same attempt.
        for existing in (*ours, *same):
            if self._is_whole(tracker, existing):
                self._take_over(tracker, existing, runs, placement_tags)
                self.run_id = existing.run_id
                return
        started = {**placement_tags, **heartbeat(), OWNER: owner}
        if ours:
            # A complete run of which only some parts could not be sent stays FINISHED.
            if is_marked_complete(ours[0]) and has_missing_parts(ours[0]):
                tracker.tag(ours[0].run_id, adapted(ours[0].tags, placement_tags))
            else:
                tracker.reopen_run(ours[0].run_id, adapted(ours[0].tags, started))
                tracker.log_config(ours[0].run_id, config, ours[0].params)
            self.run_id = ours[0].run_id
            return
        # On the page of the run, MLflow lists the tags in this order. Those of the program itself are last.
        tags = {
            RESULT: NONE_YET,
            DIAGNOSIS: NONE_YET,
            "study": config.study,
            "backend": config.backend.name,
            "overrides": " ".join(run.overrides),
            **run.tags,
            "signature": self.attempt.signature,
            **started,
            "lab.role": "point",
            "lab.attempt": self.attempt.attempt_id,
        }
        run_id = tracker.start_run(placement_tags.get(RUN_NAME, self.attempt.name), tags, run.started)
        tracker.log_config(run_id, config)
        # Set only now: if logging the config fails, the next call finds the new run and completes it.
        self.run_id = run_id

    def _is_whole(self, tracker: Tracker, run: TrackedRun) -> bool:
        """Whether a run has everything that `_send_complete` writes, apart from models."""
        if not is_marked_complete(run) or has_missing_parts(run):
            return False
        return not self.folder.is_complete() or has_all(tracker, run, self.folder.of_point.final)

    def _misses_models(self, run: TrackedRun) -> bool:
        """Whether the command asks for models that a whole run lacks, because an earlier command did not want them."""
        if not self._wants_models or run.models or not self.folder.is_complete():
            return False
        # Whoever needs a damaged point reports it.
        with suppress(DamagedError):
            return bool(chosen_epochs(self.folder.point()))
        return False

    def place(self, tracker: Tracker, placement_tags: Mapping[str, str]) -> None:
        """Show the run under another run of its sweep, because the earlier one was deleted or could not be created.

        Also if the labels of its points have changed, because their number was not known.
        """
        if self.ours:
            tracker.tag(self._opened(), placement_tags)
        self.parent = placement_tags.get(PARENT)
        self.placement = placement_tags

    def forget(self) -> None:
        """Forget the run, which was deleted in MLflow: the next `open` makes another one, and everything is sent."""
        self.run_id = None
        self._whole = False
        self.settled = False
        self.fetchable = False
        self.parts.forget()
        self._rows = JournalRows(self.folder.of_point, self._checkpoints)

    def _take_over(
        self, tracker: Tracker, complete: TrackedRun, runs: Sequence[TrackedRun], placement_tags: Mapping[str, str]
    ) -> None:
        """Use the complete run that MLflow already has, and delete our runs of abandoned attempts.

        Its tags and parameters are completed if it is ours. The run of another clone is left as it is.
        """
        self.ours = is_ours(tracker, complete, self._clone, self.attempt.attempt_id)
        if self.ours:
            changed = adapted(complete.tags, placement_tags)
            if any(complete.tags.get(key) != value for key, value in changed.items()):
                tracker.tag(complete.run_id, changed)
            tracker.log_config(complete.run_id, self.folder.started()[1], complete.params)
        drop_abandoned(tracker, complete.run_id, runs, self._clone, self.attempt.attempt_id)
        self._whole = True
        self.fetchable = True
        self.settled = not self._misses_models(complete)

    def send(self, tracker: Tracker, parent: str | None, final_status: Status | None = None) -> bool:
        """Send everything new: metrics first, then the outcome.

        Args:
            tracker: the tracker of its experiment.
            parent: the run of its sweep.
            final_status: the status of an attempt that neither completed nor failed; None if it is still running.

        Returns:
            Whether the attempt is complete.
        """
        run_id = self._opened()
        if self._whole:
            self._add_models(tracker, run_id)
            return True
        if self.folder.is_complete():
            self._send_complete(tracker, run_id, parent)
            return True
        error = None
        status = final_status
        if self.folder.is_in_training():
            # Read the error before the rows. If there is one, training has ended, so the rows read after it are all.
            error = self.folder.error()
            self._rows.send(tracker, run_id)
        if error is not None:
            tracker.tag(run_id, {"error": error})
            status = "FAILED"
        if status is not None:
            tracker.end_run(run_id, status)
            self.settled = True
        return False

    def _send_complete(self, tracker: Tracker, run_id: str, parent: str | None) -> None:
        """Send the rest of a complete point, close its run, and delete the runs of other attempts at the point."""
        run, _ = self.folder.started()
        point = self.folder.point()
        rows = self._rows.sent
        self.parts.do("metrics", lambda: tracker.log_metrics(run_id, point.history.metrics[rows:]))
        if self._wants_models:
            self._send_models(tracker, run_id)
        send_complete(tracker, run_id, parent, point, run, self.parts)
        self.fetchable = not self.parts.errors.keys() & {*ESSENTIAL, STATUS}
        if self.fetchable and self._has_earlier:
            with self.parts.apart(EARLIER):
                runs = tracker.runs(self.attempt.signature)
                drop_abandoned(tracker, run_id, runs, self._clone, self.attempt.attempt_id)
        if self.fetchable and self._checkpoints is not None:
            drop_checkpoints(tracker, run_id)
        self.settled = not self.parts.errors

    def _add_models(self, tracker: Tracker, run_id: str) -> None:
        """Add the models to a run that has everything else; it may be of another clone."""
        self._send_models(tracker, run_id)
        self.settled = not self.parts.errors
        if self.parts.errors and self.ours:
            # The next command sends them again, also if one of two models was accepted.
            tracker.tag(run_id, missing_tag(self.parts))

    def _send_models(self, tracker: Tracker, run_id: str) -> None:
        # Not one part: each model is one.
        with self.parts.apart("models"):
            log_models(tracker.client, tracker.experiment_id, run_id, self.folder.point(), self.parts.do)

    @property
    def _wants_models(self) -> bool:
        """Whether the point has models because all have; those of the best one are sent with the sweep."""
        return self._sweep.models in ("auto", "all")

    def _opened(self) -> str:
        """Return the run id that `open` has found or created."""
        if self.run_id is None:
            raise RuntimeError("`open` has not found or created the run")
        return self.run_id
