"""Ways to damage files, and the errors that reading them must raise."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.system.errors import DamagedError, LabError
from pipeline.system.files import readable

# A run.json as training writes it.
RUN_JSON: dict[str, Any] = {
    "name": "it",
    "overrides": ["seed=2"],
    "tags": {"command": "x"},
    "attempt": "1",
    "started": 2,
    "owner": "me",
}


@contextmanager
def refused() -> Iterator[None]:
    """Check that the block fails as a reader does for damaged content."""
    with pytest.raises(DamagedError, match="It cannot be read"), readable("It", expected="", fix=""):
        yield


def rewrite(file: Path, content: bytes | bytearray) -> None:
    """Write a file anew; if it has other names and is therefore read-only, these keep their content."""
    file.unlink(missing_ok=True)
    file.write_bytes(content)


def cut(content: bytes, place: int, bit: int, foreign: bytes) -> bytes:
    return content[: place % len(content)]


def flipped(content: bytes, place: int, bit: int, foreign: bytes) -> bytes:
    broken = bytearray(content)
    broken[place % len(content)] ^= 1 << bit
    return bytes(broken)


def replaced(content: bytes, place: int, bit: int, foreign: bytes) -> bytes:
    return foreign


def lengthened(content: bytes, place: int, bit: int, foreign: bytes) -> bytes:
    return content + foreign


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.file,)


MACHINE: list[OSError | MemoryError] = [
    *(OSError(number, os.strerror(number)) for number in (errno.EACCES, errno.EIO, errno.ENOSPC, errno.EMFILE)),
    MemoryError("Unable to allocate 7 GiB"),
]
"""Errors that a machine raises when it cannot read an undamaged file."""


def fail_at(
    monkeypatch: pytest.MonkeyPatch, file: Path, error: OSError | MemoryError, opening: int | None = None
) -> None:
    """Make opening `file` fail: the first time (0), the second (1), ...; None: always."""
    opened, count = Path.open, itertools.count()

    def open_(self: Path, *arguments: Any, **more: Any) -> Any:
        if self == file and opening in (None, next(count)):
            raise error
        return opened(self, *arguments, **more)

    monkeypatch.setattr(Path, "open", open_)


def check_machine_error(told: LabError, error: OSError | MemoryError, path: Path) -> None:
    """Check that the message names the path and the cause, and does not treat the file as damaged."""
    assert not isinstance(told, DamagedError)
    assert str(path) in str(told)
    assert str(error.args[-1]) in str(told)
    assert "delete" not in str(told)
