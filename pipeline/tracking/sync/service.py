"""The process of a sync, started by `process.launch`. It exits when its input is closed.

Input: lines of JSON. First `root`, `sweep` and `owner`, as for `Sync`; then, any number of times, `points`: attempts to
send, each with `name`, `signature` and `attempt_id`; finally `end`: the final record of the sweep.

Output: lines of JSON. `notice`: a message to show. After `end`, `sent` and `total`: how many points MLflow has, and of
how many. Finally `unsent`: a message about results that are missing from MLflow, or null, and `unavailable`: whether
that is because the store could not be used.
"""

from __future__ import annotations

import gc
import json
import logging
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
from pipeline.system.errors import UnavailableError
from pipeline.system.streams import keep_streams
from pipeline.tracking import store
from pipeline.tracking.sync.attempts import Attempt
from pipeline.tracking.sync.sweep import Sync
from pipeline.tracking.sync.thread import SyncThread

# Niceness that gives the sync about a tenth of a core while training uses all cores. 19 would give it only a seventieth
# and delay the end of a command on a busy machine: the thread cannot raise its priority again to finish its last send.
NICENESS = 10
# Garbage-collection threshold: MLflow allocates and frees thousands of objects per batch.
GARBAGE = 50_000
Message = dict[str, Any]


def serve(messages: Callable[[], Message], answer: Callable[[Message], None]) -> None:
    """Sync to MLflow as messages arrive, until the last message is handled and everything is sent.

    Args:
        messages: waits for the next message and returns it.
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
    # Training has ended, and the command is waiting. Without permission to raise priorities this has no effect on the
    # existing threads, so `close` uses a new one.
    set_priority(0)
    thread.close(RECORD.validate_python(message["end"]), lambda done, total: answer({"sent": done, "total": total}))
    unsent = thread.unsent()
    text = None if unsent is None else str(unsent)
    answer({"unsent": text, "unavailable": isinstance(unsent, UnavailableError)})


class Notices(logging.Handler):
    """Sends warnings to the command, which shows them above its progress."""

    def __init__(self, answer: Callable[[Message], None]) -> None:
        super().__init__(logging.WARNING)
        self._answer = answer

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        self._answer({"notice": record.getMessage()})


def set_priority(niceness: int) -> None:
    """Set the niceness of all threads except the main one; only Linux has a niceness per thread."""
    if sys.platform != "linux":
        return
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and thread.native_id is not None:
            # The user may not have permission to raise the priority, or the thread may have ended.
            with suppress(PermissionError, ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, thread.native_id, niceness)


def listen(take: Callable[[Message], None]) -> None:
    """Forward messages until the input is closed, then exit the process."""
    for line in sys.stdin.buffer:
        # Otherwise the command was killed in the middle of a line.
        if line.endswith(b"\n"):
            take(json.loads(line))
    os._exit(1)


def main() -> None:
    """Serve the parent process."""
    keep_streams()
    gc.set_threshold(GARBAGE)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    lock = threading.Lock()
    # Output of libraries must not be mistaken for a message, so stdout becomes stderr.
    os.dup2(2, 1)

    def answer(message: Message) -> None:
        # If the output cannot be written, the command has exited. Then the input is closed too, and `listen` exits.
        with lock, suppress(OSError):
            print(json.dumps(message), file=answers, flush=True)

    logging.getLogger("pipeline").addHandler(Notices(answer))
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=listen, args=[inbox.put], daemon=True).start()
    # MLflow is imported while the command reads its data.
    threading.Thread(target=store.load, args=[sys.argv[1] == "local"], daemon=True).start()
    code = 1
    try:
        serve(inbox.get, answer)
        code = 0
    except Exception:  # noqa: BLE001 - printed here, because Python would then wait for the threads
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
