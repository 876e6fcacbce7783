"""A sync in a separate process, so that training shares neither its interpreter nor its memory with MLflow.

The process (service.py) receives the attempts to keep up with as lines of JSON, and reads their folders. It runs at low
priority, and ends as soon as its input is closed.
"""

from __future__ import annotations

import json
import logging
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.schema import Config, Tracking
from pipeline.system.errors import LabError
from pipeline.system.processes import owner
from pipeline.system.project import PROJECT
from pipeline.system.signals import SIGNALS

# These import everything that training needs, and the process must start before that.
if TYPE_CHECKING:
    from pipeline.points.sweep_record import SweepRecord
    from pipeline.tracking.sync.points import Attempt

log = logging.getLogger(__name__)


def launch(first: Config) -> subprocess.Popen[bytes] | None:
    """Start the process, which imports MLflow while the data is read, and then waits.

    Args:
        first: config of the first point of the command.

    Returns:
        The process. None where it cannot be started, in a dry run, and for Keras, whose models can only be written by a
        process with TensorFlow.
    """
    if first.dry_run or first.backend.name == "keras":
        return None
    # Ctrl-C reaches every process of a terminal. This one must survive it, to record that the command was stopped.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.tracking.sync.service", first.tracking.name],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    except OSError:  # not enough memory, or too many processes
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end(process: subprocess.Popen[bytes]) -> None:
    """End the process if it is running."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            # Closing a pipe writes what is buffered, which fails because its reader has ended.
            with suppress(OSError):
                pipe.close()


class SyncProcess:
    """The counterpart of `SyncThread` for a process that `launch` has started.

    Args:
        process: the process.
        root: folder that holds .points/ and mlruns/.
        sweep: the record of the command.
    """

    def __init__(self, process: subprocess.Popen[bytes], root: Path, sweep: SweepRecord) -> None:
        self._process = process
        self._root = root
        self._sweep = sweep
        self._known: set[Attempt] = set()
        self._opening: dict[str, Any] | None = None
        self._answer: dict[str, Any] | None = None
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        # Threads, because a full pipe must not block training, and Ctrl-C must not cut a line in two.
        self._writer = threading.Thread(target=self._write, name="sync writer", daemon=True)
        self._listener = threading.Thread(target=self._listen, name="sync listener", daemon=True)

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Keep up with more attempts; see `Sync.add`."""
        new = [attempt for attempt in attempts if attempt not in self._known]
        if new:
            self._known.update(new)
            self._messages.put({"points": [asdict(attempt) for attempt in new]})

    def start(self) -> None:
        """Begin to send; a second call does nothing."""
        if self._writer.ident is None:
            # Not in `__init__`: by now the record includes how an earlier command with the same points ended.
            self._opening = {"root": str(self._root), "sweep": self._sweep.plain(), "owner": owner()}
            self._writer.start()
            self._listener.start()

    def close(self, ended: SweepRecord) -> None:
        """Let the process send everything that is left and how the sweep ended, and wait for its end."""
        self._messages.put({"end": ended.plain()})
        self._messages.put(None)
        try:
            self.start()
            self._writer.join()
            self._listener.join()
        finally:
            end(self._process)

    def unsent(self) -> LabError | None:
        """Return what MLflow lacks, as a message; see `SyncThread.unsent`."""
        if self._answer is not None:
            text = self._answer["unsent"]
            return None if text is None else LabError(text)
        # No answer: the process died. A negative code is the signal that killed it.
        code = self._process.returncode
        received = "an error in this program, see above"
        if code < 0:
            received = signal.strsignal(-code) or f"signal {-code}"
        return incomplete("the process that writes to MLflow ended early", received, self._sweep.tracking)

    def _write(self) -> None:
        """Write messages to the process, until there are no more."""
        pipe = self._process.stdin
        message: dict[str, Any] | None = self._opening
        while pipe is not None and message is not None:
            try:
                pipe.write(json.dumps(message).encode() + b"\n")
                pipe.flush()
            except OSError:  # it has ended, which `unsent` reports
                return
            message = self._messages.get()

    def _listen(self) -> None:
        """Show the notices of the process, until its last message arrives."""
        for line in self._process.stdout or ():
            message = json.loads(line)
            if "notice" in message:
                log.warning(message["notice"])
            else:
                self._answer = message
                return


def incomplete(problem: str, received: str, tracking: Tracking) -> LabError:
    """Return the message that MLflow lacks something, and how to send it.

    Args:
        problem: what it lacks, or why.
        received: what went wrong.
        tracking: the store.
    """
    where = ""
    if tracking.uri is not None:
        where = f" tracking=server tracking.uri={tracking.uri}"
    return LabError(
        f"MLflow sync is incomplete: {problem}.",
        received=received,
        fix=f"the points are kept in .points/; fix the cause, then python -m pipeline.rebuild{where}",
    )
