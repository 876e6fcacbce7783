"""Qualitative claims of the source texts, each checked numerically by the rule given with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np

from pipeline.diagnosis.trends import roughness
from pipeline.drawing.plot_data import Floats, Series
from pipeline.points.point import Point
from pipeline.report.published.reproduction import BACKENDS, SEED, Results, find_point
from pipeline.system.wording import short

Verdict = Literal["holds", "differs", "not run"]
ERROR = "train/mean_absolute_error"
THREE_BITS_RATES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
# The minimum training length for checking a statement, in epochs.
LINE_EPOCHS = 1000
THREE_BITS_EPOCHS = 60_000
MNIST_EPOCHS = 20
# A weight has settled once it stays within this share of its target.
SETTLED = 0.01
# The cross-entropy of guessing: ten classes, all equally likely.
GUESSING = math.log(10)


class Statement(NamedTuple):
    """A qualitative claim of the texts, and the result of checking it.

    Attributes:
        study: the study that the claim is about.
        backend: the backend that it is checked on, or `recorded` for a stored run.
        text: the claim.
        rule: the condition under which it holds.
        verdict: whether it holds.
        seen: the observed result, in words; empty if it was not run.
    """

    study: str
    backend: str
    text: str
    rule: str
    verdict: Verdict
    seen: str


class _Line(NamedTuple):
    """A run of a line study at one rate.

    Attributes:
        weights: the weight at every epoch, (epochs,), followed by NaN if the run diverged.
        ended: the final state, in words.
    """

    weights: Floats
    ended: str


def statements(results: Results, recorded: Mapping[float, Mapping[str, Series]] | None = None) -> list[Statement]:
    """Check every claim on each backend; those on MNIST also on a stored long run.

    Args:
        results: trained points.
        recorded: metrics by rate of a stored MNIST run, from `read_recorded`.
    """
    found: list[Statement] = []
    for backend in BACKENDS:
        found += _line_y2x(results, backend)
        found += _line_y3x(results, backend)
        found += _three_bits(results, backend)
        found += _mnist(_mnist_series(results, backend), backend)
    if recorded:
        found += _mnist(recorded, "recorded")
    return found


def _statement(study: str, backend: str, text: str, rule: str, holds: bool | None, seen: str) -> Statement:
    """Make a statement with its verdict; `holds` is None if the points for its rule were not trained."""
    if holds is None:
        return Statement(study, backend, text, rule, "not run", "")
    if holds:
        return Statement(study, backend, text, rule, "holds", seen)
    return Statement(study, backend, text, rule, "differs", seen)


def _line(results: Results, study: str, backend: str, rate: float) -> _Line | None:
    """Find the run of a line study at a rate; None if it was not trained, or not for long enough."""
    point = find_point(results, study, backend, rate, None)
    # A point that diverged early needs no further epochs.
    if point is None or (point.outcome.epochs < LINE_EPOCHS and not point.diverged):
        return None
    weights = point.history.series("weights/weight")[1]
    if not len(weights):
        return None
    if point.outcome.diverged_step is not None:
        ended = f"diverged after {point.outcome.diverged_step} updates, last finite weight {short(weights[-1])}"
        # Histories hold only finite values. The NaN keeps rules from using the last finite weight as the final one.
        return _Line(np.append(weights, np.nan), ended)
    return _Line(weights, f"weight {weights[-1]:,.4f} after {point.outcome.epochs:,} epochs")


def _line_y2x(results: Results, backend: str) -> Iterator[Statement]:
    cases = (
        (0.1, True, "at rate 0.1 the weight converges to 2", "the final weight rounds to 2.00"),
        (0.5, False, "at rate 0.5 the weight does not converge to 2", "the final weight does not round to 2.00"),
    )
    for rate, converges, text, rule in cases:
        line = _line(results, "line_y2x", backend, rate)
        holds = None
        seen = ""
        if line is not None:
            reached = round(float(line.weights[-1]), 2) == 2
            holds = reached == converges
            seen = line.ended
        yield _statement("line_y2x", backend, text, rule, holds, seen)


def _settled(weights: Floats, target: float) -> int:
    """Return the first epoch after which the weight stays within 1% of its target; the number of epochs if never."""
    # Negated, rather than `>`, so that NaN counts as outside.
    outside = np.flatnonzero(~(np.abs(weights - target) <= SETTLED * target))
    if not len(outside):
        return 0
    return int(outside[-1]) + 1


def _line_y3x(results: Results, backend: str) -> Iterator[Statement]:
    slow = _line(results, "line_y3x", backend, 0.01)
    fast = _line(results, "line_y3x", backend, 0.1)
    yield _climbs_smoothly(backend, slow)
    yield _settles_sooner(backend, slow, fast)
    yield _jumps_and_stays(results, backend)


def _climbs_smoothly(backend: str, slow: _Line | None) -> Statement:
    holds = None
    seen = ""
    if slow is not None:
        falls = float(np.max(-np.diff(slow.weights)))
        holds = round(float(slow.weights[-1]), 1) == 3 and falls <= 0.001
        seen = f"{slow.ended}; largest fall in one epoch {max(falls, 0):.2g}"
    text = "at rate 0.01 the weight climbs smoothly to about 3"
    rule = "the final weight rounds to 3.0, and the weight falls by at most 0.001 in any epoch"
    return _statement("line_y3x", backend, text, rule, holds, seen)


def _settles_sooner(backend: str, slow: _Line | None, fast: _Line | None) -> Statement:
    holds = None
    seen = ""
    if slow is not None and fast is not None:
        # A change of sign of `weight - 3` is a crossing. Only the first 100 epochs are used: close to 3, rounding can
        # change the sign.
        crossings = int(np.sum(np.diff(np.sign(fast.weights[:100] - 3)) != 0))
        fast_epoch = _settled(fast.weights, 3)
        slow_epoch = _settled(slow.weights, 3)
        holds = crossings >= 2 and fast_epoch < slow_epoch
        seen = f"{crossings} crossings in 100 epochs; within 1% from epoch {fast_epoch}, at 0.01 from {slow_epoch}"
    text = "at rate 0.1 the weight oscillates, then settles sooner than at 0.01"
    rule = "the weight crosses 3 at least twice, and settles to within 1% of 3 sooner than at 0.01"
    return _statement("line_y3x", backend, text, rule, holds, seen)


def _jumps_and_stays(results: Results, backend: str) -> Statement:
    stuck = _line(results, "line_y3x", backend, 1.0)
    holds = None
    seen = ""
    if stuck is not None:
        # NaN equals nothing, so a run that diverged fails this comparison.
        half = stuck.weights[len(stuck.weights) // 2 :]
        holds = bool(np.all(half == half[0]) and abs(half[0]) > 100)
        seen = stuck.ended
        point = find_point(results, "line_y3x", backend, 1.0, None)
        if point is not None:
            # The weight gets stuck with finite differences, and diverges with an exact gradient.
            seen += f" (gradient: {point.config.gradient})"
    text = "at rate 1 the weight jumps to a large value and stays there"
    rule = "the weight exceeds 100 in magnitude and does not change over the second half of the training"
    return _statement("line_y3x", backend, text, rule, holds, seen)


def _three_bits(results: Results, backend: str) -> Iterator[Statement]:
    # The errors at which rates 100 and 1000 get stuck according to the texts.
    for size, stuck_at in ((4, {100.0: 0.125, 1000.0: 0.5}), (32, {100.0: 0.5, 1000.0: 0.5})):
        points = [find_point(results, "three_bits", backend, rate, size) for rate in THREE_BITS_RATES]
        ends = {
            point.learning_rate: point.outcome.final.get(ERROR, math.inf)
            for point in points
            if point is not None and point.outcome.epochs >= THREE_BITS_EPOCHS and not point.diverged
        }
        holds = None
        seen = ""
        # Unless all rates were trained, the best of the others proves nothing.
        if len(ends) == len(THREE_BITS_RATES):
            best = min(ends, key=lambda rate: ends[rate])
            holds = math.isclose(best, 10)
            seen = f"{best:g} ({ends[best]:.3g})"
        text = f"10 is the best rate for hidden size {size}"
        yield _statement("three_bits", backend, text, "it has the smallest final mean absolute error", holds, seen)
        for rate, error in stuck_at.items():
            holds = None
            seen = ""
            if rate in ends:
                holds = round(ends[rate], 3) == error
                seen = f"{ends[rate]:.6g}"
            text = f"rate {rate:g} is stuck near {error} with hidden size {size}"
            rule = f"the final mean absolute error rounds to {error:.3f}"
            yield _statement("three_bits", backend, text, rule, holds, seen)


def _mnist_series(results: Results, backend: str) -> dict[float, dict[str, Series]]:
    """Return the metrics by rate of the `mnist` points that trained for long enough."""
    by_rate = {}
    for point in results.get("mnist", {}).get(backend, []):
        if point.outcome.epochs >= MNIST_EPOCHS and point.config.seed == SEED and point.config.optimizer.name == "adam":
            by_rate[point.learning_rate] = _metrics(point)
    return by_rate


def _metrics(point: Point) -> dict[str, Series]:
    series = {name: point.history.series(name) for name in ("train/loss", "test/accuracy")}
    return {name: (epochs.astype(np.float64), values) for name, (epochs, values) in series.items() if len(epochs)}


def _mnist(by_rate: Mapping[float, Mapping[str, Series]], backend: str) -> Iterator[Statement]:
    losses = {rate: metrics["train/loss"] for rate, metrics in by_rate.items() if "train/loss" in metrics}

    holds = None
    seen = ""
    accuracy = by_rate.get(0.01, {}).get("test/accuracy")
    if accuracy is not None:
        epochs, values = accuracy
        last = float(values[-1])
        holds = round(last, 1) == 0.9
        seen = f"{last:.2%} after {epochs[-1]:g} epochs"
    text = "at rate 0.01 the accuracy ends at about 90% (500 epochs)"
    yield _statement("mnist", backend, text, "the final test accuracy rounds to 90% (to the nearest 10%)", holds, seen)

    holds = None
    seen = ""
    if 0.01 in losses and 0.0001 in losses:
        rough = roughness(losses[0.01][1])
        smooth = roughness(losses[0.0001][1])
        holds = rough > smooth
        seen = f"{rough:.2%} against {smooth:.2%}"
    text = "at rate 0.01 the loss falls less smoothly than at 0.0001"
    rule = "upward changes are a larger share of the training loss's total epoch-to-epoch change"
    yield _statement("mnist", backend, text, rule, holds, seen)

    holds = None
    seen = ""
    if 0.1 in losses:
        epochs, values = losses[0.1]
        holds = bool(values[-1] > 0.9 * GUESSING)
        seen = f"{values[0]:.4g} in the first epoch, {values[-1]:.4g} after {epochs[-1]:g}"
    rule = f"the final training loss is above 90% of ln 10 = {GUESSING:.3f}, the loss of guessing"
    yield _statement("mnist", backend, "at rate 0.1 the loss hardly falls", rule, holds, seen)
