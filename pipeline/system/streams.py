"""Keep a command running whoever reads its output: standard streams that are always open and never raise.

A reader may exit (`| head -1`), a disk may be full, a terminal may be closed, and a parent process may have closed a
stream. None of this may end a training.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class LenientFile(io.FileIO):
    """A file opened for writing that drops what cannot be written.

    Attributes:
        error: why something could not be written, the first time; None if everything was written.
    """

    error: OSError | None = None

    def write(self, data: ReadableBuffer) -> int:
        """Write all bytes, and return their number even if some were dropped."""
        left = memoryview(data).cast("B")
        total = len(left)
        try:
            while left:
                written = super().write(left)
                if written is None:
                    # Another process has made the stream non-blocking, and the reader is slow.
                    select.select([], [self], [])
                left = left[written or 0 :]
        except OSError as error:
            self.error = self.error or error
        return total


class MissingFile(LenientFile):
    """The file of a stream that was closed when the process started: it has no reader either."""

    def write(self, data: ReadableBuffer) -> int:
        """Drop the bytes, and return their number."""
        self.error = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        return memoryview(data).nbytes


def keep_streams() -> None:
    """Open the standard streams that are closed, and let none raise an error. A second call does nothing."""
    missing = [number for number in (0, 1, 2) if _open_if_closed(number)]
    # Streams that something else has replaced, such as a test, are left alone.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _lenient(1, sys.stdout, 1 in missing)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _lenient(2, sys.stderr, 2 in missing)


def output_error() -> OSError | None:
    """Write out what is buffered for stdout, and return why some of the output was lost; None if none was."""
    file = getattr(sys.stdout, "buffer", None)
    if not isinstance(file, LenientFile):
        return None
    sys.stdout.flush()
    return file.error


def reader_is_ready() -> bool:
    """Whether stderr takes a line at once. A pager that nobody scrolls and a terminal stopped by Ctrl-S do not."""
    file = getattr(sys.stderr, "buffer", None)
    return not isinstance(file, LenientFile) or bool(select.select([], [file], [], 0)[1])


def _open_if_closed(number: int) -> bool:
    """Open a closed standard stream on /dev/null, and return whether it was closed.

    Otherwise the next file that is opened gets its number, and messages of libraries and child processes end up in it.
    """
    try:
        os.fstat(number)
    except OSError:
        # The lowest free number, so in ascending order each stream gets its own.
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        return True
    return False


def _lenient(number: int, stream: TextIO | None, missing: bool) -> TextIO:
    """Return a stream like `stream` that writes to the same file but never raises."""
    opened = LenientFile
    if missing:
        opened = MissingFile
    # Without a buffer of bytes: a signal handler may print while another print is being written, and a BufferedWriter
    # raises RuntimeError then.
    file = opened(number, "wb", closefd=False)
    # A character that the terminal cannot show must not end a command either.
    return io.TextIOWrapper(
        file,
        getattr(stream, "encoding", None),
        "backslashreplace",
        line_buffering=getattr(stream, "line_buffering", number == 2),
        # PYTHONUNBUFFERED
        write_through=getattr(stream, "write_through", False),
    )
