"""What the two data stages, fetch and prepare, share: their config, and the check of a raw file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.config.data import IdxFile
from pipeline.data.raw import idx

RAW = Path("data") / "raw"


def mismatch(content: bytes, file: IdxFile) -> str:
    """Why an unpacked file is not the one that conf names, in one line; empty when it is."""
    received = hashlib.sha256(content).hexdigest()
    if received == file.sha256:
        return ""
    if looks_like_html(content):
        return f"an HTML page instead of {file.name}"
    try:
        idx.decode(content)
    except ValueError as error:
        return f"{file.name}: {error}"
    return f"{file.name}: SHA-256 is {received}, expected {file.sha256}"


def looks_like_html(content: bytes) -> bool:
    """Whether a download is a page: the answer of a captive portal, a proxy or a place that has moved."""
    return content.lstrip()[:1] == b"<"
