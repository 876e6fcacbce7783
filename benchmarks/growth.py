"""How the time and the memory of NumPy training grow with the work, one size after the other in fresh processes."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.commands import run
from benchmarks.measuring import exponent

NAME = "growth"
ROUNDS = 3
MEBIBYTE = 2**20
IMAGES = ("experiment=mnist", "recording.snapshots=2")


@dataclass(frozen=True)
class Series:
    """What grows.

    Attributes:
        what: its name.
        fixed: what does not grow.
        sizes: from small to large.
        arguments: of `benchmarks.untracked`, for a size.
    """

    what: str
    fixed: str
    sizes: tuple[int, ...]
    arguments: Callable[[int], Sequence[str]]


@dataclass(frozen=True)
class Growth:
    """What a series came to: for each size the seconds of training, and the MiB above those of the bare process."""

    series: Series
    seconds: Sequence[float]
    memory: Sequence[float]

    @property
    def exponents(self) -> tuple[float, float]:
        """Of seconds and of memory, over all sizes."""
        return exponent(self.series.sizes, self.seconds), exponent(self.series.sizes, self.memory)


SERIES = (
    Series(
        "epochs",
        "784-250-10, Adam, 20,000 made-up images, batch 256",
        (2, 4, 8, 16),
        lambda size: (*_images(20_000), "model.hidden_size=250", "training.batch_size=256", f"training.epochs={size}"),
    ),
    Series(
        "rows",
        "784-1000-10, Adam, batch 1024, 2 epochs of made-up images",
        (7_500, 15_000, 30_000, 60_000),
        lambda size: (*_images(size), "training.epochs=2"),
    ),
    Series(
        "hidden size",
        "784-H-10, Adam, 20,000 made-up images, batch 1024, 2 epochs",
        (125, 250, 500, 1000, 2000),
        lambda size: (*_images(20_000), f"model.hidden_size={size}", "training.epochs=2"),
    ),
    Series(
        "grid points",
        "three_bits, hidden 4, 500 iterations, learning rates as one stack",
        (10, 100, 1_000, 10_000),
        lambda size: (
            f"--rates={size}", "experiment=three_bits", "model.hidden_size=4", "training.epochs=500",
            "recording.metrics_every=500", "recording.snapshots=2",
        ),
    ),
)  # fmt: skip


def _images(rows: int) -> tuple[str, ...]:
    return (f"--images={rows}", *IMAGES)


def grow(series: Series, rounds: int) -> Growth:
    """Measure a series: medians over rounds, in each of which every size trains once.

    Args:
        series: which.
        rounds: how many, at most ROUNDS.
    """
    command = (sys.executable, "-m", "benchmarks.untracked")
    seen = [
        [json.loads(run((*command, *series.arguments(size)))) for size in series.sizes]
        for _ in range(min(rounds, ROUNDS))
    ]
    by_size = list(zip(*seen, strict=True))
    return Growth(
        series,
        [statistics.median(one["seconds"] for one in sizes) for sizes in by_size],
        [statistics.median((one["peak"] - one["before"]) / MEBIBYTE for one in sizes) for sizes in by_size],
    )
