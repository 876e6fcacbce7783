"""Write files and folders that are either complete or absent: to a temporary path next to their own, then renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.system.errors import DamagedError, LabError
from pipeline.system.processes import is_running, place
from pipeline.system.remedies import remedy

SUMS = "SHA256SUMS"
# The exceptions raised when opening a path that is not a file.
MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
# The longest name of a file or folder that common file systems accept, in bytes.
LONGEST_NAME = 255
# Age after which a temporary file is removed whose writer cannot be seen from here.
LEFT_SECONDS = 24 * 3600.0


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError within the block, such as a full disk, into the message that a path cannot be written.

    Raises:
        LabError: something within the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        received = error.strerror or str(error)
        if error.filename:
            received += f": {error.filename}"
        raise LabError(
            f"{path} cannot be written.",
            expected="a writable folder with free space",
            received=received,
            fix=f"{remedy(error)}, then run the same command again; no partial file remains",
        ) from error


@contextmanager
def readable(what: str, *, expected: str, fix: str) -> Iterator[None]:
    """Turn errors that reading a file raises within the block into one message.

    Readers raise ValueError for wrong content, whatever their libraries raise. Any other error, such as a TypeError,
    is a bug of ours and is not caught.

    Args:
        what: the subject of the message, for instance `The trained point in .points/0123456789abcdef`.
        expected: the expected content, for the message about a damaged file.
        fix: the next step, for the message about a damaged file.

    Raises:
        DamagedError: a file is missing, truncated, changed or of the wrong type.
        LabError: permissions, a disk error or lack of memory prevent reading; the file itself may be intact.
    """
    try:
        yield
    except (*MISSING, ValueError) as error:
        received = f"{type(error).__name__}: {error}"
        raise DamagedError(f"{what} cannot be read.", expected=expected, received=received, fix=fix) from None
    except (OSError, MemoryError) as error:
        # Not `fix`, which may advise deleting the file: its content may be intact.
        raise LabError(
            f"{what} cannot be read.",
            expected="permission to read it, a working disk, and enough memory",
            received=f"{type(error).__name__}: {error}",
            fix=f"it may be intact, so keep it: {remedy(error)}, then run the same command again",
        ) from error


@contextmanager
def scratch_beside(destination: Path) -> Iterator[Path]:
    """Make an empty folder next to `destination` for the block, and delete it afterwards."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(destination)
    with TemporaryDirectory(prefix=_temporary_prefix(destination, os.getpid()), dir=destination.parent) as folder:
        yield Path(folder)


def _temporary_prefix(destination: Path, process: int | str) -> str:
    """Return the start of the hidden name under which a process writes `destination`."""
    # Place and process id show whether the writer still runs; if not, the next one can remove its leftovers.
    return f".{destination.name}.partial-{short_hash(place().encode())}-{process}-"


def remove_leftovers(destination: Path) -> None:
    """Remove temporary files that killed processes left next to a file or folder.

    Whether a process in another container or on another machine still writes cannot be seen from here. Its files are
    removed once they have not changed for a day.
    """
    own = _temporary_prefix(destination, "").removesuffix("-")
    any_place = f".{destination.name}.partial-"
    leftovers: list[Path] = []
    # A leftover that cannot be removed is harmless.
    with suppress(OSError):
        leftovers = [path for path in destination.parent.iterdir() if path.name.startswith(any_place)]
    for path in leftovers:
        process = path.name.removeprefix(own).partition("-")[0]
        # Each on its own: another process may remove one of them at the same time.
        with suppress(OSError):
            if path.name.startswith(own) and process.isdigit():
                left = not is_running(int(process))
            else:
                left = time.time() - _last_change(path) > LEFT_SECONDS
            if left and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif left:
                path.unlink(missing_ok=True)


def _last_change(path: Path) -> float:
    """Return when a file, or anything in a folder, was last modified, in seconds since 1970."""
    return max(inner.stat().st_mtime for inner in (path, *path.rglob("*")))


@contextmanager
def atomic_folder(destination: Path) -> Iterator[Path]:
    """Make an empty folder for the block to fill; if the block succeeds, rename it to `destination`.

    An existing `destination` is replaced. If the block fails or is interrupted, nothing changes. A process that is
    killed between moving the old folder away and renaming the new one leaves no `destination`.

    Example:
        with atomic_folder(Path("data/prepared/mnist")) as new:
            (new / "data.json").write_text("{}")
    """
    with scratch_beside(destination) as scratch:
        # Not the scratch folder itself, because TemporaryDirectory gives no other user access to it.
        new = scratch / "new"
        new.mkdir()
        yield new
        # A rename cannot replace a folder with content, so the old one moves into the scratch folder and goes with it.
        if destination.exists():
            destination.rename(scratch / "old")
        new.rename(destination)


def write_file(file: Path, write: Callable[[Path], object], durable: bool = False) -> None:
    """Let `write` write a temporary file next to `file`, and rename it to `file`.

    Args:
        file: the path of the finished file; an existing file is replaced.
        write: called with the path to write to, which has the suffix of `file`.
        durable: whether the file must also survive a power failure.

    Example:
        write_file(folder / "outcome.json", lambda file: file.write_text(text, encoding="utf-8"))
    """
    remove_leftovers(file)
    # NumPy and Matplotlib choose a format by the suffix, so the temporary name has the suffix of the final one.
    temporary = file.with_name(f"{_temporary_prefix(file, os.getpid())}{file.suffix}")
    try:
        write(temporary)
        if durable:
            # Before the rename; otherwise the new name could survive a power failure without the content.
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def modified_ns(file: Path) -> int:
    """Return the modification time of a file, in nanoseconds since 1970; 0 if the file does not exist."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def tree_state(folder: Path) -> str:
    """Return a hash of the paths, sizes and modification times of all files below a folder, without reading them.

    It is the same as long as no file has been added, removed or written. Compiled Python does not count.

    Args:
        folder: the folder; without one, there are no files.

    Raises:
        OSError: a file or a folder cannot be looked at.
    """
    found = hashlib.sha256()
    pending = [str(folder)] if folder.exists() else []
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir():
                    if entry.name != "__pycache__":
                        pending.append(entry.path)
                else:
                    status = entry.stat()
                    path = os.path.relpath(entry.path, folder)
                    found.update(repr((path, status.st_size, status.st_mtime_ns)).encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def short_hash(content: bytes) -> str:
    """Return the first 16 hexadecimal digits of a SHA-256, which identify a point or a sweep."""
    return hashlib.sha256(content).hexdigest()[:16]


def write_sums(folder: Path, excluded: str = "") -> None:
    """Write SHA256SUMS with the checksums of all files below a folder, in the format of `sha256sum --check`.

    Args:
        folder: the folder of the files, and of SHA256SUMS.
        excluded: the name of files to skip.
    """
    # Hidden files are skipped: a killed process may have left one, which the next write removes.
    files = sorted(path for path in folder.rglob("[!.]*") if path.is_file() and path.name not in (SUMS, excluded))
    lines = [f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    write_file(folder / SUMS, lambda file: file.write_text("".join(lines), encoding="utf-8"))


def verify_sums(folder: Path, only: Collection[str] | None = None) -> list[str]:
    """Verify the checksums of the files that a folder's SHA256SUMS names, and return the names.

    Args:
        folder: the folder.
        only: names of the files that will be read, of which alone the checksums are verified; None: of all.

    Raises:
        OSError: a file does not exist or cannot be read.
        ValueError: a file has another checksum.
    """
    sums = named_files((folder / SUMS).read_bytes())
    for name, expected in sums.items():
        if only is not None and name not in only:
            continue
        if file_sha256(folder / name) != expected:
            raise ValueError(f"{name} is not the file that was written: its SHA-256 differs")
    return list(sums)


def named_files(sums: bytes) -> dict[str, str]:
    """Return the files that the text of a SHA256SUMS names, with their checksums.

    Raises:
        ValueError: the text is truncated, or names a file outside its folder, or with too long a name.
    """
    named = {}
    # Not splitlines, which also splits at other characters that a file name may contain.
    *lines, rest = sums.decode().split("\n")
    # A complete text ends with a newline, after which nothing is left.
    if rest or not lines:
        raise ValueError(f"{SUMS} is empty or truncated")
    for line in lines:
        expected, _, name = line.partition("  ")
        parts = Path(name).parts
        # The text may come from another machine, and must not give access to files outside the folder.
        if Path(name).is_absolute() or ".." in parts:
            raise ValueError(f"{SUMS} names a file outside its folder: {name}")
        if any(len(part.encode()) > LONGEST_NAME for part in parts):
            raise ValueError(f"{SUMS} names a file with too long a name: {name[:LONGEST_NAME]}")
        named[name] = expected
    return named
