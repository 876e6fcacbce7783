"""Send results to MLflow that are on disk but missing from MLflow.

    python -m pipeline.rebuild [tracking=server tracking.uri=http://127.0.0.1:5000]

These are points that a server did not accept while they were trained, and points that DVC restored from its cache or
pulled from a remote. Points that MLflow already has completely are not changed, and neither are sweeps in training or
the runs of other clones on a shared server. Runs of processes that have exited get the status KILLED.
"""

from __future__ import annotations

if not __package__:
    raise SystemExit("error: this is a module; in the project's folder, type: python -m pipeline.rebuild")

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from pipeline.config.reading import read_folder, read_tracking
from pipeline.config.schema import Tracking
from pipeline.points.point import POINTS
from pipeline.points.reading import read_attempt, read_own_point
from pipeline.points.results import restore, warn_about_missing
from pipeline.points.sweep_lock import SweepLock
from pipeline.points.sweep_record import SweepPoint, SweepRecord, all_sweeps
from pipeline.system import cli
from pipeline.system.errors import LabError, UnavailableError
from pipeline.system.failures import Failures
from pipeline.system.last_line import doing
from pipeline.system.processes import owner
from pipeline.system.project import PROJECT, store_root
from pipeline.system.wording import counted, some
from pipeline.tracking.pages.shown import joins
from pipeline.tracking.sync.attempts import Attempt
from pipeline.tracking.sync.sweep import Sync

# Run as a command, __name__ is __main__, which is not below `pipeline`.
log = logging.getLogger("pipeline.rebuild")

REFUSED = "could not be sent to MLflow"
AGAIN = "Everything else was sent. Run the same command again to send the rest."
# Maximum number of unreadable points to list in a message.
SOME = 10


# The name of a sweep, the number of its points, and the number of points written now.
Sent = tuple[str, int, int]


def rebuild(
    tracking: Tracking, project: Path, results: Path, tell: Callable[[Sent], None] = lambda _sent: None
) -> list[Sent]:
    """Bring an MLflow store up to date with .points/ and the results folders.

    Points in .points/ that cannot be read are reported and skipped: they are damaged, or were written by an earlier
    version. Each results folder, study and point is handled on its own: what fails does not stop the others.

    Args:
        tracking: the store.
        project: folder that holds .points/.
        results: folder whose STUDY/BACKEND folders are copied to .points/ first.
        tell: called with the result of each sweep, as soon as it is sent.

    Returns:
        For each sweep its name, the number of its points, and the number of points written now.

    Raises:
        LabError: some results folders or records of sweeps cannot be read, or MLflow does not accept something; raised
            at the end, with a message for each cause.

    Example:
        >>> rebuild(Tracking(name="local", uri=None), PROJECT, PROJECT / "results")
        [('three_bits numpy', 14, 0)]
    """
    root = store_root(project)
    unread = Failures()
    for file in sorted(results.glob("*/*/sweep.json")):
        # A hidden folder is left if a process is killed while it writes results.
        if not file.parent.name.startswith("."):
            with unread.apart(str(file.parent.relative_to(results.parent))):
                restore(file.parent, root, tracking)
    sweeps = _sweeps(root, tracking, unread)
    found = _complete_points(root, {point.signature: point for sweep in sweeps for point in sweep.points})
    owners = _owners(sweeps)
    # The time of the last sweep of each study and backend, which the views show, without those that joined it.
    latest = {
        (sweep.study, found[point.signature].backend): sweep.when
        for sweep in sweeps
        if not joins(root, sweep, [one for one in sweeps if one.study == sweep.study])
        for point in sweep.points
        if point.signature in found
    }
    sender = _Sender(tell)
    for sweep in sweeps:
        complete = [point for point in sweep.points if point.signature in found]
        backends = {found[point.signature].backend for point in complete}
        own = [point for point in complete if sweep.key in owners[sweep.study, point.signature]]
        shown = any(sweep.when >= latest.get((sweep.study, backend), 0) for backend in backends)
        sync = Sync(root, sweep, owner(), newest=shown)
        sync.points.add(Attempt(point.name, point.signature, found[point.signature].attempt) for point in own)
        sender.send(sync, len(own))
    problems = [*unread.messages("could not be restored"), *sender.problems()]
    if problems:
        raise LabError("\n".join(problems))
    return sender.sent


def _sweeps(root: Path, tracking: Tracking, unread: Failures) -> list[SweepRecord]:
    """Return the sweeps of a store, oldest first, so that the newest sweep with a point replaces the others.

    `unread` gets the errors of records that cannot be read.
    """
    # An earlier version left a record for each batch of a sweep, all with one key. The last of them has all points.
    records = [sweep for _, sweep in all_sweeps(root, unread) if sweep.tracking == tracking]
    records.sort(key=lambda sweep: (sweep.ended or 0, sweep.asked))
    sweeps = list({sweep.key: sweep for sweep in records}.values())
    sweeps.sort(key=lambda sweep: sweep.when)
    for sweep in sweeps:
        # It was killed before it could record its end, or is training now and left alone below.
        if sweep.status == "RUNNING":
            sweep.status = "KILLED"
    return sweeps


def _owners(sweeps: Sequence[SweepRecord]) -> dict[tuple[str, str], list[str]]:
    """Return the sweeps, by their keys, that send a point of a study, by the study and the signature of the point.

    A point has only one MLflow run per study, which belongs to the newest sweep with this point. A later command for
    this point alone shows the run again, but leaves it where it is.
    """
    owners: dict[tuple[str, str], list[str]] = {}
    swept: dict[tuple[str, str], list[str]] = {}
    for sweep in sweeps:
        for point in sweep.points:
            target = (sweep.study, point.signature)
            if sweep.parent:
                swept[target] = [sweep.key]
                owners[target] = [sweep.key]
            else:
                owners[target] = [*swept.get(target, []), sweep.key]
    return owners


class _Sender:
    """Sends sweeps one after the other, and keeps what was sent and what failed.

    Args:
        tell: called with the result of each sweep, as soon as it is sent.
    """

    def __init__(self, tell: Callable[[Sent], None]) -> None:
        self.sent: list[Sent] = []
        self._tell = tell
        self._failed = Failures()
        # Studies whose store, or experiment, could not be used.
        self._away: dict[str, LabError] = {}

    def send(self, sync: Sync, points: int) -> None:
        """Send the points of a sweep, or end its run if it has none; `points` is their number."""
        sweep = sync.sweep
        # If two studies could not be sent, it is the store, for which the others would wait too.
        if sweep.study in self._away or len(self._away) > 1:
            return
        # Two sweeps may have the same study and backend.
        name = f"{sweep.name} (sweep {sweep.key})"
        try:
            with self._failed.apart(name):
                if SweepLock(sync.root, sweep.key).is_held():
                    log.info(f"{sweep.name}: left to the command that is training it")
                elif points:
                    with doing(f"writing {sweep.name} to MLflow:", points) as step:
                        sync.told = step.count
                        sync.send(ended=sweep)
                    self.sent.append((sweep.name, points, sync.completed))
                    self._tell(self.sent[-1])
                elif sweep.status != "FINISHED" and sync.end_without_points(sweep):
                    log.info(f"{sweep.name}: ended as {sweep.status}; none of its points is complete")
        except UnavailableError as error:
            self._away[sweep.study] = error
        self._failed.errors.update((f"{item} of {name}", error) for item, error in sync.failed().errors.items())

    def problems(self) -> list[str]:
        """Return a message for each cause of what was not sent."""
        problems = [*self._failed.messages(REFUSED), *dict.fromkeys(map(str, self._away.values()))]
        if problems and not self._away:
            problems.append(AGAIN)
        return problems


@dataclass(frozen=True)
class _Found:
    """A complete point: the id of its attempt, and its backend."""

    attempt: str
    backend: str


def _complete_points(root: Path, points: Mapping[str, SweepPoint]) -> dict[str, _Found]:
    """Return the complete points, by signature; unreadable points are reported."""
    found: dict[str, _Found] = {}
    unread: dict[str, LabError] = {}
    for signature, point in points.items():
        # A missing folder is normal: training of the point has not ended.
        folder = root / POINTS / signature
        if not folder.exists():
            continue
        try:
            backend = read_own_point(folder, point.name, signature).config.backend.name
        except LabError as error:
            unread[signature] = error
            continue
        attempt = read_attempt(folder)
        if attempt is not None:
            found[signature] = _Found(attempt, backend)
    if unread:
        names = some([*unread], SOME)
        log.warning(f"skipped: {counted(len(unread), 'unreadable point')} in .points/: {names}")
        log.warning(f"the first error: {next(iter(unread.values()))}")
    return found


def task(composed: DictConfig) -> None:
    """Rebuild the store. Hydra calls this with the composed config."""
    results = read_folder(composed, "results", PROJECT)
    try:
        if not rebuild(read_tracking(composed), PROJECT, results, _tell):
            print("nothing to write to this store")
    finally:
        warn_about_missing(PROJECT, results)


def _tell(sweep: Sent) -> None:
    name, points, sent = sweep
    written = "up to date"
    if sent:
        written = f"{sent} written"
    print(f"{name}: {counted(points, 'point')}, {written}")


if __name__ == "__main__":
    sys.exit(cli.run(task, "rebuild"))
