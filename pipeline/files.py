"""Files that are whole or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.errors import LabError


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError, such as a full disk, into one message about a path."""
    try:
        yield
    except OSError as error:
        raise LabError(
            f"{path} cannot be written.",
            expected="a writable folder with room in it",
            received=f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""),
            fix="make room or mend the permissions, then run the same command again; nothing half-written was left",
        ) from error


@contextmanager
def written_whole(destination: Path) -> Iterator[Path]:
    """An empty folder to write in, which becomes `destination`, replacing what is there, when the block ends well.

    It lies beside `destination`, so that becoming it is a rename; it vanishes when the block fails or is interrupted.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{destination.name}-", dir=destination.parent) as scratch:
        new = Path(scratch) / "new"  # not the temporary folder itself, which nobody else may enter
        new.mkdir()
        yield new
        if destination.exists():
            destination.rename(Path(scratch) / "old")
        new.rename(destination)


def write_file(file: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write a file beside its place, and rename it into it."""
    beside = file.with_name(f".partial-{os.getpid()}-{file.name}")
    try:
        write(beside)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def file_sha256(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
