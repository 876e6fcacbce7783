"""The folder of a point in training, in three stages.

- Training: `.points/SIGNATURE.training`. At any moment its contents are enough to resume from, because the journal is
  only appended to and the checkpoint is replaced by a rename. error.txt says why an attempt failed.
- Sealed: the same folder with all results and, written last, SHA256SUMS. It only has to be renamed.
- Complete: `.points/SIGNATURE`, the final path.
"""

from __future__ import annotations

import csv
import errno
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
from pipeline.points.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from pipeline.points.point import POINTS, Outcome, outcome_of
from pipeline.points.reading import ARCHITECTURE, read_attempt, read_journal
from pipeline.points.weights import write_weights
from pipeline.system.errors import LabError
from pipeline.system.files import SUMS, explained, write_file, write_sums
from pipeline.system.limits import open_files

JOURNAL = "metrics.csv"
CHECKPOINT = "checkpoint.npz"
# Holds the message of the error that ended the attempt.
ERROR = "error.txt"
HEADER = b"step,timestamp,name,value\n"


class PointFolder:
    """The folder of one point in training. Only the process that holds its lock may change it.

    Args:
        root: folder that holds .points/.
        signature: the point's signature.

    Attributes:
        path: path of the folder while the point trains.
        final: path of the folder once the point is complete.
        rows: number of metrics in the journal.

    Raises:
        LabError: from every method that writes, if the folder cannot be written.

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
        # As a singleton, one lock would be shared by all folders of this point in this process.
        self._lock = FileLock(root / POINTS / ".locks" / signature, is_singleton=False)
        self._journal = self.path / JOURNAL
        self._forget_journal()

    def _forget_journal(self) -> None:
        self.rows = 0
        self._bytes = 0
        # Updated with each row, so that a checkpoint never has to read the whole journal.
        self._digest = hashlib.sha256()

    def lock(self) -> bool:
        """Try to lock the point; the lock is released when the process exits, even if it is killed.

        Returns:
            True if the lock was acquired; False if another process, or another `PointFolder` in this one, holds it.

        Raises:
            LabError: the lock cannot be written, or too many files are open.
        """
        with explained(self.final):
            Path(self._lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                return False
            except OSError as error:
                if error.errno == errno.EMFILE:
                    raise _too_many_files() from None
                raise
        return True

    def unlock(self) -> None:
        """Release the lock."""
        self._lock.release()

    def begin(self) -> None:
        """Create the folder with only the header of the journal in it, deleting the files of an earlier attempt."""
        with explained(self.path):
            if self.path.exists():
                shutil.rmtree(self.path)
            (self.path / "plots").mkdir(parents=True)
            self._forget_journal()
            self._write_journal(HEADER, "xb")

    def resume(self) -> Checkpoint | None:
        """Load the checkpoint with its metrics, and truncate the journal to the rows that it covers.

        Returns:
            The checkpoint to resume from, or None if there is none.

        Raises:
            OSError: a file is missing, or cannot be read.
            ValueError: the checkpoint is damaged, or does not match the journal.
            LabError: the folder cannot be written.
        """
        if not (self.path / CHECKPOINT).exists():
            return None
        checkpoint = read_checkpoint(self.path / CHECKPOINT)
        # Rows after these bytes were written after the checkpoint: training computes them again.
        content = self._journal.read_bytes()[: checkpoint.journal_bytes]
        if hashlib.sha256(content).hexdigest() != checkpoint.journal_sha256:
            raise ValueError(f"{JOURNAL} does not match {CHECKPOINT}")
        checkpoint.history.metrics = read_journal(content)
        if len(checkpoint.history.metrics) != checkpoint.journal_rows:
            raise ValueError(f"{JOURNAL} has {len(checkpoint.history.metrics)} rows, not {checkpoint.journal_rows}")
        # All checks are done. The folder is changed only from here on.
        with explained(self._journal):
            # Checksums first: after a kill between these lines, the folder must not look sealed.
            (self.path / SUMS).unlink(missing_ok=True)
            (self.path / ERROR).unlink(missing_ok=True)
            os.truncate(self._journal, len(content))
            shutil.rmtree(self.path / "plots", ignore_errors=True)
            (self.path / "plots").mkdir()
        self.rows = checkpoint.journal_rows
        self._bytes = len(content)
        self._digest = hashlib.sha256(content)
        return checkpoint

    def write_json(self, name: str, content: object) -> None:
        """Write a JSON file to the folder, replacing an earlier one atomically."""
        self.write_text(name, json.dumps(content, indent=2, sort_keys=True) + "\n")

    def write_text(self, name: str, content: str) -> None:
        """Write a text file to the folder, replacing an earlier one atomically."""
        with explained(self.path / name):
            write_file(self.path / name, lambda file: file.write_text(content, encoding="utf-8"))

    def append(self, metrics: Iterable[Metric]) -> None:
        """Append metrics to the journal."""
        text = io.StringIO(newline="")
        # `repr` writes enough digits to read back the same float.
        csv.writer(text, lineterminator="\n").writerows((m.step, m.timestamp, m.name, repr(m.value)) for m in metrics)
        with explained(self._journal):
            self._write_journal(text.getvalue().encode(), "ab")
        self.rows += text.getvalue().count("\n")

    def _write_journal(self, content: bytes, mode: str) -> None:
        with self._journal.open(mode) as stream:
            stream.write(content)
            stream.flush()
            # On disk before the checkpoint that covers it: a power cut must not leave a checkpoint without its rows.
            os.fsync(stream.fileno())
        self._digest.update(content)
        self._bytes += len(content)

    def keep(self, epoch: int, state: State, history: History) -> None:
        """Append new metrics to the journal, then write a checkpoint that covers them."""
        self.append(history.metrics[self.rows :])
        checkpoint = Checkpoint(epoch, state, history, self.rows, self._bytes, self._digest.hexdigest())
        with explained(self.path / CHECKPOINT):
            write_checkpoint(self.path / CHECKPOINT, checkpoint)

    def write_history(self, history: History) -> Outcome:
        """Write the results that are known only at the end: the last metrics, the weights, tables and outcome."""
        self.append(history.metrics[self.rows :])
        with explained(self.path):
            write_weights(self.path, history.snapshots)
            if history.map_arrays:
                arrays = history.map_arrays
                write_file(self.path / "map.npz", lambda file: np.savez(file, allow_pickle=False, **arrays))
            if history.architecture:
                self.write_text(ARCHITECTURE, history.architecture)
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
            write_sums(self.path, excluded=CHECKPOINT)
        self.put_in_place()
        return self.final

    def put_in_place(self) -> None:
        """Rename a sealed folder to its final path."""
        with explained(self.final):
            # The rename comes last: if we are killed before it, the next command finds a sealed folder and renames it.
            (self.path / CHECKPOINT).unlink(missing_ok=True)
            (self.path / ERROR).unlink(missing_ok=True)
            shutil.rmtree(self.final, ignore_errors=True)
            self.path.rename(self.final)

    def write_error(self, attempt: str, text: str) -> None:
        """Record why an attempt failed, unless its folder was deleted or another attempt is training the point."""
        if not self.lock():
            return
        try:
            if read_attempt(self.path) == attempt:
                self.write_text(ERROR, text)
        finally:
            self.unlock()

    def can_resume(self) -> bool:
        """Whether there is a checkpoint to resume from, or a sealed folder that only has to be renamed."""
        return (self.path / CHECKPOINT).exists() or self.is_sealed()

    def is_sealed(self) -> bool:
        """Whether the folder only has to be renamed to its final path: its process was killed just before that."""
        return (self.path / SUMS).exists()

    def discard(self) -> None:
        """Delete the folder; a folder that does not exist is not an error."""
        shutil.rmtree(self.path, ignore_errors=True)


def _too_many_files() -> LabError:
    return LabError(
        "Too many files are open to lock another point.",
        expected="a limit of open files above the number of points that train together",
        received=f"a limit of {open_files()}",
        fix="raise the limit of this shell with `ulimit -n NUMBER`, or train fewer points with one command",
    )


def _write_table(rows: list[dict[str, float]], file: Path) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
