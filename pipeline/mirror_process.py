"""A mirror in a process of its own, so that training shares neither its interpreter nor its memory with MLflow.

The process (mirror_service.py) is told in lines of JSON what the command comes to; points, journals and weights it
reads from the disk. It gives way to training, and ends as soon as nobody can tell it anything any more.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.schema import Config
from pipeline.system.errors import LabError
from pipeline.system.processes import owner
from pipeline.system.project import PROJECT
from pipeline.system.signals import SIGNALS
from pipeline.system.terminal import notice

if TYPE_CHECKING:
    from pipeline.points.job import Job
    from pipeline.points.sweep_record import SweepRecord

TELL_SECONDS = 0.5


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
            [sys.executable, "-m", "pipeline.mirror_service", first.tracking.name],
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


class MirrorProcess:
    """What `Mirror` is, for a process that `launch` has started.

    Args:
        process: it.
        root, sweep, folder, jobs: see `Mirror`.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], root: Path, sweep: SweepRecord, folder: Path, jobs: Collection[Job]
    ) -> None:
        self.sweep, self.folder = sweep, folder
        self._process, self._jobs = process, jobs
        self._first = {"root": str(root), "folder": str(folder), "owner": owner()}
        self._told: dict[str, Any] = {}
        self._answer: dict[str, Any] | None = None
        self._closing = threading.Event()
        self._teller = threading.Thread(target=self._tell, name="mirror teller", daemon=True)
        self._listener = threading.Thread(target=self._listen, name="mirror listener", daemon=True)

    def start(self) -> None:
        """Begin to send, while training goes on."""
        if self._teller.ident is None:
            self._listener.start()
            self._teller.start()

    def close(self) -> None:
        """Let the process send what is left, and wait for its end."""
        self._closing.set()
        try:
            self.start()
            self._teller.join()
            self._listener.join()
        finally:
            end(self._process)

    def unsent(self) -> LabError | None:
        """See `Mirror.unsent`."""
        from pipeline.mirror import rebuilding

        if self._answer is not None:
            text = self._answer["unsent"]
            return None if text is None else LabError(text)
        code = self._process.returncode
        return LabError(
            "MLflow has not got everything: the process that writes to it has ended early.",
            received=signal.strsignal(-code) or f"signal {-code}" if code < 0 else "an error of this program, above",
            fix=rebuilding(self.sweep.tracking["uri"]),
        )

    def _tell(self) -> None:
        """Tell what has changed, again and again; the rest, and that it is the rest, when the command is over."""
        wait = 0.0
        while True:
            closing = self._closing.wait(wait)
            wait = TELL_SECONDS
            message = self._news() | ({"end": True} if closing else {})
            pipe = self._process.stdin
            if message and pipe is not None:
                try:
                    pipe.write(json.dumps(message).encode() + b"\n")
                    pipe.flush()
                except OSError:  # it has ended, which `unsent` tells
                    return
            if closing:
                return

    def _news(self) -> dict[str, Any]:
        """What the process does not know yet of the sweep and of its points."""
        news: dict[str, Any] = {} if self._told else dict(self._first)
        sweep = asdict(self.sweep)
        if self._told.get("") != sweep:
            self._told[""] = news["sweep"] = sweep
        jobs = []
        for job in list(self._jobs):
            # In this order: what a state says of the folder holds for the rows.
            told = {"state": job.state, "rows": job.folder.kept, "run": job.run, "error": job.error and str(job.error)}
            before = self._told.get(job.signature)
            if told == before:
                continue
            self._told[job.signature] = told
            new = {"name": job.name, "overrides": job.overrides, "config": job.config.model_dump(mode="json")}
            jobs.append({"signature": job.signature, **told, **({} if before else new)})
        return news | ({"jobs": jobs} if jobs else {})

    def _listen(self) -> None:
        """Show what the process has to say, until it has said how it ended."""
        for line in self._process.stdout or ():
            message = json.loads(line)
            if "notice" in message:
                notice(message["notice"])
            else:
                self._answer = message
                return
