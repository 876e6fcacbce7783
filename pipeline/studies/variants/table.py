"""Describe a study that compares methods or features, in sentences and a table computed from its points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.config.optimizer import MINIMIZERS
from pipeline.points.point import Point
from pipeline.studies.certainty import COMPLETE, unknown_of
from pipeline.studies.variants.variants import SMOOTHED, TARGET, Variant, knob, loss_name, lowest, target, variants
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
    sentences = [*_ranges(usable), _lowest(found, loss_name(points)), *_fewest_steps(usable)]
    never = [variant.name for variant in found if variant.decades is None]
    if never:
        sentences.append(f"the target is not reached by {listed(never)} {tested_at}.")
    return sentences


def _lowest(found: Sequence[Variant], loss: str) -> str:
    """Return a sentence on the variants with the lowest loss, and on those that are lower where they train."""
    best = lowest(found)
    first, *others = best.variants
    names = some([f"{variant.name} at rate {variant.rates[variant.best or 0]:g}" for variant in others], MOST_NAMED)
    better = _lower_where_trained(found, first.losses[first.best or 0])
    where = ""
    if better:
        where = COMPLETE
    sentence = f"the lowest {loss}{where}: {first.name}, {_best(first)}"
    if others and best.tested:
        sentence += f"; it cannot be told from {names}"
    elif others:
        sentence += f", and exactly as low: {names}"
    sure = f"{first.estimates[first.best or 0].seeds} seeds"
    if not best.tested:
        sure = unknown_of(_seeds(found))
    return "; ".join([f"{sentence} ({sure})", *better]) + "."


def _lower_where_trained(found: Sequence[Variant], lowest_loss: float) -> list[str]:
    """Name what has lost a seed and is lower than the lowest loss; a variant that has lost one at each rate as well."""
    parts = []
    for variant in found:
        for index, one in enumerate(variant.estimates):
            if one.trained < one.asked and one.trained and one.mean < lowest_loss:
                parts.append(f"{variant.name} at rate {variant.rates[index]:g} ({one.seeds} seeds)")
    if not parts:
        return []
    return [f"lower where it trains: {some(parts, MOST_NAMED)}"]


def _fewest_steps(usable: Sequence[Variant]) -> list[str]:
    """Return a sentence on all variants that reach the target in the fewest steps."""
    steps = {variant.name: variant.steps[variant.fastest] for variant in usable if variant.fastest is not None}
    if not steps:
        return []
    first = [variant for variant in usable if steps.get(variant.name) == min(steps.values())]
    sure = _sure(first)
    if sure != "one seed":
        sure = f"median of {sure}"
    number = _steps(first[0])
    rates = {_fastest_rate(variant) for variant in first}
    if len(rates) == 1:
        at = f"{listed([variant.name for variant in first])}, {number} at rate {rates.pop()}"
    else:
        at = f"{number}, {listed([f'{variant.name} at rate {_fastest_rate(variant)}' for variant in first])}"
    return [f"the fewest steps to the target: {at} ({sure})."]


def _seeds(found: Sequence[Variant]) -> list[int]:
    """Return the number of seeds of each rate of each variant."""
    return [len(losses) for variant in found for losses in variant.by_seed]


def _sure(found: Sequence[Variant]) -> str:
    """Return how many seeds the rates of some variants have: `one seed`, `5 seeds`, `1 to 5 seeds`."""
    seeds = _seeds(found)
    if max(seeds) == 1:
        return "one seed"
    if min(seeds) == max(seeds):
        return f"{max(seeds)} seeds"
    return f"{min(seeds)} to {max(seeds)} seeds"


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
    return [f"{sentence} ({_sure(usable)})."]


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
    better = [f"{variant.rates[index]:g}" for index in variant.better_where_trained]
    if better:
        best += f" (lower where it trains: {listed(better)})"
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
