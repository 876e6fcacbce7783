"""Identifies a clone, by its .points/. On a shared server it tells the runs of this clone from those of all others."""

from __future__ import annotations

import uuid
from pathlib import Path

from filelock import FileLock

from pipeline.points.point import POINTS
from pipeline.system.files import MISSING, explained, write_file

CLONE = ".clone"


def clone_id(root: Path) -> str:
    """Return the id of a clone, which is random; the first call makes it. A copy of the folder gets an id of its own.

    Args:
        root: folder that holds .points/.

    Raises:
        LabError: the file with the id cannot be read or written.
    """
    file = root / POINTS / CLONE
    with explained(file):
        known = _read(file)
        if known is None:
            lock = root / POINTS / ".locks" / "clone"
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock):
                # Another process may have written it before we got the lock.
                known = _read(file) or _write(file)
        return known


def _read(file: Path) -> str | None:
    """Return the id in a file; None if there is no file, or it is a copy."""
    try:
        name, inode = file.read_text(encoding="utf-8").split()
        # A copy is another file. Moving the project within a disk keeps the inode.
        if inode == str(file.stat().st_ino):
            return name
    except (*MISSING, ValueError):
        pass
    return None


def _write(file: Path) -> str:
    """Write a new id to a file, and return it."""
    name = uuid.uuid4().hex

    def write(new: Path) -> None:
        # Renaming the file to its final name keeps its inode.
        new.touch()
        new.write_text(f"{name} {new.stat().st_ino}\n", encoding="utf-8")

    write_file(file, write)
    return name
