"""The memory of a NumPy MNIST run as the pipeline runs it, beside what its data and weights take."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.commands import MNIST_RUN, TRAIN, fresh_project, needs_mnist
from benchmarks.measuring import Benchmark, Contenders, NotMeasured
from pipeline.system.errors import LabError

POLL_SECONDS = 0.02
MEBIBYTE = 2**20
ROWS, FEATURES, HIDDEN, CLASSES, FLOAT32 = 70_000, 784, 1000, 10, 4
PARAMETERS = FEATURES * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES
BASE = (ROWS * FEATURES + 3 * PARAMETERS) * FLOAT32 / MEBIBYTE
"""MiB of the training and test rows as float32, the parameters and Adam's two moments."""


def peaks(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Run a command and watch its memory.

    Returns:
        MiB that its largest process had at most, as the system counts it, and that all of its processes had together,
        looked at every 20 ms; what they share is counted for each.

    Raises:
        LabError: the command failed.
    """
    largest, together = 0, 0
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=told)
        try:
            watched = psutil.Process(process.pid)
            while process.poll() is None:
                with suppress(psutil.NoSuchProcess):
                    family = [watched, *watched.children(recursive=True)]
                    seen = [_memory(member) for member in family]
                    largest = max(largest, *(high for high, _ in seen))
                    together = max(together, sum(now for _, now in seen), largest)
                time.sleep(POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            told.seek(0)
            raise LabError(f"{' '.join(command[1:])} failed.", received="\n".join(told.read().splitlines()[-5:]))
    return largest / MEBIBYTE, together / MEBIBYTE


def _memory(process: psutil.Process) -> tuple[int, int]:
    """Bytes that a process had at most, and has now; nothing once it has ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0, 0
    found = {line.partition(":")[0]: line.split()[1] for line in status.splitlines() if line.endswith("kB")}
    return int(found.get("VmHWM", 0)) * 1024, int(found.get("VmRSS", 0)) * 1024


def _of_mnist(which: int) -> Callable[[], float]:
    def measured() -> float:
        with fresh_project() as folder:
            return peaks((*TRAIN, *MNIST_RUN, "training.epochs=3", "hydra.mode=RUN"), folder)[which]

    return measured


def _contenders(which: int) -> Callable[[], Iterator[Contenders]]:
    def ready() -> Iterator[Contenders]:
        if not Path("/proc/self/status").exists():
            raise NotMeasured("memory is measured on Linux only")
        needs_mnist()
        yield Contenders(_of_mnist(which), lambda: BASE)

    return ready


HOW = (
    "`python -m pipeline.train experiment=mnist optimizer.learning_rate=0.001 hydra.mode=RUN training.epochs=3` in a "
    "fresh copy of the project, against 70,000 x 784 float32 and three times the parameters. "
)
BENCHMARKS = [
    Benchmark(
        name,
        f"peak memory of a NumPy MNIST run, {whose}",
        "the data as float32 plus 3x the parameters",
        held_to,
        HOW + counted,
        contextmanager(_contenders(which)),
        unit="MiB",
        most_rounds=2,
    )
    for which, (name, whose, held_to, counted) in enumerate([
        ("memory", "its largest process", 1.5, "The system's own high-water mark of the largest process."),
        ("memory_together", "all its processes", 1.6,
         "The sum over its processes, looked at every 20 ms, shared pages counted for each."),
    ])
]  # fmt: skip
