"""Describe a study that compares methods or features, in sentences and a table computed from its points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.config.optimizer import MINIMIZERS
from pipeline.points.point import Point
from pipeline.studies.certainty import FEW_SEEDS, ONE_SEED
from pipeline.studies.variants.variants import SMOOTHED, TARGET, Variant, knob, lowest, target, variants
from pipeline.system.wording import listed, some, table

CALLED = {"optimizer.name": "method", "schedule.name": "schedule", "feature": "feature"}
# The methods that SciPy runs.
SEARCHES = (*MINIMIZERS, "annealing")
# Maximum number of variants to name that cannot be told from the one with the lowest loss.
MOST_NAMED = 4


def variant_table(points: Sequence[Point]) -> Iterator[str]:
    """Yield a Markdown table with a row for each variant of one backend's points; empty if there are no variants."""
    key = knob(points)
    if key is None:
        return
    yield (
        f"Target: a loss of {target(points[0]):.3g}, {TARGET:.0%} of the baseline. A rate is usable if the final loss "
        "is at or below the target. The range is the widest run of usable rates; + means that it reaches the edge of "
        f"the grid and may be wider. Steps: updates until the training loss{_smoothed(points)} first reached the "
        f"target, at the fastest usable rate{_own_steps(points)}."
    )
    yield ""
    head = [CALLED[key], "best rate", "loss at best rate", "usable rates", "decades", "steps to the target", "at rate"]
    yield from table([head] + [_row(variant) for variant in variants(points)])


def comparison(points: Sequence[Point]) -> list[str]:
    """Return sentences on the widest usable range, the lowest loss, the fewest steps, and the variants that fail."""
    found = variants(points)
    if not found:
        return []
    rates = {float(rate) for variant in found for rate in variant.rates}
    tested_at = "at any rate"
    if len(rates) == 1:
        tested_at = f"at rate {rates.pop():g} (the only rate tested)"
    usable = [variant for variant in found if variant.decades is not None]
    if not usable:
        return [f"none reaches the target {tested_at}."]
    sentences = [*_ranges(usable), _lowest(found)]
    fast = [variant for variant in usable if variant.fastest is not None]
    if fast:
        first = min(fast, key=lambda variant: variant.steps[variant.fastest or 0])
        sentences.append(
            f"the fewest steps to the target: {first.name}, {_steps(first)} at rate {_fastest_rate(first)}."
        )
    never = [variant.name for variant in found if variant.decades is None]
    if never:
        sentences.append(f"the target is not reached by {listed(never)} {tested_at}.")
    return sentences


def _lowest(found: Sequence[Variant]) -> str:
    """Return a sentence on the variants with the lowest loss."""
    best = lowest(found)
    first, *others = best.variants
    names = some([f"{variant.name} at rate {variant.rates[variant.best or 0]:g}" for variant in others], MOST_NAMED)
    sentence = f"the lowest loss: {first.name}, {_best(first)}"
    if not best.tested:
        if others:
            sentence += f", and exactly as low: {names}"
        return f"{sentence} ({_unknown(found)})."
    seeds = f"{first.estimates[first.best or 0].seeds} seeds"
    if others:
        sentence += f"; it cannot be told from {names}"
    return f"{sentence} ({seeds})."


def _unknown(found: Sequence[Variant]) -> str:
    """Return why the losses cannot be told apart."""
    if all(len(losses) == 1 for variant in found for losses in variant.by_seed):
        return ONE_SEED
    return FEW_SEEDS


def _ranges(usable: Sequence[Variant]) -> list[str]:
    """Return sentences on the widest and the narrowest range of usable rates."""
    widths = {variant.name: variant.decades or 0.0 for variant in usable}
    widest = max(widths.values())
    narrowest = min(widths.values())
    if not widest:
        return []
    sentence = f"the widest range of usable rates: {_with(widths, widest)}, {widest:.1f} decades"
    if narrowest < widest:
        # A range of a single rate has no width.
        width = "a single rate"
        if narrowest:
            width = f"{narrowest:.1f} decades"
        sentence += f"; the narrowest: {_with(widths, narrowest)}, {width}"
    return [f"{sentence}."]


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
    return [variant.name, best, variant.estimates[variant.best].text, usable, decades, _steps(variant),
            _fastest_rate(variant)]  # fmt: skip


def _best(variant: Variant) -> str:
    index = variant.best or 0
    return f"{variant.estimates[index].number} at rate {variant.rates[index]:g}"


def _steps(variant: Variant) -> str:
    if variant.fastest is None:
        return ""
    return f"{variant.steps[variant.fastest]:,.0f}"


def _fastest_rate(variant: Variant) -> str:
    if variant.fastest is None:
        return ""
    return f"{variant.rates[variant.fastest]:g}"


def _own_steps(points: Sequence[Point]) -> str:
    """Define a step for the methods whose steps are not single updates."""
    own = [name for name in dict.fromkeys(point.config.optimizer.name for point in points) if name in SEARCHES]
    if not own:
        return ""
    return f"; a step of {listed(own)} is an iteration, which evaluates the loss several times"


def _smoothed(points: Sequence[Point]) -> str:
    """Name the number of minibatches whose losses are averaged, if these losses were kept."""
    if "updates" not in points[0].history.tables:
        return ""
    return f" (mean of {SMOOTHED} minibatches)"


def _with(widths: Mapping[str, float], width: float) -> str:
    """List the variants whose usable range has this width."""
    return listed([name for name, own in widths.items() if own == width])
