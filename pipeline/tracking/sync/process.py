"""A sync in a process of its own, so that training shares neither its interpreter nor its memory with MLflow.

The process (service.py) is told in lines of JSON which attempts to keep up with, and reads their folders. It
runs at low priority, and ends as soon as nobody can tell it anything any more.
"""

from __future__ import annotations

import json
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
from pipeline.system.terminal import notice

if TYPE_CHECKING:  # these import what training needs; the process is to be launched before that
    from pipeline.points.sweep_record import SweepRecord
    from pipeline.tracking.sync.points import Attempt


def launch(first: Config) -> subprocess.Popen[bytes] | None:
    """Start the process, which imports MLflow while the data is read, and waits.

    Args:
        first: config of the command's first point.

    Returns:
        None where none can be started, and where none is wanted: in a dry run, and for Keras, whose models only a
        process with TensorFlow can write.
    """
    if first.dry_run or first.backend.name == "keras":
        return None
    # Ctrl-C reaches every process of a terminal: this one must live to say that the command was stopped.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.tracking.sync.service", first.tracking.name],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    except OSError:  # no memory for one more process, or too many of them
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end(process: subprocess.Popen[bytes]) -> None:
    """End the process, if it has not ended."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # what was not told yet, nobody reads
                pipe.close()


class SyncProcess:
    """What `SyncThread` is, for a process that `launch` has started.

    Args:
        process: it.
        root: folder that holds .points/ and mlruns/.
        sweep: what the command is.
    """

    def __init__(self, process: subprocess.Popen[bytes], root: Path, sweep: SweepRecord) -> None:
        self._process, self._root, self._sweep = process, root, sweep
        self._told: set[Attempt] = set()
        self._opening: dict[str, Any] | None = None
        self._answer: dict[str, Any] | None = None
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        # Threads, for the pipe may be full, and Ctrl-C may fall in the middle of a line.
        self._writer = threading.Thread(target=self._write, name="sync writer", daemon=True)
        self._listener = threading.Thread(target=self._listen, name="sync listener", daemon=True)

    def add(self, attempts: Iterable[Attempt]) -> None:
        """See `Sync.add`."""
        new = [attempt for attempt in attempts if attempt not in self._told]
        if new:
            self._told.update(new)
            self._messages.put({"points": [asdict(attempt) for attempt in new]})

    def start(self) -> None:
        """Begin to send, with the sweep as it stands now: what an earlier command came to is known by then."""
        if self._writer.ident is None:
            self._opening = {"root": str(self._root), "sweep": self._sweep.plain(), "owner": owner()}
            self._writer.start()
            self._listener.start()

    def close(self, ended: SweepRecord) -> None:
        """Let the process send what is left, and what the sweep came to, and wait for its end."""
        self._messages.put({"end": ended.plain()})
        self._messages.put(None)
        try:
            self.start()
            self._writer.join()
            self._listener.join()
        finally:
            end(self._process)

    def unsent(self) -> LabError | None:
        """See `SyncThread.unsent`."""
        if self._answer is not None:
            text = self._answer["unsent"]
            return None if text is None else LabError(text)
        code = self._process.returncode
        received = "an error of this program, above"
        if code < 0:
            received = signal.strsignal(-code) or f"signal {-code}"
        return incomplete("the process that writes to it has ended early", received, self._sweep.tracking)

    def _write(self) -> None:
        """Tell the process what there is to tell."""
        pipe = self._process.stdin
        message: dict[str, Any] | None = self._opening
        while pipe is not None and message is not None:
            try:
                pipe.write(json.dumps(message).encode() + b"\n")
                pipe.flush()
            except OSError:  # it has ended, which `unsent` tells
                return
            message = self._messages.get()

    def _listen(self) -> None:
        """Show what the process has to say, until it has said how it ended."""
        for line in self._process.stdout or ():
            message = json.loads(line)
            if "notice" in message:
                notice(message["notice"])
            else:
                self._answer = message
                return


def incomplete(problem: str, received: str, tracking: Tracking) -> LabError:
    """That MLflow has not got everything, and how to send it.

    Args:
        problem: what it has not got, or why.
        received: what went wrong.
        tracking: the store.
    """
    where = "" if tracking.uri is None else f" tracking=server tracking.uri={tracking.uri}"
    return LabError(
        f"MLflow sync is incomplete: {problem}.",
        received=received,
        fix=f"the points are kept in .points/; fix that, then python -m pipeline.rebuild{where}",
    )
