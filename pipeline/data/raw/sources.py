"""The four kinds of sources of a data set. Each returns the unpacked files as bytes, not yet verified.

Nothing is ever unpickled, extracted to the paths that an archive names, or read beyond MAX_BYTES.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.config.data import Source
from pipeline.data.raw import idx
from pipeline.data.raw.download import MAX_BYTES, SourceError, download

# Limit for npm and apt-get, which give up much earlier when no data arrives.
COMMAND_SECONDS = 300.0


def read_source(source: Source, folder: Path) -> dict[str, bytes]:
    """Return the unpacked content of the four files, by role.

    Args:
        source: config of the source.
        folder: an empty folder for downloads, on a disk with enough free space.

    Raises:
        SourceError: the source cannot be reached, or its files cannot be read.
        OSError: the folder cannot be written.
    """
    readers = {"npz": _read_npz, "gzip_files": _read_gzip_files, "npm": _read_npm, "debian": _read_debian}
    return readers[source.kind](source, folder)


def unpacked(content: bytes) -> bytes:
    """Return the content of a file that may be gzipped.

    Raises:
        SourceError: the gzip file is damaged or truncated, or unpacks to more than MAX_BYTES.
    """
    # Every gzip file starts with these two bytes.
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            return _capped(stream, "the unpacked gzip file")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError(f"a damaged or truncated gzip file ({error})") from None


def _capped(stream: IO[bytes] | gzip.GzipFile, what: str) -> bytes:
    """Read a stream to its end, but not beyond MAX_BYTES: a small archive may unpack to more than the memory."""
    content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SourceError(f"{what} is larger than {MAX_BYTES:,} bytes")
    return content


def read_file(file: Path) -> bytes:
    """Return the content of a plain or gzipped file.

    Raises:
        SourceError: the file is damaged or too large, see `unpacked`.
        OSError: the file cannot be read.
    """
    with file.open("rb") as stream:
        return unpacked(_capped(stream, file.name))


def _read_npz(source: Source, folder: Path) -> dict[str, bytes]:
    file = download(source.location, folder / "arrays.npz", source.sha256)
    contents = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for role, name in source.members.items():
                with archive.open(f"{name}.npy") as stream:
                    content = io.BytesIO(_capped(stream, name))
                contents[role] = idx.encode(np.lib.format.read_array(content, allow_pickle=False))
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        raise SourceError(f"not an .npz file with these arrays ({error})") from None
    return contents


def _read_gzip_files(source: Source, folder: Path) -> dict[str, bytes]:
    base = source.location.rstrip("/")
    return {role: read_file(download(f"{base}/{path}", folder / role, None)) for role, path in source.members.items()}


def _read_npm(source: Source, folder: Path) -> dict[str, bytes]:
    # Without these npm waits minutes for a registry that does not answer.
    waiting = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=15000"]
    # A package's scripts would run its publisher's code.
    quiet = ["--ignore-scripts", "--no-update-notifier"]
    _command(["npm", "pack", source.location, "--pack-destination", str(folder), *waiting, *quiet], folder)
    archive = _only_file(folder, "*.tgz")
    with archive.open("rb") as stream:
        content = _capped(stream, archive.name)
    received = hashlib.sha256(content).hexdigest()
    if source.sha256 not in (None, received):
        raise SourceError(f"{archive.name}: SHA-256 is {received}, expected {source.sha256}")
    return _tar_members(unpacked(content), source.members)


def _read_debian(source: Source, folder: Path) -> dict[str, bytes]:
    installed = {role: Path(path) for role, path in source.members.items()}
    # If the package is installed, its files need not be downloaded.
    if all(file.is_file() and os.access(file, os.R_OK) for file in installed.values()):
        return {role: read_file(file) for role, file in installed.items()}
    waiting = [f"-oAcquire::{key}" for key in ("Retries=1", "http::Timeout=10", "https::Timeout=10")]
    _command(["apt-get", "download", *waiting, source.location], folder)
    file = _only_file(folder, "*.deb")
    unpack = [_program("dpkg-deb"), "--fsys-tarfile", str(file)]
    content = b""
    with subprocess.Popen(unpack, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        # Popen's type allows for no pipe, which cannot happen with PIPE.
        if process.stdout:
            content = _capped(process.stdout, file.name)
    if process.returncode:
        raise SourceError(f"dpkg-deb cannot unpack {file.name}")
    return _tar_members(content, source.members)


def _tar_members(content: bytes, wanted: Mapping[str, str]) -> dict[str, bytes]:
    """Return the wanted members of an unpacked tar archive, which must be regular files; no other member is read."""
    # Debian's paths in an archive start with "./", in conf with "/".
    roles = {path.lstrip("/"): role for role, path in wanted.items()}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                role = roles.get(member.name.removeprefix("./"))
                if role is None:
                    continue
                # For a link, `extractfile` would return the content of its target.
                if not member.isreg():
                    raise SourceError(f"{member.name} in the package is not a regular file")
                stream = archive.extractfile(member)
                # `extractfile` returns None for members that are not regular; they were refused above.
                if stream is not None:
                    found[role] = unpacked(_capped(stream, member.name))
    except (tarfile.TarError, EOFError) as error:
        raise SourceError(f"not a tar archive ({error})") from None
    missing = [wanted[role] for role in wanted if role not in found]
    if missing:
        raise SourceError(f"the package has no {', '.join(missing)}")
    return found


def _program(name: str) -> str:
    """Return the path of a program."""
    found = shutil.which(name)
    if found is None:
        raise SourceError(f"{name} is not installed")
    return found


def _command(command: list[str], folder: Path) -> None:
    """Run a package manager in `folder`.

    Raises:
        SourceError: it cannot be run, takes too long, or fails. The reason is the longest of its first error messages.
    """
    program = _program(command[0])
    try:
        # LC_ALL=C: the code below expects messages in English.
        done = subprocess.run(
            [program, *command[1:]], cwd=folder, env=os.environ | {"LC_ALL": "C"}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SourceError(f"{command[0]} did not finish within {COMMAND_SECONDS:.0f} s") from None
    except OSError as error:
        raise SourceError(f"{command[0]} cannot be run ({error.strerror})") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        complaints = [line for line in lines if line.startswith(("npm error", "npm ERR!", "E:"))] or lines
        # npm's first lines are short codes; the sentence that explains them is the longest.
        reason = max(complaints[:4], key=len, default=f"{command[0]} ended with code {done.returncode}")[:300]
        if "locate package" in reason:
            reason += " (try `apt-get update`)"
        raise SourceError(reason)


def _only_file(folder: Path, pattern: str) -> Path:
    """Return the file that a package manager has put into the folder; its name contains a version."""
    files = list(folder.glob(pattern))
    if len(files) != 1 or not files[0].is_file():
        raise SourceError(f"expected one file that matches {pattern}, received {len(files)}")
    return files[0]
