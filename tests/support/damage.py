"""Files damaged in every way, and what must come of reading them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.system.errors import DamagedError
from pipeline.system.files import readable


@contextmanager
def refused() -> Iterator[None]:
    """The block must fail as a reader does at damaged content."""
    with pytest.raises(DamagedError, match="It cannot be read"), readable("It", expected="", fix=""):
        yield


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
