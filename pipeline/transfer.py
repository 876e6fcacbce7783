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
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.checkpoints import read_checkpoint
from pipeline.errors import LabError
from pipeline.files import SUMS, explained, named_files, write_file, written_whole
from pipeline.jobs import Job, read_own_point, signed_in
from pipeline.point_folder import CHECKPOINT, JOURNAL, PointFolder
from pipeline.points import UNREADABLE

if TYPE_CHECKING:
    from pipeline.tracking import Tracker

FOLDER = "checkpoint"
"""Where checkpoints are among a run's artifacts."""
SEND_SECONDS = 30.0
SENT = (CHECKPOINT, JOURNAL, "signed.json", "config.json", "run.json")
"""What it takes to go on. The checkpoint is first: the journal may be longer than it knows, not shorter."""


def fetch_point(tracker: Tracker, job: Job) -> bool:
    """Bring home a point that MLflow has whole, in place of the one that is here.

    Returns:
        Whether it has it, and it is what was sent.

    Raises:
        LabError: MLflow does not answer, or the disk cannot be written.
    """
    for run in reversed(tracker.runs(job.signature)):
        if run.status != "FINISHED" or "lab.complete" not in run.tags:
            continue
        with explained(job.folder.final), written_whole(job.folder.final) as new:
            tracker.download(run.run_id, SUMS, new)
            for name in named_files((new / SUMS).read_bytes()):
                tracker.download(run.run_id, name, new)
            read_own_point(new, job.name, job.signature)
        return True
    return False


class CheckpointSender:
    """Sends the checkpoints of points that train, as often as takes a twentieth of the time, or is worth it."""

    def __init__(self) -> None:
        self._sent: dict[str, tuple[int, float]] = {}
        self._turns: dict[str, int] = {}

    def send(self, tracker: Tracker, run_id: str, folder: PointFolder) -> None:
        """Send a point's checkpoint, if there is a new one and the last was sent long enough ago."""
        newest = _written(folder.path / CHECKPOINT)
        before, due = self._sent.get(run_id, (0, 0.0))
        if newest in (0, before) or time.monotonic() < due:
            return
        begun = time.monotonic()
        turn = self._turns[run_id] = 1 - self._turns.get(run_id, 1)
        send_checkpoint(tracker, run_id, folder, turn)
        now = time.monotonic()
        self._sent[run_id] = newest, now + max(SEND_SECONDS, 20 * (now - begun))


def send_checkpoint(tracker: Tracker, run_id: str, folder: PointFolder, turn: int) -> None:
    """Send the checkpoint of a point that trains; `turn`, 0 or 1, says in whose place."""
    with explained(Path("folder for temporary files")), tempfile.TemporaryDirectory() as scratch:
        parcel = Path(scratch) / f"{turn}.zip"
        with zipfile.ZipFile(parcel, "w") as archive:
            for name in SENT:
                archive.write(folder.path / name, name)
        tracker.log_file(run_id, parcel, FOLDER)


def drop_checkpoints(tracker: Tracker, run_id: str) -> None:
    """Take a run's checkpoints away: its point is complete."""
    if tracker.artifacts(run_id, FOLDER):
        tracker.remove_artifacts(run_id, FOLDER)


def fetch_checkpoint(tracker: Tracker, job: Job) -> bool:
    """Take up a point where another node left it: its newest checkpoint that is whole becomes this node's.

    Args:
        tracker: of its experiment.
        job: claimed, and not begun here.

    Returns:
        Whether there was one.
    """
    for run in reversed(tracker.runs(job.signature)):
        with tempfile.TemporaryDirectory() as scratch:
            found = []
            for name in tracker.artifacts(run.run_id, FOLDER):
                tracker.download(run.run_id, name, Path(scratch))
                unpacked = _unpacked(Path(scratch) / name, job.signature)
                found += [] if unpacked is None else [unpacked]
            if found:
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
        epoch = read_checkpoint(folder / CHECKPOINT).epoch
    except (*UNREADABLE, LabError):
        return None
    return (epoch, folder) if signed_in(folder) == signature else None


def _written(file: Path) -> int:
    """When a file was written; 0 where there is none."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
