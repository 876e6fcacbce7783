"""The four kinds of sources of a data set. Each returns the unpacked files as bytes, not yet verified.

Nothing is ever unpickled, extracted to the paths that an archive names, or read beyond MAX_BYTES.
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

# Limit for a download, and for the content of an archive. The real data sets have 55 MB.
MAX_BYTES = 256 * 2**20
# Limit for connecting to any of a host's addresses.
REACH_SECONDS = 8.0
# Limit for npm and apt-get, which give up much earlier when no data arrives.
COMMAND_SECONDS = 300.0


class SourceError(Exception):
    """A source cannot be used; the message says why, in one line."""


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


class _CappedDownload:
    """A downloader for pooch that stops at MAX_BYTES, and keeps the first bytes to recognise a web page.

    Pooch writes to the downloader as if it were the file.
    """

    def __init__(self) -> None:
        self.size = 0
        self.head = b""

    def __call__(self, url: str, output_file: str, pooch_: object) -> None:
        # A second try starts from the beginning.
        self.size = 0
        self.head = b""
        with Path(output_file).open("wb") as self.stream:
            download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**16, timeout=(5, 30))
            try:
                download(url, self, pooch_)
            except (requests.ConnectionError, requests.Timeout) as error:
                if self.size:
                    raise
                # Pooch does not retry after our own errors. An interrupted download is worth a second try, which a
                # server that never answered is not.
                raise SourceError(f"does not answer ({_cause(error)})") from None

    def write(self, chunk: bytes) -> int:
        """Write a chunk to the file; return its length.

        Raises:
            SourceError: the download is larger than MAX_BYTES.
        """
        self.head = self.head or chunk[:100]
        self.size += len(chunk)
        if self.size > MAX_BYTES:
            raise SourceError(f"the download is larger than {MAX_BYTES:,} bytes")
        return self.stream.write(chunk)

    def flush(self) -> None:
        """Do nothing: pooch calls this after every chunk, and closing the file is enough."""


def _download(url: str, file: Path, sha256: str | None) -> Path:
    _check_reachable(url)
    pooch.get_logger().setLevel("WARNING")
    downloads = pooch.create(file.parent, "", registry={file.name: sha256}, urls={file.name: url}, retry_if_failed=1)
    download = _CappedDownload()
    try:
        downloads.fetch(file.name, downloader=download)
    except requests.RequestException as error:
        raise SourceError(_cause(error)) from None
    # Pooch raises a ValueError for a wrong checksum.
    except ValueError as error:
        if looks_like_html(download.head):
            raise SourceError(f"an HTML page instead of {url}") from None
        raise SourceError(" ".join(str(error).split())) from None
    return file


def _check_reachable(url: str) -> None:
    """Refuse a host if none of its addresses answers in time; requests would spend its timeout on each of them.

    Raises:
        SourceError: the host cannot be resolved, or is unreachable.
    """
    parts = urlsplit(url)
    # Behind a proxy the host itself may be out of reach.
    if not parts.hostname or requests.utils.get_environ_proxies(url, no_proxy=None):
        return
    reason: Exception = TimeoutError("no answer")
    end = time.monotonic() + REACH_SECONDS
    try:
        port = parts.port or {"http": 80}.get(parts.scheme, 443)
        addresses = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise SourceError(f"{parts.hostname} cannot be resolved ({error})") from None
    for family, kind, protocol, _, address in addresses:
        left = end - time.monotonic()
        if left <= 0:
            break
        try:
            with socket.socket(family, kind, protocol) as probe:
                # At most 2 s for one address, so that several have a turn.
                probe.settimeout(min(2.0, left))
                probe.connect(address)
                return
        except OSError as error:
            reason = error
    raise SourceError(f"{parts.hostname} is unreachable ({reason})")


def _cause(error: BaseException) -> str:
    """Describe an error in one line: requests wraps urllib3's errors in its own, and the innermost is the clearest."""
    inner = None
    if error.args:
        inner = getattr(error.args[0], "reason", None)
    return " ".join(str(inner or error).split())[:300]


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
