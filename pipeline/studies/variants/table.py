"""A study that compares methods or features, in sentences and a table computed from its points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.config.optimizer import MINIMIZERS
from pipeline.points.point import Point
from pipeline.studies.variants.variants import SMOOTHED, TARGET, Variant, knob, target, variants
from pipeline.system.wording import listed, table

CALLED = {"optimizer.name": "method", "schedule.name": "schedule", "feature": "feature"}
SEARCHES = (*MINIMIZERS, "annealing")
"""Methods that SciPy runs."""


def variant_table(points: Sequence[Point]) -> Iterator[str]:
    """A row for each variant of one backend's points, as Markdown; nothing where they are no variants."""
    key = knob(points)
    found = variants(points)
    if key is None:
        return
    yield (
        f"Target: a loss of {target(points[0]):.3g}, {TARGET:.0%} of the baseline. A rate is usable where training "
        "ends at most there; the range is the widest without a gap, + where the grid ends first. Steps: updates until "
        f"the training loss{_smoothed(points)} first was at most the target, at the usable rate that took the fewest"
        f"{_own_steps(points)}."
    )
    yield ""
    rows = [[CALLED[key], "best rate", "loss there", "usable rates", "decades", "steps to the target", "at rate"]]
    yield from table(rows + [_row(variant) for variant in found])


def comparison(points: Sequence[Point]) -> list[str]:
    """The widest usable range, the lowest loss, the fewest steps; what never reached the target."""
    key = knob(points)
    found = variants(points)
    usable = [variant for variant in found if variant.decades is not None]
    rates = {float(rate) for variant in found for rate in variant.rates}
    if key is None or not usable:
        where = f"at rate {rates.pop():g}, the only one" if len(rates) == 1 else "at any rate"
        return [f"none reaches the target {where}."] if key else []
    told = []
    widths = {variant.name: variant.decades or 0.0 for variant in usable}
    widest = max(widths.values())
    narrowest = min(widths.values())
    if widest:
        told.append(f"the widest range of usable rates: {_with(widths, widest)}, {widest:.1f} decades.")
    if narrowest < widest:
        much = f"{narrowest:.1f} decades" if narrowest else "one rate of the grid"
        told.append(f"the narrowest: {_with(widths, narrowest)}, {much}.")
    lowest = min(usable, key=lambda variant: variant.losses[variant.best or 0])
    told.append(f"the lowest loss: {lowest.name}, {_best(lowest)}.")
    fast = [variant for variant in usable if variant.fastest is not None]
    if fast:
        first = min(fast, key=lambda variant: variant.steps[variant.fastest or 0])
        told.append(f"the fewest steps to the target: {first.name}, {_steps(first)} at rate {_fastest_rate(first)}.")
    never = [variant.name for variant in found if variant.decades is None]
    if never and len(rates) == 1:
        told.append(f"at rate {rates.pop():g}, the only one, the target is not reached by {listed(never)}.")
    elif never:
        reach = "reaches" if len(never) == 1 else "reach"
        told.append(f"at no rate of the grid {reach} the target: {listed(never)}.")
    return told


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


def _own_steps(points: Sequence[Point]) -> str:
    """What a step is for the methods whose epochs are no single updates."""
    own = [name for name in dict.fromkeys(point.config.optimizer.name for point in points) if name in SEARCHES]
    return f"; a step of {listed(own)} is an iteration, which takes several losses" if own else ""


def _smoothed(points: Sequence[Point]) -> str:
    return f" (mean of {SMOOTHED} minibatches)" if "updates" in points[0].history.tables else ""


def _with(widths: Mapping[str, float], width: float) -> str:
    return listed([name for name, own in widths.items() if own == width])
