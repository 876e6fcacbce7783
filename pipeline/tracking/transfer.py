"""Points' folders through the artifact store, for nodes that share no disk.

A complete point's folder lies among its run's artifacts anyway (runs.send_point); `fetch_point` brings it home. While a
point trains, its worker sends its newest checkpoint now and then, in turn to `checkpoint/0.zip` and `checkpoint/1.zip`,
so that one of them is whole whenever it dies; `fetch_checkpoint` lets another worker go on from there.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.points.checkpoint import read_checkpoint
from pipeline.points.folder import CHECKPOINT, JOURNAL, PointFolder, read_run
from pipeline.points.job import Job, signed_in
from pipeline.points.point import UNREADABLE, read_point
from pipeline.system.errors import LabError
from pipeline.system.files import SUMS, explained, named_files, write_file, written, written_whole

if TYPE_CHECKING:
    from pipeline.tracking.tracker import Tracker

FOLDER = "checkpoint"
"""Where checkpoints are among a run's artifacts."""
SEND_SECONDS = 30.0
SENT = (CHECKPOINT, JOURNAL, "signed.json", "config.json", "run.json")
"""What it takes to go on. The checkpoint is first: the journal may be longer than it knows, not shorter."""


def fetch_point(tracker: Tracker, job: Job, but: str | None = None) -> bool:
    """Bring home a point that MLflow has whole, in place of the one that is here.

    Args:
        tracker: of its experiment.
        job: the point.
        but: an attempt that is not meant: it is trained again.

    Returns:
        Whether it has it.

    Raises:
        LabError: MLflow does not answer, what it has is not what was sent, or the disk cannot be written.
    """
    for run in reversed(tracker.runs(job.signature)):
        if run.status != "FINISHED" or "lab.complete" not in run.tags or run.tags.get("lab.attempt") == but:
            continue
        with explained(job.folder.final), written_whole(job.folder.final) as new:
            try:
                tracker.download(run.run_id, SUMS, new)
                for name in named_files((new / SUMS).read_bytes()):
                    tracker.download(run.run_id, name, new)
                point = read_point(new, job.name)
                if signed_in(new) != job.signature or not read_run(new):
                    raise ValueError(f"{point.name} is another point, or nothing tells how it was trained")
            except UNREADABLE as error:
                raise _damaged(job, run.run_id, str(error)) from None
            except LabError as error:
                raise _damaged(job, run.run_id, error.received or str(error)) from None
        return True
    return False


def _damaged(job: Job, run_id: str, reason: str) -> LabError:
    return LabError(
        f"{job.name} did not come home.",
        expected=f"the files of the point {job.signature} among the artifacts of its run {run_id}",
        received=reason,
        fix="run the same command again; if that does not help, delete that run in MLflow, and it is trained again",
    )


class CheckpointSender:
    """Sends the checkpoints of points that train, as often as takes a twentieth of the time, or is worth it."""

    def __init__(self) -> None:
        self._sent: dict[str, tuple[int, float, int]] = {}
        self._turns: dict[str, int] = {}

    def send(self, tracker: Tracker, run_id: str, folder: PointFolder) -> int:
        """Send a point's checkpoint, if there is a new one and the last was sent long enough ago.

        Returns:
            How many rows of its journal the last checkpoint has that was sent. Only these metrics may be sent too: who
            goes on from there trains what comes after them again, with other times.
        """
        newest = written(folder.path / CHECKPOINT)
        before, due, rows = self._sent.get(run_id, (0, 0.0, 0))
        if newest in (0, before) or time.monotonic() < due:
            return rows
        begun = time.monotonic()
        turn = self._turns[run_id] = 1 - self._turns.get(run_id, 1)
        try:
            rows = send_checkpoint(tracker, run_id, folder, turn)
        except FileNotFoundError:  # it became complete meanwhile
            return rows
        now = time.monotonic()
        self._sent[run_id] = newest, now + max(SEND_SECONDS, 20 * (now - begun)), rows
        return rows


def send_checkpoint(tracker: Tracker, run_id: str, folder: PointFolder, turn: int) -> int:
    """Send the checkpoint of a point that trains; `turn`, 0 or 1, says in whose place.

    Returns:
        How many rows of its journal it has.

    Raises:
        FileNotFoundError: the point has none, or does not train any more.
        LabError: MLflow does not take it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for name in SENT:
            shutil.copy(folder.path / name, scratch)
        rows = read_checkpoint(Path(scratch) / CHECKPOINT).journal_rows
        parcel = Path(scratch) / f"{turn}.zip"
        with explained(parcel), zipfile.ZipFile(parcel, "w") as archive:
            for name in SENT:
                archive.write(Path(scratch) / name, name)
        tracker.log_file(run_id, parcel, FOLDER)
    return rows


def drop_checkpoints(tracker: Tracker, run_id: str) -> None:
    """Take a run's checkpoints away, if we may: its point is complete, and what is left of them hurts nobody."""
    with suppress(LabError):
        if tracker.artifacts(run_id, FOLDER):
            tracker.remove_artifacts(run_id, FOLDER)


def fetch_checkpoint(tracker: Tracker, job: Job) -> bool:
    """Take up a point where another node left it: its newest checkpoint that is whole becomes this node's.

    Args:
        tracker: of its experiment.
        job: claimed.

    Returns:
        Whether there was one, of a later epoch than this node has.
    """
    here = _epoch(job.folder.path)
    for run in reversed(tracker.runs(job.signature)):
        with tempfile.TemporaryDirectory() as scratch:
            found = []
            for name in tracker.artifacts(run.run_id, FOLDER):
                tracker.download(run.run_id, name, Path(scratch))
                unpacked = _unpacked(Path(scratch) / name, job.signature)
                found += [] if unpacked is None else [unpacked]
            if found and max(found)[0] > here:
                _, folder = max(found)
                with explained(job.folder.path), written_whole(job.folder.path) as new:
                    shutil.copytree(folder, new, dirs_exist_ok=True)
                return True
    return False


def _unpacked(parcel: Path, signature: str) -> tuple[int, Path] | None:
    """The epoch and the folder of a checkpoint that was sent; None where it is not whole, or another point's."""
    folder = parcel.with_suffix("")
    try:
        with zipfile.ZipFile(parcel) as archive:
            if sorted(archive.namelist()) != sorted(SENT):
                return None
            for name in SENT:  # none of them leads out of the folder
                content = archive.read(name)
                folder.mkdir(exist_ok=True)
                write_file(folder / name, lambda file, content=content: file.write_bytes(content))  # type: ignore[misc]
    except (*UNREADABLE, LabError):
        return None
    return (_epoch(folder), folder) if signed_in(folder) == signature and _epoch(folder) else None


def _epoch(folder: Path) -> int:
    """How far the checkpoint in a folder is; 0 where there is none that can be read."""
    try:
        return read_checkpoint(folder / CHECKPOINT).epoch
    except UNREADABLE:
        return 0
