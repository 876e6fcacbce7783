"""What the data stages fetch and prepare share: the folder of raw files, and the check of one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.config.data import IdxFile
from pipeline.data.raw import idx

RAW = Path("data") / "raw"


def mismatch(content: bytes, file: IdxFile) -> str:
    """Return why an unpacked file is not the one that conf names, in one line; empty if it is the right one."""
    received = hashlib.sha256(content).hexdigest()
    if received == file.sha256:
        return ""
    # The likely causes first: that a checksum differs says nothing about why.
    if looks_like_html(content):
        return f"an HTML page instead of {file.name}"
    try:
        idx.decode(content)
    except ValueError as error:
        return f"{file.name}: {error}"
    return f"{file.name}: SHA-256 is {received}, expected {file.sha256}"


def looks_like_html(content: bytes) -> bool:
    """Return whether a download is a web page, as a captive portal, a proxy or a moved site answers."""
    return content.lstrip()[:1] == b"<"
