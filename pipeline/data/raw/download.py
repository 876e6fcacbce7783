"""Download one file over HTTP: from a host that answers, at most MAX_BYTES, with the right checksum."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests

from pipeline.data.raw.checks import looks_like_html

# Limit for a download, and for the content of an archive. The real data sets have 55 MB.
MAX_BYTES = 256 * 2**20
# Limit for connecting to any of a host's addresses.
REACH_SECONDS = 8.0


class SourceError(Exception):
    """A source cannot be used; the message says why, in one line."""


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
            downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**16, timeout=(5, 30))
            try:
                downloader(url, self, pooch_)
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


def download(url: str, file: Path, sha256: str | None) -> Path:
    """Download a file, and verify its checksum if there is one; return its path.

    Raises:
        SourceError: the host is unreachable, or what arrived is too large, a web page, or another file.
    """
    _check_reachable(url)
    pooch.get_logger().setLevel("WARNING")
    downloads = pooch.create(file.parent, "", registry={file.name: sha256}, urls={file.name: url}, retry_if_failed=1)
    capped = _CappedDownload()
    try:
        downloads.fetch(file.name, downloader=capped)
    except requests.RequestException as error:
        raise SourceError(_cause(error)) from None
    # Pooch raises a ValueError for a wrong checksum.
    except ValueError as error:
        if looks_like_html(capped.head):
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
