"""Code shared by the stages fetch and prepare: the folder of raw files, and the check of one file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.config.data import IdxFile
from pipeline.data.raw import idx

RAW = Path("data") / "raw"


def mismatch(content: bytes, file: IdxFile) -> str:
    """Describe in one line why an unpacked file does not match its config; empty if it does."""
    received = hashlib.sha256(content).hexdigest()
    if received == file.sha256:
        return ""
    # The likely causes first: a different checksum alone says nothing about the cause.
    if looks_like_html(content):
        return f"an HTML page instead of {file.name}"
    try:
        idx.decode(content)
    except ValueError as error:
        return f"{file.name}: {error}"
    return f"{file.name}: SHA-256 is {received}, expected {file.sha256}"


def looks_like_html(content: bytes) -> bool:
    """Return whether a download is a web page, for instance from a captive portal, a proxy or a moved site."""
    return content.lstrip()[:1] == b"<"
