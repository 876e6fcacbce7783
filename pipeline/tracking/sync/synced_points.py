"""The points that one sync sends: which there are, what of them is still to be sent, and what could not be sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.points.folder import PointFolder
from pipeline.points.point import Point
from pipeline.points.sweep_record import SweepRecord
from pipeline.studies.reach import judged_in_study
from pipeline.system.errors import LabError
from pipeline.system.failures import Failures
from pipeline.tracking.sync.attempts import Attempt
from pipeline.tracking.sync.points import PointSync
from pipeline.tracking.tracker import Tracker
from pipeline.tracking.transfer import CheckpointSender


class SyncedPoints:
    """The points of a command, in the order in which they were added; more may be added while they are sent.

    Args:
        root: folder that holds .points/.
        sweep: the record of the command.
        failures: where the errors of `apart` are kept.
        check: called after a part of a point failed; raises UnavailableError if all others would fail too.
        checkpoints: sends checkpoints to MLflow, for a worker without a shared disk; None to keep them local.
    """

    def __init__(
        self,
        root: Path,
        sweep: SweepRecord,
        failures: Failures,
        check: Callable[[], None],
        checkpoints: CheckpointSender | None,
    ) -> None:
        self._root = root
        self._sweep = sweep
        self._failures = failures
        self._check = check
        self._checkpoints = checkpoints
        self._by_signature: dict[str, PointSync] = {}
        self._names: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self._by_signature)

    def __iter__(self) -> Iterator[PointSync]:
        """Iterate over those that are there now."""
        # A copy, because the training thread adds points.
        return iter(list(self._by_signature.values()))

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Add attempts to send; a new attempt at a known point replaces the old one, known attempts are ignored."""
        for attempt in attempts:
            known = self._by_signature.get(attempt.signature)
            if known is None:
                self._names[attempt.name] += 1
            if known is None or known.attempt != attempt:
                folder = PointFolder(self._root, attempt.signature)
                point = PointSync(folder, attempt, self._sweep, self._checkpoints, self._check)
                self._by_signature[attempt.signature] = point

    def pending(self) -> list[str]:
        """Return the names of the points that MLflow does not have completely yet."""
        return [point.attempt.name for point in self if not point.settled]

    def unreturned(self) -> list[PointSync]:
        """Return the points that another machine cannot fetch from MLflow."""
        # A run that is FINISHED although a part of it could not be sent can be fetched.
        return [point for point in self if not (point.settled or point.fetchable)]

    def without_run(self) -> list[PointSync]:
        """Return the points that have a folder, but no run yet."""
        found = []
        for point in self:
            if point.run_id is None:
                with self.apart("the folder", point):
                    if point.folder.look():
                        found.append(point)
        return found

    def forget_if_deleted(self, tracker: Tracker, every: bool) -> bool:
        """Forget the runs that were deleted in MLflow, so that others are made; return whether there were any.

        Args:
            tracker: the tracker of their experiment.
            every: whether to ask for the run of each point; otherwise only of those of which something has failed.
        """
        forgotten = False
        for point in self:
            asked = every or bool(point.parts.errors) or self.has_failed(point, "the run", "the place", "the progress")
            if asked and point.run_id is not None and not tracker.has_run(point.run_id):
                point.forget()
                forgotten = True
        return forgotten

    def configs(self) -> list[Config]:
        """Return the configs of the points whose folders were found."""
        return [point.folder.config for point in self if point.folder.config is not None]

    def judged(self) -> dict[str, Point]:
        """Return the complete points by signature, each judged against the others, or alone if that fails."""
        points = {}
        for point in self:
            if point.folder.is_complete():
                with self.apart("the results", point):
                    points[point.attempt.signature] = point.folder.point()
        judged = list(points.values())
        with self._failures.apart(f"the comparison of the points of {self._sweep.name}"):
            # If this fails, each point keeps the diagnosis that it has alone.
            judged = judged_in_study(self._root, self._sweep, judged)
        return dict(zip(points, judged, strict=True))

    def apart(self, what: str, point: PointSync) -> AbstractContextManager[None, bool]:
        """Keep the error that the block raises about something of a point, for instance `the run`.

        Raises:
            UnavailableError: as `Failures.apart`.
        """
        return self._failures.apart(self._item(what, point))

    def has_failed(self, point: PointSync, *whats: str) -> bool:
        """Whether one of these failed the last time, each as named in `apart`."""
        return any(self._item(what, point) in self._failures.errors for what in whats)

    def errors(self) -> dict[str, LabError]:
        """Return the errors of the parts of complete points that could not be sent, by part and point."""
        return {self._item(f"the {part}", point): e for point in self for part, e in point.parts.errors.items()}

    def _item(self, what: str, point: PointSync) -> str:
        """Return the name of something about a point for messages, unique in this sweep."""
        item = f"{what} of {point.attempt.name}"
        # Two profiles, for instance, may give two points the same name.
        if self._names[point.attempt.name] > 1:
            item += f" ({point.attempt.signature})"
        return item
