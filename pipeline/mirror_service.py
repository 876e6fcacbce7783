"""The process of a mirror, which `mirror_process.launch` starts. It ends with its input, whatever it is doing.

In: lines of JSON with what is new. `root`, `folder` and `owner`, once; `sweep`: what the command is; `jobs`: its
points, each with `signature`, `state`, `run`, `error` and `rows`, how many metrics of its journal a checkpoint counts
on, and at first with `name`, `overrides` and `config`; `end`: that this is all.

Out: `notice`, something to show; at last `unsent`, what MLflow has not got, in words, or null.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.config.reading import read_config
from pipeline.mirror import Mirror
from pipeline.points.folder import HEADER, JOURNAL, PointFolder
from pipeline.points.job import Job
from pipeline.points.point import Point
from pipeline.points.reading import read_journal, read_own_point
from pipeline.points.sweep_record import SweepRecord
from pipeline.system.errors import LabError
from pipeline.tracking import store
from pipeline.tracking.models import list_packages

NICENESS = 10
"""Leaves a mirror a tenth of a core where training wants all of them. 19 would leave it a seventieth, and then its end
is waited for on a machine that others use too: a thread cannot take its priority back."""
GARBAGE = 50_000
"""New objects until Python looks for what can be thrown away: MLflow makes and drops thousands for each batch."""
Message = dict[str, Any]


@dataclass(eq=False)
class DistantJob(Job):
    """A point that another process trains.

    Attributes:
        read: how many bytes of its journal are known.
    """

    read: int = len(HEADER)

    def update(self, told: Message) -> None:
        """Take what is new of it; its metrics are read from its journal."""
        self.run, self.error = told["run"], None if told["error"] is None else LabError(told["error"])
        left = told["rows"] - self.folder.kept
        if left > 0 and told["state"] not in ("done", "complete"):  # they come with the point
            with suppress(FileNotFoundError), (self.folder.path / JOURNAL).open("rb") as journal:
                journal.seek(self.read)
                text = HEADER + b"".join(islice(journal, left))
                self.read += len(text) - len(HEADER)
                self.history.metrics += read_journal(text)
                self.folder.kept = len(self.history.metrics)
        self.state = told["state"]


class DistantMirror(Mirror):
    """A mirror of such points.

    Attributes:
        say: takes messages for the process that trains.
    """

    say: Callable[[Message], None]
    _ready = False

    def _send(self, closing: bool) -> None:
        super()._send(closing)
        if not self._ready and not closing:  # now, for nobody waits yet
            self._ready = True
            list_packages()

    def _tell(self, text: str) -> None:
        self.say({"notice": text})

    def _point(self, job: Job) -> Point | None:
        if job.point is None:
            job.point = read_own_point(job.folder.final, job.name, job.signature)
        return job.point


def serve(messages: Callable[[], Message], say: Callable[[Message], None]) -> None:
    """Keep MLflow up to date with what is told, until the last message has come and everything is sent.

    Args:
        messages: waits for the next message.
        say: takes the answers.
    """
    message = messages()
    jobs: dict[str, DistantJob] = {}
    root, sweep = Path(message["root"]), SweepRecord(**message["sweep"])
    mirror = DistantMirror(root, sweep, Path(message["folder"]), jobs.values())
    mirror.owner, mirror.say = message["owner"], say
    while True:
        vars(sweep).update(message.get("sweep", {}))
        for told in message.get("jobs", []):
            if told["signature"] not in jobs:
                jobs[told["signature"]] = _job(root, told)
            jobs[told["signature"]].update(told)
        if message.get("end"):
            break
        mirror.start()
        set_priority(NICENESS)
        message = messages()
    set_priority(0)
    mirror.close()
    unsent = mirror.unsent()
    say({"unsent": None if unsent is None else str(unsent)})


def _job(root: Path, told: Message) -> DistantJob:
    sign = told["signature"]
    return DistantJob(read_config(told["config"]), told["overrides"], told["name"], sign, PointFolder(root, sign))


def set_priority(niceness: int) -> None:
    """Set that of all threads but the main one, where threads have one of their own."""
    for thread in threading.enumerate():
        if sys.platform == "linux" and thread is not threading.main_thread() and thread.native_id is not None:
            with suppress(PermissionError, ProcessLookupError):  # only root may raise it; the thread may have ended
                os.setpriority(os.PRIO_PROCESS, thread.native_id, niceness)


def _listen(take: Callable[[Message], None]) -> None:
    """Take messages until the input ends, and the process with it."""
    for line in sys.stdin.buffer:
        if line.endswith(b"\n"):  # else whoever wrote it was killed in the middle of it
            take(json.loads(line))
    os._exit(1)


def main() -> None:
    """Serve the process that has started this one."""
    gc.set_threshold(GARBAGE)
    answers, lock = os.fdopen(os.dup(1), "w", encoding="utf-8"), threading.Lock()
    os.dup2(2, 1)  # what a library prints is no answer

    def say(message: Message) -> None:
        with lock, suppress(OSError):  # nobody reads it any more: the input has ended too
            print(json.dumps(message), file=answers, flush=True)

    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=[inbox.put], daemon=True).start()
    threading.Thread(target=store.load, args=[sys.argv[1] == "local"], daemon=True).start()
    code = 1
    try:
        serve(inbox.get, say)
        code = 0
    except Exception:  # shown as Python would, which then would wait for the threads
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
