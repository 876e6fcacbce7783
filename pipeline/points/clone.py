"""Identifies a clone, by its .points/. On a shared server it tells the runs of this clone from those of all others."""

from __future__ import annotations

import platform
import uuid
from pathlib import Path

from filelock import FileLock

from pipeline.points.point import POINTS
from pipeline.system.files import MISSING, explained, short_hash, write_file

CLONE = ".clone"
# Where Linux keeps the id of an installation, which is random.
MACHINE = Path("/etc/machine-id")


def clone_id(root: Path) -> str:
    """Return the id of a clone, which is random; the first call on a machine makes it.

    A copy of the folder gets an id of its own. So does each machine and container with the same folder, because the
    folder may have come with a snapshot or an image. Moving the folder within a disk keeps the id.

    Args:
        root: folder that holds .points/.

    Raises:
        LabError: the file with the id cannot be read or written.
    """
    file = root / POINTS / CLONE
    machine = _machine()
    with explained(file):
        known = _read(file).get(machine)
        if known is None:
            lock = root / POINTS / ".locks" / "clone"
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock):
                # Another process may have written it before we got the lock.
                ids = _read(file)
                if machine not in ids:
                    # Machines with a shared disk have one file, in which each keeps its id.
                    ids[machine] = uuid.uuid4().hex
                    _write(file, ids)
                known = ids[machine]
        return known


def _machine() -> str:
    """Return a hash that identifies this machine or container as far as the system tells."""
    try:
        installation = MACHINE.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        installation = ""
    # Snapshots and images of containers have the id of their original, but usually get a name of their own. Without its
    # domain, which depends on the network that a laptop is in.
    name = platform.node().partition(".")[0]
    return short_hash(f"{installation} {name}".encode())


def _read(file: Path) -> dict[str, str]:
    """Return the ids in a file by machine; empty if the file is missing, damaged or a copy."""
    try:
        inode, *lines = file.read_text(encoding="utf-8").splitlines()
        ids = dict(line.split() for line in lines)
        # A copy is another file. Not the number of the disk as well, which may change when the machine starts again.
        if inode == str(file.stat().st_ino):
            return ids
    except (*MISSING, ValueError):
        pass
    return {}


def _write(file: Path, ids: dict[str, str]) -> None:
    """Write ids by machine to a file."""

    def write(new: Path) -> None:
        # Renaming the file to its final name keeps its inode.
        new.touch()
        lines = [str(new.stat().st_ino), *(f"{machine} {name}" for machine, name in ids.items())]
        new.write_text("\n".join(lines) + "\n", encoding="utf-8")

    write_file(file, write)
