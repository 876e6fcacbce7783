"""The folder of a point while it trains: `.points/SIGNATURE.training`, which becomes `.points/SIGNATURE`.

A training that is killed at any moment can continue from what the folder holds: the journal is only appended to, the
checkpoint is replaced by a rename, and SHA256SUMS, which makes the folder complete, is written last. error.txt says why
an attempt failed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from pipeline.backends.contract import State
from pipeline.backends.shared.history import History, Metric
from pipeline.points.checkpoint import Checkpoint, read_checkpoint, stack_snapshots, write_checkpoint
from pipeline.points.point import POINTS, Outcome, outcome_of
from pipeline.points.reading import read_attempt, read_journal
from pipeline.system.files import SUMS, explained, write_file, write_sums

JOURNAL = "metrics.csv"
CHECKPOINT = "checkpoint.npz"
# The message of the error that ended the attempt.
ERROR = "error.txt"
HEADER = b"step,timestamp,name,value\n"


class PointFolder:
    """The folder of one point in training. Only the holder of its lock may change it.

    Args:
        root: folder that holds .points/.
        signature: the point's signature.

    Attributes:
        path: the folder while the point trains.
        final: its path once the point is complete.
        rows: how many metrics the journal holds.
        kept: how many of them belong to the checkpoint. A restart keeps these; it writes later ones again, with other
            times.

    Raises:
        LabError: from every method that writes, when the folder cannot be written.

    Example:
        A training that may have been interrupted::

            folder = PointFolder(root, signature)
            if folder.lock():
                checkpoint = folder.resume()
                if checkpoint is None:
                    folder.begin()
                ...  # train; call folder.keep(epoch, state, history) now and then
                folder.write_history(history)
                folder.complete()
                folder.unlock()
    """

    def __init__(self, root: Path, signature: str) -> None:
        self.final = root / POINTS / signature
        self.path = self.final.with_name(f"{signature}.training")
        # Not a singleton: two folders of one point in one process must exclude each other too.
        self._lock = FileLock(root / POINTS / ".locks" / signature, is_singleton=False)
        self._journal = self.path / JOURNAL
        self._forget_journal()

    def _forget_journal(self) -> None:
        self.rows = 0
        self.kept = 0
        self._bytes = 0
        # Updated with each row, so that a checkpoint never has to read the whole journal.
        self._digest = hashlib.sha256()

    def lock(self) -> bool:
        """Try to lock the point; the lock ends with the process, however the process ends.

        Returns:
            Whether this folder now holds the lock; False if another process, or another folder in this one, holds it.
        """
        with explained(self.final):
            Path(self._lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                return False
        return True

    def unlock(self) -> None:
        """Release the lock."""
        self._lock.release()

    def begin(self) -> None:
        """Create the folder with nothing but the header of its journal, deleting what an earlier attempt left."""
        with explained(self.path):
            if self.path.exists():
                shutil.rmtree(self.path)
            (self.path / "plots").mkdir(parents=True)
            self._forget_journal()
            self._write_journal(HEADER, "xb")

    def resume(self) -> Checkpoint | None:
        """Read the checkpoint and its metrics, and cut off what the journal holds beyond it.

        Returns:
            The checkpoint to continue from, or None if there is none.

        Raises:
            OSError: a file is missing, or cannot be read.
            ValueError: the checkpoint is damaged, or the journal is not the one it was written with.
            LabError: the folder cannot be written.
        """
        if not (self.path / CHECKPOINT).exists():
            return None
        checkpoint = read_checkpoint(self.path / CHECKPOINT)
        # Rows behind these bytes were written after the checkpoint: training computes them again.
        content = self._journal.read_bytes()[: checkpoint.journal_bytes]
        if hashlib.sha256(content).hexdigest() != checkpoint.journal_sha256:
            raise ValueError(f"{JOURNAL} is not the one that {CHECKPOINT} was written with")
        checkpoint.history.metrics = read_journal(content)
        if len(checkpoint.history.metrics) != checkpoint.journal_rows:
            raise ValueError(f"{JOURNAL} has {len(checkpoint.history.metrics)} rows, not {checkpoint.journal_rows}")
        # Everything is checked by now; only from here on is the folder changed.
        with explained(self._journal):
            # The checksums go first, so that a kill in the middle of these lines leaves no folder that looks sealed.
            (self.path / SUMS).unlink(missing_ok=True)
            (self.path / ERROR).unlink(missing_ok=True)
            os.truncate(self._journal, len(content))
            shutil.rmtree(self.path / "plots", ignore_errors=True)
            (self.path / "plots").mkdir()
        self.rows = checkpoint.journal_rows
        self.kept = checkpoint.journal_rows
        self._bytes = len(content)
        self._digest = hashlib.sha256(content)
        return checkpoint

    def write_json(self, name: str, content: object) -> None:
        """Write one JSON file of the folder, replacing an earlier one as a whole."""
        self.write_text(name, json.dumps(content, indent=2, sort_keys=True) + "\n")

    def write_text(self, name: str, content: str) -> None:
        """Write one text file of the folder, replacing an earlier one as a whole."""
        with explained(self.path / name):
            write_file(self.path / name, lambda file: file.write_text(content, encoding="utf-8"))

    def append(self, metrics: Iterable[Metric]) -> None:
        """Append metrics to the journal."""
        text = io.StringIO(newline="")
        # `repr` writes as many digits as it takes to read back the same float.
        csv.writer(text, lineterminator="\n").writerows((m.step, m.timestamp, m.name, repr(m.value)) for m in metrics)
        with explained(self._journal):
            self._write_journal(text.getvalue().encode(), "ab")
        self.rows += text.getvalue().count("\n")

    def _write_journal(self, content: bytes, mode: str) -> None:
        with self._journal.open(mode) as stream:
            stream.write(content)
            stream.flush()
            # On the disk before the checkpoint that counts on it, or a power cut would leave a checkpoint without rows.
            os.fsync(stream.fileno())
        self._digest.update(content)
        self._bytes += len(content)

    def keep(self, epoch: int, state: State, history: History) -> None:
        """Write new metrics to the journal, then a checkpoint that they belong to."""
        self.append(history.metrics[self.rows :])
        checkpoint = Checkpoint(epoch, state, history, self.rows, self._bytes, self._digest.hexdigest())
        with explained(self.path / CHECKPOINT):
            write_checkpoint(self.path / CHECKPOINT, checkpoint)
        self.kept = self.rows

    def write_history(self, history: History) -> Outcome:
        """Write what is only known at the end: the last metrics, the weights, the tables and the outcome."""
        self.append(history.metrics[self.rows :])
        with explained(self.path):
            weights = stack_snapshots(history.snapshots)
            write_file(self.path / "weights.npz", lambda file: np.savez(file, allow_pickle=False, **weights))
            if history.map_arrays:
                arrays = history.map_arrays
                write_file(self.path / "map.npz", lambda file: np.savez(file, allow_pickle=False, **arrays))
            for name, rows in history.tables.items():
                write_file(self.path / f"{name}.csv", partial(_write_table, rows))
        outcome = outcome_of(history)
        self.write_json("outcome.json", asdict(outcome))
        return outcome

    def complete(self) -> Path:
        """Seal the folder with its checksums and move it to its final path, replacing an earlier one.

        Returns:
            The final path.
        """
        with explained(self.final):
            # The checkpoint is deleted a moment later; a checksum of it would make the complete folder look damaged.
            write_sums(self.path, but=CHECKPOINT)
        self.put_in_place()
        return self.final

    def put_in_place(self) -> None:
        """Rename a sealed folder to its final path."""
        with explained(self.final):
            # The rename comes last: after a kill before it, the next command finds a sealed folder and moves it.
            (self.path / CHECKPOINT).unlink(missing_ok=True)
            (self.path / ERROR).unlink(missing_ok=True)
            shutil.rmtree(self.final, ignore_errors=True)
            self.path.rename(self.final)

    def write_error(self, attempt: str, text: str) -> None:
        """Write why an attempt failed, unless its folder is gone or another process or attempt trains the point."""
        if not self.lock():
            return
        try:
            if read_attempt(self.path) == attempt:
                self.write_text(ERROR, text)
        finally:
            self.unlock()

    def has_begun(self) -> bool:
        """Whether the folder holds something that training can continue from."""
        return (self.path / CHECKPOINT).exists() or self.is_sealed()

    def is_sealed(self) -> bool:
        """Whether the folder only has to be moved to its final path: its process was killed just before that."""
        return (self.path / SUMS).exists()

    def discard(self) -> None:
        """Delete the folder; a folder that does not exist is not an error."""
        shutil.rmtree(self.path, ignore_errors=True)


def _write_table(rows: list[dict[str, float]], file: Path) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
