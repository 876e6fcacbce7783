"""Transfers the folders of points through MLflow's artifact store, for nodes that do not share a disk.

The folder of a complete point is among the artifacts of its run anyway (sync/points.py); `fetch_point` downloads it to
the machine that started the sweep. While a point trains, its worker sends the newest checkpoint from time to time,
alternating between `checkpoint/0.zip` and `checkpoint/1.zip`, so that one of them is whole whenever the worker dies;
`fetch_checkpoint` lets another worker continue from there.
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
from pipeline.system.files import SUMS, explained, named_files, readable, written, written_whole
from pipeline.system.formats import stored_members
from pipeline.tracking.tracker import Tracker

log = logging.getLogger(__name__)

# The folder of checkpoints among the artifacts of a run.
FOLDER = "checkpoint"
# A checkpoint is sent at most this often, and pauses last 20 times as long as sending takes: about 5 % of the time.
SEND_SECONDS = 30.0
PAUSE_PER_SEND = 20
# What another node needs to continue. The checkpoint is copied first, because training may append to the journal
# meanwhile: rows that the checkpoint does not count are ignored, but rows that it counts must not be missing.
SENT = (CHECKPOINT, JOURNAL, "signed.json", "config.json", "run.json")


def fetch_point(tracker: Tracker, job: Job, excluded_attempt: str | None = None) -> bool:
    """Download a point that is complete in MLflow, and replace the local one.

    Args:
        tracker: the tracker of its experiment.
        job: the point.
        excluded_attempt: an attempt that does not count, because the point is to be trained again.

    Returns:
        Whether MLflow has the point.

    Raises:
        LabError: MLflow does not answer, the files differ from those that were sent, or the disk cannot be written.
    """
    # The newest run first: reruns of a point keep its signature.
    for run in reversed(tracker.runs(job.signature)):
        complete = run.status == "FINISHED" and "lab.complete" in run.tags
        if not complete or run.tags.get("lab.attempt") == excluded_attempt:
            continue
        with explained(job.folder.final), written_whole(job.folder.final) as new:
            try:
                _download_point(tracker, run.run_id, job, new)
            except DamagedError as error:
                raise DamagedError(
                    f"{job.name} was not returned.",
                    expected=f"the files of the point {job.signature} among the artifacts of its run {run.run_id}",
                    received=error.received or str(error),
                    fix="run the same command again; if that does not help, delete that run in MLflow, and the point "
                    "is trained again",
                ) from None
        return True
    return False


def _download_point(tracker: Tracker, run_id: str, job: Job, folder: Path) -> None:
    """Download a complete point and check it.

    Raises:
        DamagedError: a file is missing in MLflow, or differs from the one that was sent.
        LabError: MLflow does not answer, or a file cannot be read for another reason.
    """
    # The list of checksums names all other files.
    _download(tracker, run_id, SUMS, folder)
    with readable(f"{SUMS} of the run {run_id}", expected="the checksums of a point", fix=""):
        names = named_files((folder / SUMS).read_bytes())
    for name in names:
        _download(tracker, run_id, name, folder)
    read_own_point(folder, job.name, job.signature)


def _download(tracker: Tracker, run_id: str, name: str, folder: Path) -> None:
    """Download an artifact, and tell a missing one from a server that does not answer."""
    try:
        tracker.download(run_id, name, folder)
    except LabError:
        # MLflow reports both in the same way, so look whether the artifact is listed.
        parent = str(PurePosixPath(name).parent)
        if parent == ".":
            parent = ""
        if name not in tracker.artifacts(run_id, parent):
            raise DamagedError(f"{name} is missing.", received=f"no {name} among them") from None
        raise


@dataclass(frozen=True)
class _Sent:
    """The checkpoint of a run that was sent last.

    Attributes:
        written: when it was written, nanoseconds since 1970.
        due: when the next one may be sent, in the seconds of `time.monotonic`.
        rows: how many rows of the journal it counts on.
    """

    written: int = 0
    due: float = 0.0
    rows: int = 0


class CheckpointSender:
    """Sends the checkpoints of points that train, at most every 30 s, using about 5 % of the time."""

    def __init__(self) -> None:
        self._sent: dict[str, _Sent] = {}
        self._slots: dict[str, int] = {}

    def send(self, tracker: Tracker, run_id: str, folder: PointFolder) -> int:
        """Send the checkpoint of a point if it is a new one and the last was sent long enough ago.

        Returns:
            How many rows of the journal the checkpoint that was sent last counts on. Only the metrics in these rows may
            be sent: a worker that continues from there trains what follows again, with other timestamps.
        """
        last = self._sent.get(run_id, _Sent())
        newest = written(folder.path / CHECKPOINT)
        if newest in (0, last.written) or time.monotonic() < last.due:
            return last.rows
        begun = time.monotonic()
        slot = 1 - self._slots.get(run_id, 1)
        self._slots[run_id] = slot
        rows = send_checkpoint(tracker, run_id, folder, slot)
        if rows is None:
            return last.rows
        now = time.monotonic()
        due = now + max(SEND_SECONDS, PAUSE_PER_SEND * (now - begun))
        self._sent[run_id] = _Sent(newest, due, rows)
        return rows


def send_checkpoint(tracker: Tracker, run_id: str, folder: PointFolder, slot: int) -> int | None:
    """Send the checkpoint of a point that trains; `slot`, 0 or 1, chooses the archive to replace.

    Returns:
        How many rows of the journal it counts on; None where the point has no checkpoint, or has become complete.

    Raises:
        LabError: MLflow does not accept it, it cannot be read, or there is no room for a copy.
    """
    with explained(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as scratch:
        try:
            for name in SENT:
                shutil.copy(folder.path / name, scratch)
        except FileNotFoundError:
            return None
        with readable(f"The checkpoint in {folder.path}", expected="one that training wrote", fix="train it again"):
            rows = read_checkpoint(Path(scratch) / CHECKPOINT).journal_rows
        packed = Path(scratch) / f"{slot}.zip"
        with zipfile.ZipFile(packed, "w") as archive:
            for name in SENT:
                archive.write(Path(scratch) / name, name)
        tracker.log_file(run_id, packed, FOLDER)
    return rows


def drop_checkpoints(tracker: Tracker, run_id: str) -> None:
    """Delete the checkpoints of a complete point."""
    # Users of a server may not be allowed to delete artifacts, and leftovers do no harm.
    with suppress(LabError):
        if tracker.artifacts(run_id, FOLDER):
            tracker.remove_artifacts(run_id, FOLDER)


def fetch_checkpoint(tracker: Tracker, job: Job) -> bool:
    """Continue a point that another node began: download its newest checkpoint that is whole.

    Args:
        tracker: the tracker of its experiment.
        job: the point, whose lock this process holds.

    Returns:
        Whether there was one of a later epoch than the local one.
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
                with explained(job.folder.path), written_whole(job.folder.path) as new:
                    shutil.copytree(folder, new, dirs_exist_ok=True)
                return True
    return False


def _unpack(packed: Path, signature: str) -> tuple[int, Path] | None:
    """Unpack an archive of `send_checkpoint`.

    Returns:
        The epoch of the checkpoint, and its folder; None where it is damaged, which is reported, or of another point.
    """
    folder = packed.with_suffix("")
    try:
        with readable(f"The checkpoint {packed.name} in MLflow", expected=", ".join(SENT), fix=""):
            contents = dict(stored_members(packed))
            # Names are compared before anything is written: none of SENT leads out of the folder.
            if sorted(contents) != sorted(SENT):
                raise ValueError(f"it holds {', '.join(contents)}")
    except DamagedError as error:
        log.warning(f"left out: {error}")
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
    """Return the epoch of the checkpoint in a folder; 0 where there is none, or a damaged one, which is reported.

    Raises:
        LabError: it cannot be read for another reason.
    """
    file = folder / CHECKPOINT
    if not file.exists():
        return 0
    try:
        with readable(f"The checkpoint {file}", expected="one that training wrote", fix=""):
            return read_checkpoint(file).epoch
    except DamagedError as error:
        log.warning(f"left out: {error}")
        return 0
