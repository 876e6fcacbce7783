"""One of many writers to a tracking server: runs as a sync writes them, each call timed and counted.

A writer is a process: threads of one would wait for each other's Python, and the figures would be the writer's.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TypeVar

import mlflow  # noqa: F401 - loaded once, in the process that all writers are forked from

from pipeline.backends.shared.history import Metric
from pipeline.config.schema import Config
from pipeline.system.errors import LabError
from pipeline.tracking.causes import CREDENTIALS
from pipeline.tracking.tracker import Tracker

CREATE, PARAMETERS, VALUES, TAGS, ARTIFACT, END = KINDS = (
    "create a run", "parameters", "values", "tags", "an artifact", "end a run"
)  # fmt: skip
NAMES = ("train/loss", "train/mean_absolute_error", "test/loss", "test/mean_absolute_error")
STARTED = 1_700_000_000_000
ARTIFACT_NAME, ARTIFACT_BYTES = "journal.csv", 4096
START_SECONDS = 300.0
_gate: list[Barrier] = []
R = TypeVar("R")


@dataclass(frozen=True)
class Load:
    """What is written: `values` metric values in each run, below the run `parent`."""

    config: Config
    parent: str
    values: int


@dataclass
class Written:
    """A run that the server has said it has, and which calls for it it has answered without an error."""

    number: int
    run_id: str
    done: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What a writer did, in seconds of a clock that all processes of the machine share.

    Attributes:
        written: its runs.
        seconds: how long its calls took, by kind, failed ones too.
        errors: how often calls of a kind failed.
        reasons: in which words.
        began, ended: when.
        processor: seconds that it computed.
    """

    written: list[Written]
    seconds: dict[str, list[float]]
    errors: Counter[str]
    reasons: Counter[str]
    began: float
    ended: float
    processor: float


def credentials() -> dict[str, str]:
    """What the server lets us in by, as far as the environment has it."""
    return {name: os.environ[name] for name in CREDENTIALS if name in os.environ}


def prepare(known: dict[str, str], gate: Barrier | None = None) -> None:
    """Begin a process of a pool. A writer tries no call twice, or errors would not be seen.

    Args:
        known: the credentials; the process that all are forked from may be older than they are.
        gate: where writers wait for each other.
    """
    for name in CREDENTIALS:
        os.environ.pop(name, None)
    os.environ.update(known)
    if gate is not None:
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
        _gate[:] = [gate]


def values_of(number: int, count: int) -> list[Metric]:
    """The metric values of a run, which can be told from those of every other run."""
    return [
        Metric(row // len(NAMES), STARTED + row, NAMES[row % len(NAMES)], number + row / 2**20) for row in range(count)
    ]


def artifact_of(number: int) -> bytes:
    """The artifact of a run: some lines of text."""
    line = f"{number},train/loss,0.123456789\n".encode()
    return (line * (ARTIFACT_BYTES // len(line) + 1))[:ARTIFACT_BYTES]


def tags_of(number: int) -> dict[str, str]:
    """The tags that a run gets when it is complete."""
    return {"outcome": "finished", "diagnosis": "converged", "lab.complete": "true", "lab.number": str(number)}


def write(load: Load, numbers: Sequence[int]) -> Report:
    """Write runs of these numbers, one after the other, when all writers are ready. A run that fails is given up.

    Raises:
        LabError: the server cannot be reached at all.
    """
    tracker = Tracker(load.config.tracking, load.config.study, Path())
    report = Report([], defaultdict(list), Counter(), Counter(), 0, 0, 0)
    with tempfile.TemporaryDirectory() as scratch:
        if _gate:
            _gate[0].wait(START_SECONDS)
        report.began, processor = time.monotonic(), time.process_time()
        for number in numbers:
            (Path(scratch) / ARTIFACT_NAME).write_bytes(artifact_of(number))
            _write_run(tracker, load, number, Path(scratch), report)
        report.ended, report.processor = time.monotonic(), time.process_time() - processor
    return report


def _write_run(tracker: Tracker, load: Load, number: int, folder: Path, report: Report) -> None:
    tags = {"mlflow.parentRunId": load.parent, "lab.role": "point", "signature": f"{number:064x}"}
    belongs = {"study": load.config.study, "backend": load.config.backend.name, "lab.number": str(number)}
    try:
        run = _timed(report, CREATE, lambda: tracker.start_run(f"run {number}", tags | belongs, STARTED))
        written = Written(number, run)
        report.written.append(written)
        calls: list[tuple[str, Callable[[], None]]] = [
            (PARAMETERS, lambda: tracker.log_config(run, load.config)),
            (VALUES, lambda: tracker.log_metrics(run, values_of(number, load.values))),
            (ARTIFACT, lambda: tracker.log_folder(run, folder)),
            (TAGS, lambda: tracker.tag(run, tags_of(number))),
            (END, lambda: tracker.end_run(run, "FINISHED", STARTED + load.values)),
        ]
        for kind, call in calls:
            _timed(report, kind, call)
            written.done.append(kind)
    except LabError as error:
        # Without the address, which differs from run to run.
        report.reasons[error.received.partition(" to /")[0]] += 1


def _timed(report: Report, kind: str, call: Callable[[], R]) -> R:
    began = time.monotonic()
    try:
        return call()
    except LabError:
        report.errors[kind] += 1
        raise
    finally:
        report.seconds[kind].append(time.monotonic() - began)
