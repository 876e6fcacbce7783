"""Syncs the MLflow run of a sweep itself, below which MLflow shows the runs of its points."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from pipeline.points.point import Point
from pipeline.points.reading import read_run
from pipeline.points.sweep_record import SweepRecord, sweep_folder
from pipeline.studies.groups import best_points
from pipeline.system.failures import Parts
from pipeline.tracking.models import log_models
from pipeline.tracking.pages.presentation import DIAGNOSIS, present_diagnosis, present_sweep
from pipeline.tracking.runs import BEST, SweepRun, await_sweep, find_sweep, open_sweep, send_sweep
from pipeline.tracking.tracker import Tracker


class ParentRun:
    """The run of a sweep; a single point has none.

    Args:
        root: folder that holds .points/.
        sweep: the record of the command.
        owner: the process that trains, from `processes.owner`.
        check: called after a part failed; raises UnavailableError if all others would fail too.

    Attributes:
        parts: the parts of the run, with the errors of those that could not be sent.
    """

    def __init__(self, root: Path, sweep: SweepRecord, owner: str, check: Callable[[], None]) -> None:
        self.parts = Parts(check)
        self._folder = sweep_folder(root, sweep.key)
        self._sweep = sweep
        self._owner = owner
        self._run: SweepRun | None = None

    @property
    def run_id(self) -> str | None:
        """Its id; None for a single point, and until the run exists."""
        if self._run is None:
            return None
        return self._run.run_id

    @property
    def settled(self) -> bool:
        """Whether everything is sent."""
        return self._run is not None and self._run.settled

    @property
    def missing(self) -> bool:
        """Whether the sweep has a run, which is not known yet."""
        return self._sweep.parent and self._run is None

    def open(self, tracker: Tracker, clone: str) -> None:
        """Find the run that a clone has for the sweep, or create it."""
        self._run = open_sweep(tracker, self._sweep, self._owner, clone, self._folder)

    def find(self, tracker: Tracker, clone: str, wait: bool) -> bool:
        """Find the run, which another process creates, and return whether it is there.

        Raises:
            LabError: with `wait`, it is not there after a while.
        """
        if wait:
            self._run = await_sweep(tracker, self._sweep, clone)
        else:
            self._run = find_sweep(tracker, self._sweep, clone)
        return self._run is not None

    def forget_if_deleted(self, tracker: Tracker) -> bool:
        """Forget the run if it was deleted in MLflow, so that another one is made; return whether it was."""
        if self._run is None or tracker.has_run(self._run.run_id):
            return False
        self._run = None
        self.parts.forget()
        return True

    def end_without_points(self, tracker: Tracker, ended: SweepRecord, clone: str) -> bool:
        """End the run of a sweep without points, if MLflow has such a run; return whether there was one to end."""
        found = find_sweep(tracker, ended, clone)
        if found is None or found.settled:
            return False
        send_sweep(tracker, found, ended, self._folder, self.parts)
        return True

    def lacks_models(self, tracker: Tracker, ended: SweepRecord, runs: Collection[str]) -> bool:
        """Whether the models of the best point were never asked for before, or their run was deleted in MLflow since.

        Args:
            tracker: the tracker of its experiment.
            ended: the final record of the sweep.
            runs: the runs of its points, by their ids.
        """
        if self._run is None or ended.models != "best":
            return False
        best = self._run.best
        return best is None or any(run_id not in runs and not tracker.has_run(run_id) for run_id in best)

    def send(
        self, tracker: Tracker, ended: SweepRecord, points: Sequence[Point], runs: Mapping[str, str], newest: bool
    ) -> None:
        """Send the results of the sweep, and the diagnoses that its points have beside each other.

        Args:
            tracker: the tracker of its experiment.
            ended: the final record of the sweep.
            points: its complete points, each judged against the others.
            runs: the runs of points by signature, which is also the name of a point's folder.
            newest: whether it is the last command with points of its study and backend.
        """
        if points:
            best: Sequence[tuple[Point, str]] = ()
            if ended.models == "best":
                best = [(one, runs[one.folder.name]) for one in best_points(points) if one.folder.name in runs]
                with self.parts.apart("models"):
                    self._send_best_models(tracker, best)
            with self.parts.apart("diagnoses"):
                self._send_diagnoses(tracker, points, runs)
            with self.parts.apart("answer"):
                present_sweep(tracker, self.run_id, ended, points, newest, [(one.name, run) for one, run in best])
        if self._run is not None:
            send_sweep(tracker, self._run, ended, self._folder, self.parts)

    def _send_best_models(self, tracker: Tracker, best: Sequence[tuple[Point, str]]) -> None:
        """Send the models of the best point of each backend, with all its seeds, and tag the sweep with their runs."""
        before = self.parts.count
        for point, run_id in best:
            log_models(tracker.client, tracker.experiment_id, run_id, point, partial(self._do_of, point.name))
        if self._run is not None and self.parts.count == before:
            self._run.best = tuple(run_id for _, run_id in best)
            tracker.tag(self._run.run_id, {BEST: " ".join(self._run.best)})

    def _do_of(self, name: str, part: str, action: Callable[[], object]) -> None:
        """Do a part of the point of this name."""
        self.parts.do(f"{part} of {name}", action)

    def _send_diagnoses(self, tracker: Tracker, points: Sequence[Point], runs: Mapping[str, str]) -> None:
        """Tag those points again whose diagnosis beside the others is not the one that their run has.

        Each was sent as soon as it was trained, judged alone, because the others were not there yet.
        """
        judged = [(runs[point.folder.name], point) for point in points if point.folder.name in runs]
        # A point alone has the diagnosis that it was sent with.
        if not any(point.reach is not None and point.reach.points > 1 for _, point in judged):
            return
        known = {run.run_id: run.tags.get(DIAGNOSIS) for run in tracker.runs()}
        for run_id, point in judged:
            with self.parts.apart(f"diagnosis of {point.name}"):
                if known.get(run_id) == point.diagnosis.label:
                    continue
                record = read_run(point.folder)
                if record is not None:
                    present_diagnosis(tracker, run_id, self.run_id, point, record)
