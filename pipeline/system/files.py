"""Write files and folders that are either whole or absent: they are written beside their path, then renamed to it."""

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
# What opening a path raises where there is no file.
MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
# The longest name of a file or folder that common file systems accept, in bytes.
LONGEST_NAME = 255


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError within the block, such as a full disk, into one message about a path.

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
            expected="a writable folder with room in it",
            received=received,
            fix="make room or fix the permissions, then run the same command again; nothing half-written was left",
        ) from error


@contextmanager
def readable(what: str, *, expected: str, fix: str) -> Iterator[None]:
    """Turn errors of reading a file within the block into one message.

    Readers raise ValueError for wrong content, whatever their libraries raise. Any other error, such as a TypeError,
    is a bug of ours and passes through.

    Args:
        what: what is read, with its path, for instance `The trained point in .points/0123456789abcdef`.
        expected: what the message about damage expects.
        fix: what the message about damage advises.

    Raises:
        DamagedError: a file is missing, cut short, changed or of another kind.
        LabError: this machine prevents reading: permissions, a disk, the memory. The file itself may be whole.
    """
    try:
        yield
    except (*MISSING, ValueError) as error:
        received = f"{type(error).__name__}: {error}"
        raise DamagedError(f"{what} cannot be read.", expected=expected, received=received, fix=fix) from None
    except (OSError, MemoryError) as error:
        # Not `fix`, which may advise to delete the file: its content may be whole.
        raise LabError(
            f"{what} cannot be read.",
            expected="permission to read it, a disk that answers, and enough memory",
            received=f"{type(error).__name__}: {error}",
            fix="it may be whole, so leave it there: fix what was received, then run the same command again",
        ) from error


@contextmanager
def scratch_beside(destination: Path) -> Iterator[Path]:
    """Make an empty folder beside `destination` for the block, and delete it afterwards."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(destination)
    with TemporaryDirectory(prefix=_beside(destination, os.getpid()), dir=destination.parent) as folder:
        yield Path(folder)


def _beside(destination: Path, process: int | str) -> str:
    """Return the start of the hidden name under which a process writes `destination`."""
    # Machine and process id tell whether the writer still runs, so that its leftovers can be removed.
    return f".{destination.name}.partial-{platform.node()}-{process}-"


def remove_leftovers(destination: Path) -> None:
    """Remove what killed processes of this machine left beside a file or folder that they were writing."""
    # A leftover that cannot be removed does no harm.
    with suppress(OSError):
        prefix = _beside(destination, "").removesuffix("-")
        for path in destination.parent.iterdir():
            owner = path.name.removeprefix(prefix).partition("-")[0]
            if not path.name.startswith(prefix) or not owner.isdigit() or lives(int(owner)):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@contextmanager
def written_whole(destination: Path) -> Iterator[Path]:
    """Make an empty folder for the block to fill; when the block ends well, it becomes `destination`.

    An existing `destination` is replaced. When the block fails or is interrupted, nothing changes.

    Example:
        with written_whole(Path("data/prepared/mnist")) as new:
            (new / "data.json").write_text("{}")
    """
    with scratch_beside(destination) as scratch:
        # Not the scratch folder itself: TemporaryDirectory lets no other user enter that.
        new = scratch / "new"
        new.mkdir()
        yield new
        # A rename cannot replace a folder with content, so the old one moves into the scratch folder and goes with it.
        if destination.exists():
            destination.rename(scratch / "old")
        new.rename(destination)


def write_file(file: Path, write: Callable[[Path], object], durable: bool = False) -> None:
    """Let `write` write a file beside `file`, and rename it to `file`.

    Args:
        file: the path of the finished file; an existing file is replaced.
        write: gets the path to write to, which has the suffix of `file`.
        durable: whether the file must survive a power failure too.

    Example:
        write_file(folder / "outcome.json", lambda file: file.write_text(text, encoding="utf-8"))
    """
    remove_leftovers(file)
    # NumPy and Matplotlib choose a format by the suffix, so the temporary name has to end like the final one.
    beside = file.with_name(f"{_beside(file, os.getpid())}{file.suffix}")
    try:
        write(beside)
        if durable:
            # Before the rename: else the new name could survive a power failure, and the content not.
            with beside.open("rb") as stream:
                os.fsync(stream.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def written(file: Path) -> int:
    """Return when a file was written, in nanoseconds since 1970; 0 where it does not exist."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def short_hash(content: bytes) -> str:
    """Return the first 16 hexadecimal digits of a SHA-256, which identify a point or a sweep."""
    return hashlib.sha256(content).hexdigest()[:16]


def write_sums(folder: Path, but: str = "") -> None:
    """Write SHA256SUMS with the checksums of all files below a folder, in the format of `sha256sum --check`.

    Args:
        folder: where the files are, and SHA256SUMS will be.
        but: the name of files to leave out.
    """
    # Hidden files are left out: a killed process may have left one, which the next write removes.
    files = sorted(path for path in folder.rglob("[!.]*") if path.is_file() and path.name not in (SUMS, but))
    lines = [f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    write_file(folder / SUMS, lambda file: file.write_text("".join(lines), encoding="utf-8"))


def checked_files(folder: Path) -> list[str]:
    """Check the files that a folder's SHA256SUMS names, and return their names.

    Raises:
        OSError: a file does not exist or cannot be read.
        ValueError: a file has another checksum.
    """
    sums = named_files((folder / SUMS).read_bytes())
    for name, expected in sums.items():
        if file_sha256(folder / name) != expected:
            raise ValueError(f"{name} is not the file that was written: its SHA-256 differs")
    return list(sums)


def named_files(sums: bytes) -> dict[str, str]:
    """Return the files that the text of a SHA256SUMS names, with their checksums.

    Raises:
        ValueError: the text is cut short, or names a file outside its folder or one that no disk can hold.
    """
    named = {}
    # Not splitlines: it also splits at characters that a file name may contain.
    *lines, rest = sums.decode().split("\n")
    # A whole text ends with a newline, after which nothing is left.
    if rest or not lines:
        raise ValueError(f"{SUMS} is empty or cut short")
    for line in lines:
        expected, _, name = line.partition("  ")
        parts = Path(name).parts
        # The text may come from another machine, and must not lead to files that it has no business with.
        if Path(name).is_absolute() or ".." in parts:
            raise ValueError(f"{SUMS} names a file outside its folder: {name}")
        if any(len(part.encode()) > LONGEST_NAME for part in parts):
            raise ValueError(f"{SUMS} names a file with a longer name than a disk takes: {name[:LONGEST_NAME]}")
        named[name] = expected
    return named
