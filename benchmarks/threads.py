"""The 120 points of methods_mnist, training alone: side by side or in turn, on a quiet or a busy machine."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from unittest import mock

from omegaconf import OmegaConf

from benchmarks.measuring import Benchmark, Contenders
from benchmarks.mnist import without_test_rows
from benchmarks.untracked import composed, train_points, with_rates
from pipeline.backends.choose import trainer
from pipeline.backends.numpy import threads
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.system.project import CONF

STUDY = "methods_mnist"
# A fifth of the rows of the study, and one of its two epochs.
ROWS, EPOCHS = 4000, 1


@functools.cache
def stacks() -> list[list[Config]]:
    """The points of the study, those of each method as one stack."""
    params = OmegaConf.load(CONF / "experiment" / f"{STUDY}.yaml").hydra.sweeper.params
    rates = [float(rate) for rate in str(params["optimizer.learning_rate"]).split(",")]
    names = str(params.optimizer).split(",")
    common = (f"experiment={STUDY}", f"training.epochs={EPOCHS}", f"training.rows={ROWS}")
    return [with_rates(composed(*common, f"optimizer={name}"), rates) for name in names]


def seconds(units: Sequence[Sequence[Config]], arrays: Arrays) -> float:
    """Train units of points one after the other."""
    started = time.perf_counter()
    for points in units:
        train_points(trainer(points[0]), points, arrays)
    return time.perf_counter() - started


def one_after_the_other(arrays: Arrays) -> float:
    """Train each point alone on one thread, with all cores in BLAS."""
    points = [point.model_copy(update={"threads": 1}) for stack in stacks() for point in stack]
    with mock.patch.object(threads, "threadpool_limits", return_value=nullcontext()):
        return seconds([[point] for point in points], arrays)


def beside_another(arrays: Arrays) -> float:
    """Train stacks while another process computes all the time."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        return seconds(stacks(), arrays)
    finally:
        other.kill()
        other.wait()


def _pair(
    ours: Callable[[Arrays], float], theirs: Callable[[Arrays], float]
) -> Callable[[], AbstractContextManager[Contenders]]:
    @contextmanager
    def ready() -> Iterator[Contenders]:
        arrays = without_test_rows().at_most(ROWS)
        # What comes once is not measured: composing the configs, and importing the trainers.
        for points in stacks():
            trainer(points[0])
        yield Contenders(lambda: ours(arrays), lambda: theirs(arrays))

    return ready


BENCHMARKS = [
    Benchmark(
        "points_in_threads",
        "the 120 points of methods_mnist, training alone",
        "the same points one after the other, all cores in BLAS",
        0.55,
        f"`train` on the ten rates of each of twelve methods as one stack, {ROWS:,} rows and {EPOCHS} epoch, as many "
        "threads as cores and one of BLAS in each, against `train` on one point after the other, on one thread with as "
        "many threads of BLAS as there are cores.",
        _pair(lambda arrays: seconds(stacks(), arrays), one_after_the_other),
        most_rounds=3,
    ),
    Benchmark(
        "busy_machine",
        "the same 120 points beside one other busy process",
        "the same on a quiet machine",
        2.2,
        "The same stacks, while another process counts without end, against no such process.",
        _pair(beside_another, lambda arrays: seconds(stacks(), arrays)),
        most_rounds=3,
    ),
]
