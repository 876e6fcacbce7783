"""Files that are whole or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.system.errors import DamagedError, LabError
from pipeline.system.processes import lives

SUMS = "SHA256SUMS"
MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""What opening a path raises where there is no file."""
LONGEST_NAME = 255
"""Bytes."""


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
            fix="make room or fix the permissions, then run the same command again; nothing half-written was left",
        ) from error


@contextmanager
def readable(what: str, *, expected: str, fix: str) -> Iterator[None]:
    """Turn what reading a file raises into one message; a bug of ours, such as a TypeError, passes through.

    Readers raise ValueError where the content is not what it should be, whatever their libraries raise.

    Args:
        what: what is read, with its path: `The trained point in .points/0123456789abcdef`.
        expected, fix: for the message about damage.

    Raises:
        DamagedError: a file is missing, cut short, changed or of another kind.
        LabError: this machine does not let it be read: permissions, a disk, the memory. What is there may be whole.
    """
    try:
        yield
    except (*MISSING, ValueError) as error:
        received = f"{type(error).__name__}: {error}"
        raise DamagedError(f"{what} cannot be read.", expected=expected, received=received, fix=fix) from None
    except (OSError, MemoryError) as error:
        raise LabError(
            f"{what} cannot be read.",
            expected="permission to read it, a disk that answers, and enough memory",
            received=f"{type(error).__name__}: {error}",
            fix="it may be whole, so leave it there: fix what was received, then run the same command again",
        ) from error


@contextmanager
def scratch_beside(destination: Path) -> Iterator[Path]:
    """An empty folder beside `destination`, which vanishes after the block.

    Its name tells whose it is, so that what a killed process left is removed by the next one.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(destination)
    with TemporaryDirectory(prefix=_beside(destination, os.getpid()), dir=destination.parent) as folder:
        yield Path(folder)


def _beside(destination: Path, process: int | str) -> str:
    return f".{destination.name}.partial-{platform.node()}-{process}-"


def remove_leftovers(destination: Path) -> None:
    """Remove what killed processes left beside a file or folder when they wrote it."""
    with suppress(OSError):  # a leftover that cannot be removed hurts nobody
        prefix = _beside(destination, "").removesuffix("-")
        for path in destination.parent.iterdir():
            owner = path.name.removeprefix(prefix).partition("-")[0]
            if path.name.startswith(prefix) and owner.isdigit() and not lives(int(owner)):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def written_whole(destination: Path) -> Iterator[Path]:
    """An empty folder to write in, which becomes `destination`, replacing what is there, when the block ends well.

    It lies beside `destination`, so that becoming it is a rename; it vanishes when the block fails or is interrupted.
    """
    with scratch_beside(destination) as scratch:
        new = scratch / "new"  # not the temporary folder itself, which nobody else may enter
        new.mkdir()
        yield new
        if destination.exists():
            destination.rename(scratch / "old")
        new.rename(destination)


def write_file(file: Path, write: Callable[[Path], object], durable: bool = False) -> None:
    """Let `write` write a file beside its place, and rename it into it.

    Args:
        file: its place.
        write: gets the path to write to, which ends as `file` does.
        durable: whether the file must outlive a power cut too.
    """
    remove_leftovers(file)
    beside = file.with_name(f"{_beside(file, os.getpid())}{file.suffix}")
    try:
        write(beside)
        if durable:
            with beside.open("rb") as stream:
                os.fsync(stream.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def written(file: Path) -> int:
    """When a file was written, in nanoseconds since 1970; 0 where there is none."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def file_sha256(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def short_hash(content: bytes) -> str:
    """16 hexadecimal digits of a SHA-256: what points and sweeps are known by."""
    return hashlib.sha256(content).hexdigest()[:16]


def write_sums(folder: Path, but: str = "") -> None:
    """Write SHA256SUMS, the checksums of all files below a folder `but` one, as `sha256sum --check` reads them.

    Hidden files are left out: what a killed process left is one, and may be removed.
    """
    files = sorted(path for path in folder.rglob("[!.]*") if path.is_file() and path.name not in (SUMS, but))
    lines = [f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    write_file(folder / SUMS, lambda file: file.write_text("".join(lines), encoding="utf-8"))


def checked_files(folder: Path) -> list[str]:
    """The files that a folder's SHA256SUMS names, after their checksums were found to hold.

    Raises:
        OSError: a file is not there, or cannot be read.
        ValueError: a file is not the one that was written.
    """
    sums = named_files((folder / SUMS).read_bytes())
    for name, expected in sums.items():
        if file_sha256(folder / name) != expected:
            raise ValueError(f"{name} is not the file that was written: its SHA-256 differs")
    return list(sums)


def named_files(sums: bytes) -> dict[str, str]:
    """The files that the text of a SHA256SUMS names, below its folder, with their checksums.

    Raises:
        ValueError: it is cut short, or names other files.
    """
    named = {}
    *lines, rest = sums.decode().split("\n")  # not splitlines: it takes other bytes for an end
    if rest or not lines:
        raise ValueError(f"{SUMS} is empty or cut short")
    for line in lines:
        expected, _, name = line.partition("  ")
        parts = Path(name).parts
        if Path(name).is_absolute() or ".." in parts:
            raise ValueError(f"{SUMS} names a file outside its folder: {name}")
        if any(len(part.encode()) > LONGEST_NAME for part in parts):
            raise ValueError(f"{SUMS} names a file with a longer name than a disk takes: {name[:LONGEST_NAME]}")
        named[name] = expected
    return named
