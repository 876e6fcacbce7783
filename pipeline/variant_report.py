"""A study that compares methods or features, in sentences and a table computed from its points."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.parity import pairs
from pipeline.points import Point
from pipeline.reproduction import BACKENDS, Results
from pipeline.reproduction_report import table
from pipeline.variants import SMOOTHED, TARGET, Variant, knob, target, variants

CALLED = {"optimizer.name": "method", "schedule.name": "schedule", "feature": "feature"}


def comparison_lines(points: Sequence[Point]) -> Iterator[str]:
    """What the variants of one backend's points do, as Markdown: two sentences and a row for each."""
    key, found = knob(points), variants(points)
    if key is None:
        return
    word = CALLED[key]
    for sentence in sentences(points):
        yield f"- {sentence}"
    yield ""
    yield (
        f"Target: a loss of {target(points[0]):.3g}, {TARGET:.0%} of the baseline. A rate is usable where training "
        "ends at most there; the range is that around the best rate, + where the grid ends first. Steps: updates until "
        f"the training loss{_smoothed(points)} first was at most the target, at the usable rate that took the fewest."
    )
    yield ""
    rows = [[word, "best rate", "loss there", "usable rates", "decades", "steps to the target", "at rate"]]
    rows += [_row(variant) for variant in found]
    yield from table(rows)


def sentences(points: Sequence[Point]) -> list[str]:
    """The widest usable range, the lowest loss, the fewest steps; what never reached the target."""
    key, found = knob(points), variants(points)
    usable = [variant for variant in found if variant.decades is not None]
    if key is None or not usable:
        return ["none reaches the target at any rate."] if key else []
    widths = {variant.name: variant.decades or 0.0 for variant in usable}
    widest = max(widths.values())
    names = _listed([name for name, width in widths.items() if math.isclose(width, widest)])
    told = [f"the widest range of usable rates: {names}, {widest:.1f} decades."]
    narrowest = min(widths.values())
    names = _listed([name for name, width in widths.items() if math.isclose(width, narrowest)])
    if narrowest < widest:
        told.append(f"the narrowest: {names}, {f'{narrowest:.1f} decades' if narrowest else 'one rate of the grid'}.")
    lowest = min(usable, key=lambda variant: variant.losses[variant.best or 0])
    told.append(f"the lowest loss: {lowest.name}, {_best(lowest)}.")
    fast = [variant for variant in usable if variant.fastest is not None]
    if fast:
        first = min(fast, key=lambda variant: variant.steps[variant.fastest or 0])
        told.append(f"the fewest steps to the target: {first.name}, {_steps(first)} at rate {_fastest_rate(first)}.")
    never = [variant.name for variant in found if variant.decades is None]
    if never:
        told.append(f"at no rate of the grid reach{'es' if len(never) == 1 else ''} the target: {_listed(never)}.")
    return told


def parity_table(results: Results, study: str) -> list[str]:
    """How far apart the backends are at each point of a study, as Markdown; nothing where none is trained by both."""
    rows = [["point", "largest relative difference of the training loss", "at epoch", *BACKENDS]]
    for mine, theirs in pairs(results, study):
        steps, one = mine.history.series("train/loss")
        their_steps, other = theirs.history.series("train/loss")
        common, at, there = np.intersect1d(steps, their_steps, return_indices=True)
        if not len(common):
            continue
        a, b = one[at], other[there]
        size = np.maximum(np.abs(a), np.abs(b))
        apart = np.divide(np.abs(a - b), size, out=np.zeros_like(size), where=size > 0)
        place = int(np.argmax(apart))
        rows.append([f"`{mine.name}`", f"{apart[place]:.2g}", f"{common[place]:,}", f"{a[-1]:.4g}", f"{b[-1]:.4g}"])
    return table(rows) if len(rows) > 1 else []


def _row(variant: Variant) -> list[str]:
    reach = "none"
    if variant.range is not None:
        low, high = variant.range
        reach = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    decades = "" if variant.decades is None else f"{variant.decades:.1f}{'+' if variant.at_the_edge else ''}"
    if variant.best is None:
        return [variant.name, "", "diverged at every rate", reach, decades, "", ""]
    best = f"{variant.rates[variant.best]:g}"
    return [variant.name, best, f"{variant.losses[variant.best]:.4g}", reach, decades, _steps(variant),
            _fastest_rate(variant)]  # fmt: skip


def _best(variant: Variant) -> str:
    place = variant.best or 0
    return f"{variant.losses[place]:.3g} at rate {variant.rates[place]:g}"


def _steps(variant: Variant) -> str:
    return "" if variant.fastest is None else f"{variant.steps[variant.fastest]:,.0f}"


def _fastest_rate(variant: Variant) -> str:
    return "" if variant.fastest is None else f"{variant.rates[variant.fastest]:g}"


def _smoothed(points: Sequence[Point]) -> str:
    return f" (mean of {SMOOTHED} minibatches)" if "updates" in points[0].history.tables else ""


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
