"""What the texts say in words, each held against numbers by a rule that is written beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from pipeline.diagnosis.trends import roughness
from pipeline.drawing.plot_data import Floats, Series
from pipeline.points.point import Point
from pipeline.report.published.reproduction import BACKENDS, SEED, Results, find_point
from pipeline.system.files import readable
from pipeline.system.formats import read_rows
from pipeline.system.wording import short

Verdict = Literal["holds", "differs", "not run"]
ERROR = "train/mean_absolute_error"
THREE_BITS_RATES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
LINE_EPOCHS, THREE_BITS_EPOCHS, MNIST_EPOCHS = 1000, 60_000, 20
"""Shorter training than this says nothing about a statement."""
SETTLED = 0.01
GUESSING = math.log(10)
"""Cross-entropy of ten equally likely classes."""


class Statement(NamedTuple):
    """A sentence of a text, how it is judged, the verdict, and what was seen."""

    study: str
    backend: str
    text: str
    rule: str
    verdict: Verdict
    seen: str


def statements(results: Results, recorded: Mapping[float, Mapping[str, Series]] | None = None) -> list[Statement]:
    """Every printed statement, once for each backend; the MNIST ones for a recorded long run too.

    Args:
        results: trained points.
        recorded: metrics by rate of a recorded MNIST run, as `read_recorded` gives them.
    """
    found: list[Statement] = []
    for backend in BACKENDS:
        found += _line_y2x(results, backend)
        found += _line_y3x(results, backend)
        found += _three_bits(results, backend)
        found += _mnist(_mnist_series(results, backend), backend)
    return found + (_mnist(recorded, "recorded") if recorded else [])


def read_recorded(file: Path) -> dict[float, dict[str, Series]]:
    """Metrics by learning rate of a recorded run: a CSV file of learning_rate, epoch and metrics.

    Raises:
        DamagedError: the file is not such a table.
        LabError: it cannot be read for another reason.
    """
    with readable(
        f"The recorded run in {file}",
        expected="a CSV file with the columns learning_rate, epoch, train/loss, train/accuracy, test/loss, "
        "test/accuracy",
        fix="restore the file from git, or delete it",
    ):
        rows = [{name: float(value) for name, value in row.items() if value} for row in read_rows(file.read_bytes())]
        places = [row.get(key, math.nan) for row in rows for key in ("learning_rate", "epoch")]
        if not rows or not all(map(math.isfinite, places)):
            raise ValueError("no rows, or a rate or an epoch that is not a number")
        by_rate: dict[float, dict[str, Series]] = {}
        for rate in sorted({row["learning_rate"] for row in rows}):
            mine = [row for row in rows if row["learning_rate"] == rate]
            names = [name for name in rows[0] if name not in ("learning_rate", "epoch")]
            by_rate[rate] = {name: _series(mine, name) for name in dict.fromkeys([*names, "train/loss"])}
    return by_rate


def _series(rows: Sequence[Mapping[str, float]], name: str) -> Series:
    there = [(row["epoch"], row[name]) for row in rows if name in row]
    return np.array([epoch for epoch, _ in there]), np.array([value for _, value in there])


def _judge(study: str, backend: str, text: str, rule: str, holds: bool | None, seen: str) -> Statement:
    verdict: Verdict = "not run" if holds is None else "holds" if holds else "differs"
    return Statement(study, backend, text, rule, verdict, seen if holds is not None else "")


def _line(results: Results, study: str, backend: str, rate: float) -> tuple[Floats, str] | None:
    """The weight over all epochs, and how it ended in words; None where it was not trained long enough."""
    point = find_point(results, study, backend, rate, None)
    if point is None or (point.outcome.epochs < LINE_EPOCHS and not point.diverged):
        return None
    weights = point.history.series("weights/weight")[1]
    if not len(weights):
        return None
    if point.outcome.diverged_step is not None:
        how = f"diverged after {point.outcome.diverged_step} updates, last finite weight {short(weights[-1])}"
        return np.append(weights, np.nan), how
    return weights, f"weight {weights[-1]:,.4f} after {point.outcome.epochs:,} epochs"


def _line_y2x(results: Results, backend: str) -> Iterator[Statement]:
    for rate, claim in ((0.1, True), (0.5, False)):
        line = _line(results, "line_y2x", backend, rate)
        reached = None if line is None else bool(round(float(line[0][-1]), 2) == 2)
        text = f"at rate {rate:g} the weight {'converges' if claim else 'does not converge'} to 2"
        rule = f"the last weight {'rounds' if claim else 'does not round'} to 2.00"
        holds = None if reached is None else reached == claim
        yield _judge("line_y2x", backend, text, rule, holds, line[1] if line else "")


def _settled(weights: Floats, target: float) -> int:
    """The first epoch from which on the weight stays within 1 % of its target, or the number of records."""
    outside = np.flatnonzero(~(np.abs(weights - target) <= SETTLED * target))
    return int(outside[-1]) + 1 if len(outside) else 0


def _line_y3x(results: Results, backend: str) -> Iterator[Statement]:
    slow, fast, stuck = (_line(results, "line_y3x", backend, rate) for rate in (0.01, 0.1, 1.0))
    text, rule = (
        "at rate 0.01 the weight climbs smoothly to about 3",
        "the last weight rounds to 3.0, no step falls by > 0.001",
    )
    holds, seen = None, ""
    if slow:
        falls = float(np.max(-np.diff(slow[0])))
        holds = bool(round(float(slow[0][-1]), 1) == 3 and falls <= 0.001)
        seen = f"{slow[1]}; largest fall in one epoch {max(falls, 0):.2g}"
    yield _judge("line_y3x", backend, text, rule, holds, seen)

    text = "at rate 0.1 the weight oscillates, then settles sooner than at 0.01"
    rule = "it crosses 3 at least twice, and stays within 1 % of 3 from an earlier epoch"
    holds, seen = None, ""
    if slow and fast:
        crossings = int(np.sum(np.diff(np.sign(fast[0][:100] - 3)) != 0))
        epochs = [_settled(line[0], 3) for line in (fast, slow)]
        holds = crossings >= 2 and epochs[0] < epochs[1]
        seen = (
            f"crosses it {crossings} times in 100 epochs; within 1 % from epoch {epochs[0]}, at 0.01 from {epochs[1]}"
        )
    yield _judge("line_y3x", backend, text, rule, holds, seen)

    text = "at rate 1 the weight jumps to a large value and stays there"
    rule = "it trains to the end above 100 in size, unchanged over the last half"
    holds, seen = None, ""
    if stuck:
        half = stuck[0][len(stuck[0]) // 2 :]
        holds = bool(np.all(half == half[0]) and abs(half[0]) > 100)
        point = find_point(results, "line_y3x", backend, 1.0, None)
        seen = stuck[1] + (f" (gradient: {point.config.gradient})" if point else "")
    yield _judge("line_y3x", backend, text, rule, holds, seen)


def _three_bits(results: Results, backend: str) -> Iterator[Statement]:
    for size in (4, 32):
        points = [find_point(results, "three_bits", backend, rate, size) for rate in THREE_BITS_RATES]
        ends = {
            point.learning_rate: point.outcome.final.get(ERROR, math.inf)
            for point in points
            if point is not None and point.outcome.epochs >= THREE_BITS_EPOCHS and not point.diverged
        }
        best = min(ends, key=lambda rate: ends[rate]) if len(ends) == len(THREE_BITS_RATES) else None
        yield _judge(
            "three_bits", backend, f"10 is the best rate for hidden size {size}", "smallest last mean absolute error",
            None if best is None else math.isclose(best, 10), f"{best:g} ({ends[best]:.3g})" if best else "",
        )  # fmt: skip
        for rate, where in ((100.0, 0.125 if size == 4 else 0.5), (1000.0, 0.5)):
            seen = ends.get(rate)
            yield _judge(
                "three_bits", backend, f"rate {rate:g} is stuck near {where} with hidden size {size}",
                f"the last mean absolute error rounds to {where:.3f}",
                None if seen is None else round(seen, 3) == where, f"{seen:.6g}" if seen is not None else "",
            )  # fmt: skip


def _mnist_series(results: Results, backend: str) -> dict[float, dict[str, Series]]:
    """Metrics by rate of the `mnist` points that trained long enough."""
    by_rate = {}
    for point in results.get("mnist", {}).get(backend, []):
        if point.outcome.epochs >= MNIST_EPOCHS and point.config.seed == SEED and point.config.optimizer.name == "adam":
            by_rate[point.learning_rate] = _metrics(point)
    return by_rate


def _metrics(point: Point) -> dict[str, Series]:
    series = {name: point.history.series(name) for name in ("train/loss", "test/accuracy")}
    return {name: (epochs.astype(np.float64), values) for name, (epochs, values) in series.items() if len(epochs)}


def _mnist(by_rate: Mapping[float, Mapping[str, Series]], backend: str) -> list[Statement]:
    losses = {rate: metrics["train/loss"] for rate, metrics in by_rate.items() if "train/loss" in metrics}
    found = []
    accuracy = by_rate.get(0.01, {}).get("test/accuracy")
    last = float(accuracy[1][-1]) if accuracy else math.nan
    found.append(_judge(
        "mnist", backend, "at rate 0.01 the accuracy ends at about 90 % (500 epochs)",
        "the last test accuracy rounds to 90 % in tens", round(last, 1) == 0.9 if accuracy else None,
        f"{last:.2%} after {accuracy[0][-1]:g} epochs" if accuracy else "",
    ))  # fmt: skip
    both = 0.01 in losses and 0.0001 in losses
    rough = [roughness(losses[rate][1]) for rate in (0.01, 0.0001)] if both else [0.0, 0.0]
    found.append(_judge(
        "mnist", backend, "at rate 0.01 the loss falls less smoothly than at 0.0001",
        "of the training loss's way from epoch to epoch a larger share goes up", rough[0] > rough[1] if both else None,
        f"{rough[0]:.2%} against {rough[1]:.2%}",
    ))  # fmt: skip
    loss = losses.get(0.1)
    found.append(_judge(
        "mnist", backend, "at rate 0.1 the loss hardly falls",
        f"the last training loss is above 90 % of ln 10 = {GUESSING:.3f}, the loss of guessing",
        bool(loss[1][-1] > 0.9 * GUESSING) if loss else None,
        f"{loss[1][0]:.4g} in the first epoch, {loss[1][-1]:.4g} after {loss[0][-1]:g}" if loss else "",
    ))  # fmt: skip
    return found
