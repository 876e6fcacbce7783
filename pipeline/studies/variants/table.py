"""Describe a study that compares methods or features, in sentences and a table computed from its points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.config.optimizer import MINIMIZERS
from pipeline.points.point import Point
from pipeline.studies.variants.variants import SMOOTHED, TARGET, Variant, knob, target, variants
from pipeline.system.wording import listed, table

CALLED = {"optimizer.name": "method", "schedule.name": "schedule", "feature": "feature"}
# The methods that SciPy runs.
SEARCHES = (*MINIMIZERS, "annealing")


def variant_table(points: Sequence[Point]) -> Iterator[str]:
    """Yield a table in Markdown with a row for each variant of one backend's points; nothing if there are none."""
    key = knob(points)
    if key is None:
        return
    yield (
        f"Target: a loss of {target(points[0]):.3g}, {TARGET:.0%} of the baseline. A rate is usable if training with "
        "it ends at or below the target. The range is the widest without a gap; + means that it ends where the grid "
        f"ends, and may be wider. Steps: updates until the training loss{_smoothed(points)} was first at or below the "
        f"target, at the usable rate that needed the fewest{_own_steps(points)}."
    )
    yield ""
    rows = [[CALLED[key], "best rate", "loss there", "usable rates", "decades", "steps to the target", "at rate"]]
    yield from table(rows + [_row(variant) for variant in variants(points)])


def comparison(points: Sequence[Point]) -> list[str]:
    """Say which variants have the widest usable range, the lowest loss and the fewest steps, and which fail."""
    found = variants(points)
    if not found:
        return []
    rates = {float(rate) for variant in found for rate in variant.rates}
    where = "at any rate of the grid"
    if len(rates) == 1:
        where = f"at the only rate, {rates.pop():g}"
    usable = [variant for variant in found if variant.decades is not None]
    if not usable:
        return [f"none reaches the target {where}."]
    sentences = _ranges(usable)
    lowest = min(usable, key=lambda variant: variant.losses[variant.best or 0])
    sentences.append(f"the lowest loss: {lowest.name}, {_best(lowest)}.")
    fast = [variant for variant in usable if variant.fastest is not None]
    if fast:
        first = min(fast, key=lambda variant: variant.steps[variant.fastest or 0])
        sentences.append(
            f"the fewest steps to the target: {first.name}, {_steps(first)} at rate {_fastest_rate(first)}."
        )
    never = [variant.name for variant in found if variant.decades is None]
    if never:
        sentences.append(f"the target is not reached by {listed(never)} {where}.")
    return sentences


def _ranges(usable: Sequence[Variant]) -> list[str]:
    """Say which variants have the widest and the narrowest range of usable rates."""
    widths = {variant.name: variant.decades or 0.0 for variant in usable}
    widest = max(widths.values())
    narrowest = min(widths.values())
    sentences = []
    if widest:
        sentences.append(f"the widest range of usable rates: {_with(widths, widest)}, {widest:.1f} decades.")
    if narrowest < widest:
        # A range without any width has its lower end at its upper end.
        width = f"{narrowest:.1f} decades" if narrowest else "one rate of the grid"
        sentences.append(f"the narrowest: {_with(widths, narrowest)}, {width}.")
    return sentences


def _row(variant: Variant) -> list[str]:
    """Return a variant's row of the table."""
    usable = "none"
    decades = ""
    if variant.range is not None:
        low, high = variant.range
        usable = f"{low:g} to {high:g}"
        if low == high:
            usable = f"{low:g}"
        decades = f"{variant.decades:.1f}"
        if variant.at_the_edge:
            decades += "+"
    if variant.best is None:
        return [variant.name, "", "diverged at every rate", usable, decades, "", ""]
    best = f"{variant.rates[variant.best]:g}"
    return [variant.name, best, f"{variant.losses[variant.best]:.4g}", usable, decades, _steps(variant),
            _fastest_rate(variant)]  # fmt: skip


def _best(variant: Variant) -> str:
    index = variant.best or 0
    return f"{variant.losses[index]:.3g} at rate {variant.rates[index]:g}"


def _steps(variant: Variant) -> str:
    if variant.fastest is None:
        return ""
    return f"{variant.steps[variant.fastest]:,.0f}"


def _fastest_rate(variant: Variant) -> str:
    if variant.fastest is None:
        return ""
    return f"{variant.rates[variant.fastest]:g}"


def _own_steps(points: Sequence[Point]) -> str:
    """Say what a step is for the methods whose steps are not single updates."""
    own = [name for name in dict.fromkeys(point.config.optimizer.name for point in points) if name in SEARCHES]
    if not own:
        return ""
    return f"; a step of {listed(own)} is an iteration, which computes the loss several times"


def _smoothed(points: Sequence[Point]) -> str:
    """Say that losses are averaged, if the losses of minibatches were kept."""
    if "updates" not in points[0].history.tables:
        return ""
    return f" (mean of {SMOOTHED} minibatches)"


def _with(widths: Mapping[str, float], width: float) -> str:
    """List the variants whose range has this width."""
    return listed([name for name, own in widths.items() if own == width])
