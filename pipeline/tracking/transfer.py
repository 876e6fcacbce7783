"""Transfers the folders of points through MLflow's artifact store, for nodes that do not share a disk.

The folder of a complete point is already among the artifacts of its run (sync/points.py); `fetch_point` downloads it to
the machine that started the sweep. While a point trains, its worker uploads the latest checkpoint from time to time,
alternating between `checkpoint/0.zip` and `checkpoint/1.zip`, so that one of them is always intact if the worker dies;
`fetch_checkpoint` lets another worker resume from it.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.points.checkpoint import read_checkpoint
from pipeline.points.folder import CHECKPOINT, JOURNAL, PointFolder
from pipeline.points.job import Job
from pipeline.points.reading import read_own_point, signed_in
from pipeline.system.errors import DamagedError, LabError
from pipeline.system.files import SUMS, atomic_folder, explained, modified_ns, named_files, readable
from pipeline.system.formats import stored_members
from pipeline.tracking.tracker import Tracker

log = logging.getLogger(__name__)

# The folder of checkpoints among the artifacts of a run.
FOLDER = "checkpoint"
# Minimum interval between two checkpoints of a run, and minimum pause after sending one, as a multiple of the time that
# sending took: sending takes at most about 5 % of the time.
SEND_SECONDS = 30.0
PAUSE_PER_SEND = 20
# The files that another node needs to resume. The checkpoint is copied first, because training may append to the
# journal meanwhile: the journal may have more rows than the checkpoint covers, but not fewer.
SENT = (CHECKPOINT, JOURNAL, "signed.json", "config.json", "run.json")


def fetch_point(tracker: Tracker, job: Job, excluded_attempt: str | None = None) -> bool:
    """Download a point that is complete in MLflow, replacing the local one.

    Args:
        tracker: the tracker of its experiment.
        job: the point.
        excluded_attempt: an attempt to ignore, because the point is being retrained.

    Returns:
        Whether MLflow has the complete point.

    Raises:
        LabError: MLflow does not answer, the files do not match what was sent, or the disk cannot be written.
    """
    # The newest run first, because all runs of a point have the same signature.
    for run in reversed(tracker.runs(job.signature)):
        complete = run.status == "FINISHED" and "lab.complete" in run.tags
        if not complete or run.tags.get("lab.attempt") == excluded_attempt:
            continue
        with explained(job.folder.final), atomic_folder(job.folder.final) as new:
            try:
                _download_point(tracker, run.run_id, job, new)
            except DamagedError as error:
                raise DamagedError(
                    f"{job.name} could not be fetched from MLflow.",
                    expected=f"the files of the point {job.signature} among the artifacts of its run {run.run_id}",
                    received=error.received or str(error),
                    fix="run the same command again; if that does not help, delete that run in MLflow so that the "
                    "point is retrained",
                ) from None
        return True
    return False


def _download_point(tracker: Tracker, run_id: str, job: Job, folder: Path) -> None:
    """Download a complete point and check it.

    Raises:
        DamagedError: a file is missing in MLflow, or does not match what was sent.
        LabError: MLflow does not answer, or a file cannot be read for another reason.
    """
    # The checksums list all other files.
    _download(tracker, run_id, SUMS, folder)
    with readable(f"{SUMS} of the run {run_id}", expected="the checksums of a point", fix=""):
        names = named_files((folder / SUMS).read_bytes())
    for name in names:
        _download(tracker, run_id, name, folder)
    read_own_point(folder, job.name, job.signature)


def _download(tracker: Tracker, run_id: str, name: str, folder: Path) -> None:
    """Download an artifact.

    Raises:
        DamagedError: MLflow does not have the artifact.
        LabError: MLflow does not answer.
    """
    try:
        tracker.download(run_id, name, folder)
    except LabError:
        # MLflow reports both in the same way, so check whether the artifact is listed.
        parent = str(PurePosixPath(name).parent)
        if parent == ".":
            parent = ""
        if name not in tracker.artifacts(run_id, parent):
            raise DamagedError(f"{name} is missing.", received=f"no {name} among them") from None
        raise


@dataclass(frozen=True)
class _Sent:
    """The last checkpoint sent to a run.

    Attributes:
        written: modification time of its file, in nanoseconds since 1970, by which a new checkpoint is recognized.
        due: the earliest time to send the next one, in seconds of `time.monotonic`.
        rows: number of journal rows that it covers.
    """

    written: int = 0
    due: float = 0.0
    rows: int = 0


class CheckpointSender:
    """Sends the checkpoints of points in training, at most every 30 s, taking up about 5 % of the time."""

    def __init__(self) -> None:
        self._sent: dict[str, _Sent] = {}
        self._slots: dict[str, int] = {}

    def send(self, tracker: Tracker, run_id: str, folder: PointFolder) -> int:
        """Send the checkpoint of a point if it is new and the previous one was sent long enough ago.

        Returns:
            Number of journal rows covered by the last checkpoint sent. Only the metrics in these rows may be sent,
            because a worker that resumes from it repeats everything later, and records new timestamps.
        """
        last = self._sent.get(run_id, _Sent())
        newest = modified_ns(folder.path / CHECKPOINT)
        if newest in (0, last.written) or time.monotonic() < last.due:
            return last.rows
        begun = time.monotonic()
        slot = 1 - self._slots.get(run_id, 1)
        rows = send_checkpoint(tracker, run_id, folder, slot)
        if rows is None:
            return last.rows
        # Only now: after a send that failed, the next one must replace the same archive, not the only intact one.
        self._slots[run_id] = slot
        now = time.monotonic()
        due = now + max(SEND_SECONDS, PAUSE_PER_SEND * (now - begun))
        self._sent[run_id] = _Sent(newest, due, rows)
        return rows


def send_checkpoint(tracker: Tracker, run_id: str, folder: PointFolder, slot: int) -> int | None:
    """Send the checkpoint of a point in training; `slot`, 0 or 1, selects the archive to replace.

    Returns:
        Number of journal rows that it covers; None if the point has no checkpoint, or has just been completed.

    Raises:
        LabError: MLflow rejects the checkpoint, it cannot be read, or there is not enough disk space for a copy.
    """
    with explained(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as scratch:
        try:
            for name in SENT:
                shutil.copy(folder.path / name, scratch)
        except FileNotFoundError:
            return None
        with readable(f"The checkpoint in {folder.path}", expected="one that training wrote", fix="retrain the point"):
            rows = read_checkpoint(Path(scratch) / CHECKPOINT).journal_rows
        packed = Path(scratch) / f"{slot}.zip"
        with zipfile.ZipFile(packed, "w") as archive:
            for name in SENT:
                archive.write(Path(scratch) / name, name)
        tracker.log_file(run_id, packed, FOLDER)
    return rows


def drop_checkpoints(tracker: Tracker, run_id: str) -> None:
    """Delete the checkpoints of a complete point."""
    # Users of a server may not have permission to delete artifacts. Leftovers are harmless, as the point is complete.
    with suppress(LabError):
        if tracker.artifacts(run_id, FOLDER):
            tracker.remove_artifacts(run_id, FOLDER)


def fetch_checkpoint(tracker: Tracker, job: Job) -> bool:
    """Download the latest intact checkpoint of a point that another node began, to resume from it.

    Args:
        tracker: the tracker of its experiment.
        job: the point, whose lock this process holds.

    Returns:
        Whether a checkpoint with a later epoch than the local one was found.
    """
    local_epoch = _epoch(job.folder.path)
    for run in reversed(tracker.runs(job.signature)):
        with explained(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as scratch:
            found = []
            for name in tracker.artifacts(run.run_id, FOLDER):
                tracker.download(run.run_id, name, Path(scratch))
                unpacked = _unpack(Path(scratch) / name, job.signature)
                if unpacked is not None:
                    found.append(unpacked)
            if found and max(found)[0] > local_epoch:
                _, folder = max(found)
                with explained(job.folder.path), atomic_folder(job.folder.path) as new:
                    shutil.copytree(folder, new, dirs_exist_ok=True)
                return True
    return False


def _unpack(packed: Path, signature: str) -> tuple[int, Path] | None:
    """Unpack an archive written by `send_checkpoint`.

    Returns:
        The epoch of the checkpoint, and its folder; None if it is damaged (which is reported) or of another point.
    """
    folder = packed.with_suffix("")
    try:
        with readable(f"The checkpoint {packed.name} in MLflow", expected=", ".join(SENT), fix=""):
            contents = dict(stored_members(packed))
            # Checked before anything is written: none of the names in SENT escapes the folder.
            if sorted(contents) != sorted(SENT):
                raise ValueError(f"it holds {', '.join(contents)}")
    except DamagedError as error:
        log.warning(f"skipped: {error}")
        return None
    with explained(folder):
        folder.mkdir(exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    epoch = _epoch(folder)
    if not epoch or signed_in(folder) != signature:
        return None
    return epoch, folder


def _epoch(folder: Path) -> int:
    """Return the epoch of the checkpoint in a folder; 0 if there is none, or it is damaged (which is reported).

    Raises:
        LabError: the checkpoint cannot be read for another reason.
    """
    file = folder / CHECKPOINT
    if not file.exists():
        return 0
    try:
        with readable(f"The checkpoint {file}", expected="one that training wrote", fix=""):
            return read_checkpoint(file).epoch
    except DamagedError as error:
        log.warning(f"skipped: {error}")
        return 0
