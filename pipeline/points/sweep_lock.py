"""Marks a sweep whose command is running, so that `rebuild` leaves the sweep to that command."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from pipeline.points.point import POINTS
from pipeline.system.files import explained


class SweepLock:
    """A mark that ends with its process, even if that is killed. Any number of commands may mark the same sweep.

    Args:
        root: folder that holds .points/.
        key: the key of the sweep.
    """

    def __init__(self, root: Path, key: str) -> None:
        self._file = root / POINTS / ".locks" / f"sweep-{key}"
        self._open: IO[str] | None = None

    def hold(self) -> None:
        """Mark the sweep.

        Raises:
            LabError: the file of the lock cannot be written.
        """
        with explained(self._file):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # Not `with`: the lock is held for as long as the file is open.
            self._open = self._file.open("a+")
            fcntl.flock(self._open, fcntl.LOCK_SH)

    def release(self) -> None:
        """Remove the mark of this object."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def is_held(self) -> bool:
        """Whether any process marks the sweep.

        Raises:
            LabError: the file of the lock cannot be opened.
        """
        if not self._file.exists():
            return False
        with explained(self._file), self._file.open("a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False
