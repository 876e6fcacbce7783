"""Points' folders through the artifact store, for nodes that share no disk.

A complete point's folder lies among its run's artifacts anyway (sync/points.py); `fetch_point` returns it to the
machine that sent the sweep. While a point trains, its worker sends its newest checkpoint now and then, in turn to
`checkpoint/0.zip` and `checkpoint/1.zip`, so that one of them is whole whenever it dies; `fetch_checkpoint` lets
another worker go on from there.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path, PurePosixPath

from pipeline.points.checkpoint import read_checkpoint
from pipeline.points.folder import CHECKPOINT, JOURNAL, PointFolder
from pipeline.points.job import Job
from pipeline.points.reading import read_own_point, signed_in
from pipeline.system.errors import DamagedError, LabError
from pipeline.system.files import SUMS, explained, named_files, readable, written, written_whole
from pipeline.system.formats import stored_members
from pipeline.tracking.tracker import Tracker

FOLDER = "checkpoint"
"""Where checkpoints are among a run's artifacts."""
SEND_SECONDS = 30.0
SENT = (CHECKPOINT, JOURNAL, "signed.json", "config.json", "run.json")
"""What it takes to go on. The checkpoint is first: the journal may be longer than it knows, not shorter."""


def fetch_point(tracker: Tracker, job: Job, but: str | None = None) -> bool:
    """Fetch a point that MLflow has whole, in place of the one that is here.

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
                _download_point(tracker, run.run_id, job, new)
            except DamagedError as error:
                raise DamagedError(
                    f"{job.name} was not returned.",
                    expected=f"the files of the point {job.signature} among the artifacts of its run {run.run_id}",
                    received=error.received or str(error),
                    fix="run the same command again; if that does not help, delete that run in MLflow, and it is "
                    "trained again",
                ) from None
        return True
    return False


def _download_point(tracker: Tracker, run_id: str, job: Job, folder: Path) -> None:
    """Download a complete point, and read it.

    Raises:
        DamagedError: MLflow has not all of it, or what it has is not what was sent.
        LabError: MLflow does not answer, or a file cannot be read for another reason.
    """
    _download(tracker, run_id, SUMS, folder)
    with readable(f"{SUMS} of the run {run_id}", expected="the checksums of a point", fix=""):
        names = named_files((folder / SUMS).read_bytes())
    for name in names:
        _download(tracker, run_id, name, folder)
    read_own_point(folder, job.name, job.signature)


def _download(tracker: Tracker, run_id: str, name: str, folder: Path) -> None:
    try:
        tracker.download(run_id, name, folder)
    except LabError:
        parent = str(PurePosixPath(name).parent)
        if name not in tracker.artifacts(run_id, "" if parent == "." else parent):
            raise DamagedError(f"{name} is missing.", received=f"no {name} among them") from None
        raise


class CheckpointSender:
    """Sends the checkpoints of points that train, at most every 30 s, using about 5 % of the time."""

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
        sent = send_checkpoint(tracker, run_id, folder, turn)
        if sent is None:
            return rows
        now = time.monotonic()
        self._sent[run_id] = newest, now + max(SEND_SECONDS, 20 * (now - begun)), sent
        return sent


def send_checkpoint(tracker: Tracker, run_id: str, folder: PointFolder, turn: int) -> int | None:
    """Send the checkpoint of a point that trains; `turn`, 0 or 1, says in whose place.

    Returns:
        How many rows of its journal it has; None where the point has none, or became complete meanwhile.

    Raises:
        LabError: MLflow does not take it, it cannot be read, or there is no room for a copy.
    """
    with explained(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as scratch:
        try:
            for name in SENT:
                shutil.copy(folder.path / name, scratch)
        except FileNotFoundError:
            return None
        with readable(f"The checkpoint in {folder.path}", expected="one that training wrote", fix="train it again"):
            rows = read_checkpoint(Path(scratch) / CHECKPOINT).journal_rows
        packed = Path(scratch) / f"{turn}.zip"
        with zipfile.ZipFile(packed, "w") as archive:
            for name in SENT:
                archive.write(Path(scratch) / name, name)
        tracker.log_file(run_id, packed, FOLDER)
    return rows


def drop_checkpoints(tracker: Tracker, run_id: str) -> None:
    """Delete a run's checkpoints, if we may: its point is complete, and what is left of them hurts nobody."""
    with suppress(LabError):
        if tracker.artifacts(run_id, FOLDER):
            tracker.remove_artifacts(run_id, FOLDER)


def fetch_checkpoint(tracker: Tracker, job: Job) -> bool:
    """Take up a point where another node left it: its newest checkpoint that is whole becomes this node's.

    Args:
        tracker: of its experiment.
        job: the point, whose lock this process holds.

    Returns:
        Whether there was one, of a later epoch than this node has.
    """
    here = _epoch(job.folder.path)
    for run in reversed(tracker.runs(job.signature)):
        with explained(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as scratch:
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


def _unpacked(packed: Path, signature: str) -> tuple[int, Path] | None:
    """The epoch and the folder of a checkpoint that was sent; None where it is another point's, or damaged and told."""
    folder = packed.with_suffix("")
    try:
        with readable(f"The checkpoint {packed.name} in MLflow", expected=", ".join(SENT), fix=""):
            contents = dict(stored_members(packed))
            if sorted(contents) != sorted(SENT):  # none of them leads out of the folder
                raise ValueError(f"it holds {', '.join(contents)}")
    except DamagedError as error:
        print(f"left out: {error}", file=sys.stderr, flush=True)
        return None
    with explained(folder):
        folder.mkdir(exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    epoch = _epoch(folder)
    return (epoch, folder) if epoch and signed_in(folder) == signature else None


def _epoch(folder: Path) -> int:
    """How far the checkpoint in a folder is; 0 where there is none, or a damaged one, which is told.

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
        print(f"left out: {error}", file=sys.stderr, flush=True)
        return 0
