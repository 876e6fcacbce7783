"""What a sweep says about the learning rate and the hidden size, in sentences computed from its points."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pipeline.diagnosis import GOAL, Diagnosis, diagnose
from pipeline.plot_data import cell_metric, grid, hidden_sizes, rates, with_size
from pipeline.plots import METRIC_NAMES
from pipeline.points import Point

QUESTIONS = {
    "line_y2x": "Fit y = 2x with one weight and one bias: which rates reach 2, which run away?",
    "line_y3x": "Fit y = 3x from zero: smooth at 0.01, oscillating at 0.1, stuck at 1?",
    "two_bits": "Two weights and one sigmoid: what does the whole error surface look like, and the way down it?",
    "three_bits": "Seven rates, six orders of magnitude apart, and two hidden sizes: which rate ends lowest?",
    "thirteen_lines": "The 13-line network as it stands, rate 0.5 and four hidden units: where does it end?",
    "mnist": "A 784-1000-10 network under Adam at three rates: how smoothly does each learn, and how far?",
    "mnist_grid": "Does the best rate move with the hidden size?",
}
"""Each study's question, in the order of the report."""


def answers(points: Sequence[Point]) -> Iterator[str]:
    """The sentences of one backend's points: best rates, rates too big, what rates too small cost.

    One point alone gets its diagnosis.
    """
    if len(points) == 1:
        alone = diagnose(points[0].config, points[0].history)
        yield f"{alone.label}: {alone.evidence}."
        return
    best = best_rates(points)
    yield from _best(points, best)
    lost = [point for point in points if diagnose(point.config, point.history).verdict == "diverged"]
    if not lost and len(rates(points)) > 1:
        yield f"no rate up to {rates(points)[-1]:g} diverges."
    for size in hidden_sizes(points):
        found = [(point.config.optimizer.learning_rate, diagnose(point.config, point.history))
                 for point in with_size(points, size)]  # fmt: skip
        told = [*_failing(found), *_costs(found), *_beyond(found, best.get(size))]
        where = "" if size is None else f"hidden size {size}: "
        yield from (where + sentence for sentence in told)


def headline(points: Sequence[Point]) -> str:
    """The answer in a line: the best point, and which rates ended how."""
    metric, sizes, best = cell_metric(points), hidden_sizes(points), best_point(points)
    labels: dict[str, dict[float, list[int | None]]] = {}
    for point in points:
        rate, size = point.config.optimizer.learning_rate, point.config.model.hidden_size
        labels.setdefault(diagnose(point.config, point.history).label, {}).setdefault(rate, []).append(size)
    parts = []
    if best is not None:
        size, value = best.config.model.hidden_size, best.outcome.final[metric]
        hidden = "" if size is None else f" with hidden size {size}"
        first = "best: " if len(points) > 1 else ""
        parts.append(f"{first}rate {best.config.optimizer.learning_rate:g}{hidden}, {METRIC_NAMES[metric]} {value:.4g}")
    if len(points) == 1:
        return "; ".join([*parts, *labels])
    for label, members in sorted(labels.items(), key=lambda item: min(item[1])):
        listed = [f"{rate:g}" if len(set(at)) == len(sizes) else f"{rate:g} ({', '.join(map(str, at))})"
                  for rate, at in sorted(members.items())]  # fmt: skip
        parts.append(f"{label}: {', '.join(listed)}")
    return "; ".join(parts)


def best_point(points: Sequence[Point]) -> Point | None:
    """The point whose final value is best by what the sweep is judged by; None where all diverged."""
    metric = cell_metric(points)
    ends = [point for point in points if point.outcome.outcome == "finished" and metric in point.outcome.final]
    choose = max if metric.endswith("accuracy") else min
    return choose(ends, key=lambda point: point.outcome.final[metric], default=None)


def best_rates(points: Sequence[Point]) -> dict[int | None, float]:
    """For each hidden size the rate whose final value is best; a size whose points all diverged has none."""
    metric = cell_metric(points)
    cells, choose = grid(points, metric), max if metric.endswith("accuracy") else min
    best = {}
    for size, values in zip(cells.sizes, cells.values.tolist(), strict=True):
        ends = {rate: value for rate, value in zip(cells.rates, values, strict=True) if math.isfinite(value)}
        if ends:
            best[size] = choose(ends, key=lambda rate: ends[rate])
    return best


def _best(points: Sequence[Point], best: dict[int | None, float]) -> Iterator[str]:
    if len(rates(points)) < 2 or not best:
        return
    metric = cell_metric(points)
    cells = grid(points, metric)
    for size, rate in best.items():
        value = cells.values[cells.sizes.index(size)][cells.rates.index(rate)]
        where = "" if size is None else f" for hidden size {size}"
        yield f"the best rate{where} is {rate:g}, {METRIC_NAMES[metric]} {value:.4g}."
    if len(best) > 1:
        same = "is the same for every hidden size" if len(set(best.values())) == 1 else "moves with the hidden size"
        yield f"the best rate {same}."


Found = Sequence[tuple[float, Diagnosis]]
"""The points of one hidden size: rate and diagnosis, by rising rate."""


def _failing(found: Found) -> Iterator[str]:
    """The first rate that diverges, with its step, and which rates stall or oscillate."""
    diverged = [(rate, diagnosis) for rate, diagnosis in found if diagnosis.verdict == "diverged"]
    if diverged:
        rate, first = diverged[0]
        more = f"; so do {_listed(rate for rate, _ in diverged[1:])}" if diverged[1:] else ""
        yield f"{rate:g} is the first rate that diverges: {first.evidence}{more}."
    for label in dict.fromkeys(d.label for _, d in found if d.verdict in ("stalled", "oscillating")):
        members = [(rate, diagnosis) for rate, diagnosis in found if diagnosis.label == label]
        rate, first = members[0]
        at = _listed(rate for rate, _ in members)
        yield f"{label} at rate{'s' if len(members) > 1 else ''} {at}; at {rate:g}: {first.evidence}."


def _costs(found: Found) -> Iterator[str]:
    """How many epochs the rates take to a low loss, where at least one got there and there are several."""
    reached = {rate: d.values["epochs_to_low_loss"] for rate, d in found if "epochs_to_low_loss" in d.values}
    if len(found) < 2 or not reached or len({rate for rate, _ in found}) < len(found):
        return
    fastest = min(reached, key=lambda rate: (reached[rate], -rate))
    parts = [f"{reached[fastest]:,.0f} epochs at rate {fastest:g}"]
    for rate, diagnosis in reversed(found):
        if rate < fastest and rate in reached:
            parts.append(f"{reached[rate]:,.0f} at {rate:g}")
        elif rate < fastest and diagnosis.verdict == "too slow":
            needed = diagnosis.values.get("epochs_needed")
            parts.append(f"about {float(f'{needed:.2g}'):,.0f} at {rate:g}" if needed else f"out of sight at {rate:g}")
    if len(parts) > 1:
        yield f"a loss of {GOAL:.0%} of the baseline takes {', '.join(parts)}."


def _beyond(found: Found, best: float | None) -> Iterator[str]:
    """Rates that are slow because they are too big, not too small."""
    slow = [rate for rate, d in found if d.verdict == "too slow" and best is not None and rate > best]
    if slow:
        yield f"{_listed(slow)} ends behind {best:g} after as many epochs: too big a rate is slow too."


def _listed(values: Iterator[float] | Sequence[float]) -> str:
    names = [f"{value:g}" for value in values]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
