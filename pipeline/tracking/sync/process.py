"""Runs the sync in a separate process, so that training shares neither its interpreter nor its memory with MLflow.

The process (service.py) receives the attempts to send as lines of JSON, and reads their folders. It runs at low
priority, and exits when its input is closed.
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
from pipeline.system.errors import LabError, UnavailableError
from pipeline.system.last_line import Told, untold
from pipeline.system.processes import owner
from pipeline.system.project import PROJECT
from pipeline.system.signals import NOTICES, SIGNALS

# Not imported at run time: these import everything that training needs, and the process must be launched before that.
if TYPE_CHECKING:
    from pipeline.points.sweep_record import SweepRecord
    from pipeline.tracking.sync.attempts import Attempt

log = logging.getLogger(__name__)


def launch(first: Config) -> subprocess.Popen[bytes] | None:
    """Start the process, which imports MLflow while the command reads its data, and then waits for messages.

    Args:
        first: config of the first point of the command.

    Returns:
        The process. None if it cannot be started or is not needed (in a dry run), and for Keras, whose models can only
        be written by a process with TensorFlow.
    """
    if first.dry_run or first.backend.name == "keras":
        return None
    # Ctrl-C and the end of a terminal reach all processes in it. The new one must survive them, to record that the
    # command was stopped.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, *NOTICES))
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.tracking.sync.service", first.tracking.name],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    except OSError:  # out of memory, or too many processes
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end(process: subprocess.Popen[bytes]) -> None:
    """End the process if it is running."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            # Closing a pipe flushes its buffer, which fails because the reader has exited.
            with suppress(OSError):
                pipe.close()


class SyncProcess:
    """Like `SyncThread`, but uses a process started by `launch`.

    Args:
        process: the process from `launch`.
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
        self._told: Told = untold
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        # Threads, because a full pipe would block training, and Ctrl-C could interrupt a write in the middle of a line.
        self._writer = threading.Thread(target=self._write, name="sync writer", daemon=True)
        self._listener = threading.Thread(target=self._listen, name="sync listener", daemon=True)

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Add attempts to send; see `Sync.add`."""
        new = [attempt for attempt in attempts if attempt not in self._known]
        if new:
            self._known.update(new)
            self._messages.put({"points": [asdict(attempt) for attempt in new]})

    def start(self) -> None:
        """Start sending; a second call does nothing."""
        if self._writer.ident is None:
            # Not in `__init__`: only now does the record contain the results of earlier commands with the same points.
            self._opening = {"root": str(self._root), "sweep": self._sweep.to_dict(), "owner": owner()}
            self._writer.start()
            self._listener.start()

    def close(self, ended: SweepRecord, told: Told = untold) -> None:
        """Have the process send everything that remains, including the sweep's outcome, and wait for it to exit.

        Args:
            ended: the final record of the sweep.
            told: is told how many points MLflow has, and of how many.
        """
        self._told = told
        self._messages.put({"end": ended.to_dict()})
        self._messages.put(None)
        try:
            self.start()
            self._writer.join()
            self._listener.join()
        finally:
            end(self._process)

    def unsent(self) -> LabError | None:
        """Return an error if results are missing from MLflow; see `SyncThread.unsent`."""
        if self._answer is not None:
            text = self._answer["unsent"]
            if text is None:
                return None
            if self._answer["unavailable"]:
                return UnavailableError(text)
            return LabError(text)
        # No answer: the process died. A negative exit code is the signal that killed it.
        code = self._process.returncode
        problem = "the process that writes to MLflow ended early"
        if code < 0:
            received = signal.strsignal(-code) or f"signal {-code}"
            return incomplete(problem, received, self._sweep.tracking)
        received = "an error of this program, with the traceback above"
        # Not an UnavailableError: the store may work.
        return LabError(str(incomplete(problem, received, self._sweep.tracking)))

    def _write(self) -> None:
        """Send queued messages to the process until the end of the queue."""
        pipe = self._process.stdin
        message: dict[str, Any] | None = self._opening
        while pipe is not None and message is not None:
            try:
                pipe.write(json.dumps(message).encode() + b"\n")
                pipe.flush()
            except OSError:  # the process has exited, which `unsent` reports
                return
            message = self._messages.get()

    def _listen(self) -> None:
        """Display the notices of the process until its final message arrives."""
        for line in self._process.stdout or ():
            message = json.loads(line)
            if "notice" in message:
                log.warning(message["notice"])
            elif "sent" in message:
                self._told(message["sent"], message["total"])
            else:
                self._answer = message
                return


def incomplete(problem: str, received: str, tracking: Tracking) -> UnavailableError:
    """Return an error that MLflow is missing some results, with instructions for sending them.

    Args:
        problem: the missing results, or the reason.
        received: the error that occurred.
        tracking: the store.
    """
    where = ""
    if tracking.uri is not None:
        where = f" tracking=server tracking.uri={tracking.uri}"
    return UnavailableError(
        f"MLflow sync is incomplete: {problem}.",
        received=received,
        fix=f"the points are kept in .points/; fix the cause, then run python -m pipeline.rebuild{where}",
    )
