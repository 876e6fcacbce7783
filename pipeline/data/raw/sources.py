"""The four kinds of places that a data set comes from. Each gives the unpacked files as bytes, not yet verified.

Nothing is ever unpickled, extracted to disk by an archive's own paths, or read beyond MAX_BYTES.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import numpy as np
import pooch
import requests

from pipeline.config.data import Source
from pipeline.data.raw import idx
from pipeline.data.raw.checks import looks_like_html

MAX_BYTES = 256 * 2**20  # for a download and for what an archive unpacks to; the real sets have 55 MB
REACH_SECONDS = 8.0  # for connecting to any of a host's addresses
COMMAND_SECONDS = 300.0  # for npm and apt-get, which give up much earlier when nothing moves


class SourceError(Exception):
    """Why a source cannot be used, in one line."""


def read_source(source: Source, folder: Path) -> dict[str, bytes]:
    """The unpacked content of the four files, by role.

    Args:
        source: what conf says of the place.
        folder: an empty folder for downloads, on a disk with room.

    Raises:
        SourceError: the place cannot be reached, or what it gave cannot be read.
        OSError: the folder cannot be written.
    """
    readers = {"npz": _read_npz, "gzip_files": _read_gzip_files, "npm": _read_npm, "debian": _read_debian}
    return readers[source.kind](source, folder)


def unpacked(content: bytes) -> bytes:
    """The content of a file that may be gzipped.

    Raises:
        SourceError: a damaged or truncated gzip file, or one that unpacks to more than MAX_BYTES.
    """
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            return _capped(stream, "the unpacked gzip file")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError(f"a damaged or truncated gzip file ({error})") from None


def _capped(stream: IO[bytes] | gzip.GzipFile, what: str) -> bytes:
    content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SourceError(f"{what} is larger than {MAX_BYTES:,} bytes")
    return content


def read_file(file: Path) -> bytes:
    """The content of a plain or gzipped file.

    Raises:
        SourceError: see `unpacked`.
        OSError: the file cannot be read.
    """
    with file.open("rb") as stream:
        return unpacked(_capped(stream, file.name))


def _read_npz(source: Source, folder: Path) -> dict[str, bytes]:
    file = _download(source.location, folder / "arrays.npz", source.sha256)
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
    return {role: read_file(_download(f"{base}/{path}", folder / role, None)) for role, path in source.members.items()}


def _read_npm(source: Source, folder: Path) -> dict[str, bytes]:
    waiting = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=15000"]
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
    if all(file.is_file() and os.access(file, os.R_OK) for file in installed.values()):
        return {role: read_file(file) for role, file in installed.items()}
    waiting = [f"-oAcquire::{key}" for key in ("Retries=1", "http::Timeout=10", "https::Timeout=10")]
    _command(["apt-get", "download", *waiting, source.location], folder)
    file = _only_file(folder, "*.deb")
    unpack = [_program("dpkg-deb"), "--fsys-tarfile", str(file)]
    with subprocess.Popen(unpack, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        content = _capped(process.stdout, file.name) if process.stdout else b""
    if process.returncode:
        raise SourceError(f"dpkg-deb cannot unpack {file.name}")
    return _tar_members(content, source.members)


def _tar_members(content: bytes, wanted: Mapping[str, str]) -> dict[str, bytes]:
    """The wanted members of an unpacked tar archive, which must be regular files. No other member is looked at."""
    roles = {path.lstrip("/"): role for role, path in wanted.items()}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                role = roles.get(member.name.removeprefix("./"))
                if role is None:
                    continue
                stream = archive.extractfile(member) if member.isreg() else None
                if stream is None:
                    raise SourceError(f"{member.name} in the package is not a regular file")
                found[role] = unpacked(_capped(stream, member.name))
    except (tarfile.TarError, EOFError) as error:
        raise SourceError(f"not a tar archive ({error})") from None
    missing = [wanted[role] for role in wanted if role not in found]
    if missing:
        raise SourceError(f"the package has no {', '.join(missing)}")
    return found


class _CappedDownload:
    """What pooch calls to fetch a URL: stops at MAX_BYTES, and keeps the first bytes to tell what came."""

    def __init__(self) -> None:
        self.size = 0
        self.head = b""

    def __call__(self, url: str, output_file: str, pooch_: object) -> None:
        self.size, self.head = 0, b""
        with Path(output_file).open("wb") as self.stream:
            download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**16, timeout=(5, 30))
            try:
                download(url, self, pooch_)
            except (requests.ConnectionError, requests.Timeout) as error:
                if self.size:
                    raise
                # pooch does not try this again: an answer that broke off deserves a second try, a dead place does not.
                raise SourceError(f"does not answer ({_cause(error)})") from None

    def write(self, chunk: bytes) -> int:
        self.head = self.head or chunk[:100]
        self.size += len(chunk)
        if self.size > MAX_BYTES:
            raise SourceError(f"the answer is larger than {MAX_BYTES:,} bytes")
        return self.stream.write(chunk)

    def flush(self) -> None:
        """Pooch calls this after every chunk; closing the file is enough."""


def _download(url: str, file: Path, sha256: str | None) -> Path:
    _check_reachable(url)
    pooch.get_logger().setLevel("WARNING")
    place = pooch.create(file.parent, "", registry={file.name: sha256}, urls={file.name: url}, retry_if_failed=1)
    download = _CappedDownload()
    try:
        place.fetch(file.name, downloader=download)
    except requests.RequestException as error:
        raise SourceError(_cause(error)) from None
    except ValueError as error:  # what pooch raises for a wrong checksum
        html = looks_like_html(download.head)
        raise SourceError(f"an HTML page instead of {url}" if html else " ".join(str(error).split())) from None
    return file


def _check_reachable(url: str) -> None:
    """Refuse a host of which no address answers in time. requests would spend its timeout on each of twenty."""
    parts = urlsplit(url)
    if not parts.hostname or requests.utils.get_environ_proxies(url, no_proxy=None):
        return
    reason: Exception = TimeoutError("no answer")
    end = time.monotonic() + REACH_SECONDS
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        addresses = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise SourceError(f"{parts.hostname} has no address ({error})") from None
    for family, kind, protocol, _, address in addresses:
        left = end - time.monotonic()
        if left <= 0:
            break
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.settimeout(min(2.0, left))
                probe.connect(address)
                return
        except OSError as error:
            reason = error
    raise SourceError(f"{parts.hostname} cannot be connected to ({reason})")


def _cause(error: BaseException) -> str:
    """Requests wraps urllib3's errors in its own; the innermost says what happened."""
    inner = getattr(error.args[0], "reason", None) if error.args else None
    return " ".join(str(inner or error).split())[:300]


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SourceError(f"{name} is not installed")
    return found


def _command(command: list[str], folder: Path) -> None:
    """Run a package manager in `folder`; the longest of the first lines of its complaint becomes the reason."""
    program = _program(command[0])
    try:
        done = subprocess.run(
            [program, *command[1:]], cwd=folder, env=os.environ | {"LC_ALL": "C"}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SourceError(f"{command[0]} was not done after {COMMAND_SECONDS:.0f} s") from None
    except OSError as error:
        raise SourceError(f"{command[0]} cannot be run ({error.strerror})") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        complaints = [line for line in lines if line.startswith(("npm error", "npm ERR!", "E:"))] or lines
        reason = max(complaints[:4], key=len, default=f"{command[0]} ended with code {done.returncode}")[:300]
        raise SourceError(f"{reason} (try `apt-get update`)" if "locate package" in reason else reason)


def _only_file(folder: Path, pattern: str) -> Path:
    files = list(folder.glob(pattern))
    if len(files) != 1 or not files[0].is_file():
        raise SourceError(f"{len(files)} files {pattern} came, expected one")
    return files[0]
