"""The process of a sync, which `process.launch` starts. It ends with its input, whatever it is doing.

Input: lines of JSON. First `root`, `sweep` and `owner`, as for `Sync`; then, any number of times, `points`: attempts to
keep up with, each with `name`, `signature` and `attempt`; finally `end`: the record of the sweep after the command.

Output: `notice`, a message to show; finally `unsent`, a message about what MLflow lacks, or null.
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

# Leaves the sync a tenth of a core while training uses all of them. With 19 it would get a seventieth, and on a machine
# that others use too, the command would wait for it in the end: a thread cannot raise its priority again.
NICENESS = 10
# New objects before Python collects garbage. MLflow creates and drops thousands for each batch.
GARBAGE = 50_000
Message = dict[str, Any]


def serve(messages: Callable[[], Message], answer: Callable[[Message], None]) -> None:
    """Keep MLflow up to date until the last message has arrived and everything is sent.

    Args:
        messages: waits for the next message, and returns it.
        answer: sends a message back.
    """
    first = messages()
    sync = Sync(Path(first["root"]), RECORD.validate_python(first["sweep"]), first["owner"])
    thread = SyncThread(sync, notify=lambda text: answer({"notice": text}))
    thread.start()
    set_priority(NICENESS)
    message = messages()
    while "end" not in message:
        thread.add([Attempt(**fields) for fields in message["points"]])
        message = messages()
    # Training has ended, and the command waits. Only root may raise the priority; `close` uses a new thread.
    set_priority(0)
    thread.close(RECORD.validate_python(message["end"]))
    unsent = thread.unsent()
    answer({"unsent": None if unsent is None else str(unsent)})


def set_priority(niceness: int) -> None:
    """Set the niceness of all threads but the main one; does nothing where threads share one, as outside Linux."""
    if sys.platform != "linux":
        return
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and thread.native_id is not None:
            # The user may not be allowed to raise the priority, or the thread may have ended.
            with suppress(PermissionError, ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, thread.native_id, niceness)


def listen(take: Callable[[Message], None]) -> None:
    """Pass messages on until the input ends, and then end the process."""
    for line in sys.stdin.buffer:
        # The last line has no end if the command was killed while it wrote.
        if line.endswith(b"\n"):
            take(json.loads(line))
    os._exit(1)


def main() -> None:
    """Serve the process that has started this one."""
    gc.set_threshold(GARBAGE)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    lock = threading.Lock()
    # Whatever a library prints must not be mistaken for an answer, so stdout becomes stderr.
    os.dup2(2, 1)

    def answer(message: Message) -> None:
        # If no one reads the answers, the input has ended too, and `listen` ends the process.
        with lock, suppress(OSError):
            print(json.dumps(message), file=answers, flush=True)

    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=listen, args=[inbox.put], daemon=True).start()
    # MLflow is imported while the command reads its data.
    threading.Thread(target=store.load, args=[sys.argv[1] == "local"], daemon=True).start()
    code = 1
    try:
        serve(inbox.get, answer)
        code = 0
    except Exception:  # noqa: BLE001 - printed as Python prints it, but Python would then wait for all threads
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
