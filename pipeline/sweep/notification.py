"""Tell another program that a command has ended, or that a point diverged, with a POST of JSON.

The address is in the environment variable `LAB_NOTIFY_URL`, and in no file: such addresses often hold a secret. A
failure to notify is a line in the log, and costs at most `SECONDS`.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from pipeline.backends.contract import Report
from pipeline.points.job import Job
from pipeline.sweep.budget import BudgetSpent
from pipeline.system.processes import command

log = logging.getLogger(__name__)

VARIABLE = "LAB_NOTIFY_URL"
SECONDS = 5.0


def post(event: str, sweep: str, content: dict[str, Any]) -> None:
    """Post one event, if there is an address.

    Args:
        event: `ended`, `failed`, `interrupted`, `budget spent` or `diverged`.
        sweep: study and backend.
        content: further keys.
    """
    address = os.environ.get(VARIABLE, "")
    if not address:
        return
    body = {"event": event, "sweep": sweep, "command": command(), "time": round(time.time()), **content}
    try:
        where = urlsplit(address)
        if where.scheme not in ("http", "https"):
            raise ValueError("expected an address that begins with http:// or https://")
        headers = {"Content-Type": "application/json"}
        request = Request(address, json.dumps(body).encode(), headers, method="POST")  # noqa: S310 - checked above
        with urlopen(request, timeout=SECONDS):  # noqa: S310
            return
    except HTTPError as error:
        problem = f"it answered {error.code}"
        error.close()
    except (OSError, ValueError, HTTPException) as error:
        problem = str(error).replace(address, "the address") or type(error).__name__
    # Without the address, which may hold a secret.
    log.warning(f"{VARIABLE}: {event!r} was not received: {problem}. The command itself goes on")


def post_end(sweep: str, jobs: Sequence[Job], stopped: BaseException | None, problems: Sequence[str]) -> None:
    """Post how a sweep has ended: how many points it has in each state, and what failed."""
    event = "ended"
    if isinstance(stopped, BudgetSpent):
        event = "budget spent"
    elif isinstance(stopped, KeyboardInterrupt):
        event = "interrupted"
    elif stopped is not None or problems:
        event = "failed"
    points = dict(Counter(job.state for job in jobs))
    diverged = sum(job.point is not None and job.point.diverged for job in jobs)
    post(event, sweep, {"points": points, "diverged": diverged, "problems": list(problems)})


class Divergence:
    """Posts the first divergence of a command, while it trains on."""

    def __init__(self) -> None:
        self._told = False

    def watched(self, sweep: str, jobs: Sequence[Job], report: Report) -> Report:
        """Return a function that reports as `report` does, and looks for points that have diverged."""
        if not os.environ.get(VARIABLE):
            return report

        def reported(epoch: int, loss: float) -> None:
            report(epoch, loss)
            found = [job for job in jobs if job.history.diverged_step is not None]
            if found and not self._told:
                self._told = True
                content = {"point": found[0].name, "updates": found[0].history.diverged_step}
                # Training does not wait for the answer.
                threading.Thread(target=post, args=("diverged", sweep, content), daemon=True).start()

        return reported
