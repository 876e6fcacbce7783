"""Files with several names: what is trained is on disk once, as hard links wherever the file system has them."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from functools import partial
from pathlib import Path

from pipeline.system.files import write_file

# The permissions to write, of owner, group and others.
WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def share_file(source: Path, destination: Path) -> None:
    """Give a file a second name, so that its content is on disk once; copy it where the file system has no such links.

    Both names become read-only: writing to one in place would change the other. Replacing or deleting one does not.

    Args:
        source: a complete file, which nothing writes to again.
        destination: its other name; an existing file is replaced.
    """
    write_file(destination, partial(_link_or_copy, source))


def link_file(source: Path, destination: Path) -> None:
    """Give a file a second name, as `share_file` does, and write nothing where the file system has no such links.

    Raises:
        OSError: it has none, or the file has too many names, or does not exist.
    """
    write_file(destination, partial(_link, source))


def _link_or_copy(source: Path, destination: Path) -> None:
    try:
        _link(source, destination)
    except FileNotFoundError:
        raise
    except OSError:
        # Another file system, one without links, or too many names of one file.
        shutil.copyfile(source, destination)


def _link(source: Path, destination: Path) -> None:
    os.link(source, destination)
    # Only the owner may do this, and who may write to the file can see that it has other names.
    with suppress(OSError):
        destination.chmod(stat.S_IMODE(destination.stat().st_mode) & ~WRITABLE)


def share_folder(source: Path, destination: Path) -> None:
    """Share all files below a folder (see `share_file`) with another one, which may have further files."""
    for file in sorted(source.rglob("*")):
        if file.is_file():
            copy = destination / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            share_file(file, copy)
