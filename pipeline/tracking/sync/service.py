"""The process of a sync, which `process.launch` starts. It ends with its input, whatever it is doing.

In: lines of JSON. First `root`, `sweep` and `owner`, as for `Sync`; then, any number of times, `points`: attempts to
keep up with, each with `name`, `signature` and `attempt`; at last `end`: the sweep's record as the command has left it.

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
from pathlib import Path
from typing import Any

from pipeline.points.sweep_record import RECORD
from pipeline.tracking import store
from pipeline.tracking.sync.points import Attempt
from pipeline.tracking.sync.sweep import Sync
from pipeline.tracking.sync.thread import SyncThread

NICENESS = 10
"""Leaves a sync a tenth of a core where training wants all of them. 19 would leave it a seventieth, and then its end
is waited for on a machine that others use too: a thread cannot take its priority back."""
GARBAGE = 50_000
"""New objects until Python looks for what can be thrown away: MLflow makes and drops thousands for each batch."""
Message = dict[str, Any]


def serve(messages: Callable[[], Message], say: Callable[[Message], None]) -> None:
    """Keep MLflow up to date with what is told, until the last message has come and everything is sent.

    Args:
        messages: waits for the next message.
        say: takes the answers.
    """
    first = messages()
    sync = Sync(Path(first["root"]), RECORD.validate_python(first["sweep"]), first["owner"])
    thread = SyncThread(sync, tell=lambda text: say({"notice": text}))
    thread.start()
    set_priority(NICENESS)
    message = messages()
    while "end" not in message:
        thread.add([Attempt(**told) for told in message["points"]])
        message = messages()
    set_priority(0)
    thread.close(RECORD.validate_python(message["end"]))
    unsent = thread.unsent()
    say({"unsent": None if unsent is None else str(unsent)})


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
