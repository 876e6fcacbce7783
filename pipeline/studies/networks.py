"""What networks over rates and hidden sizes say, in sentences computed from their points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pipeline.diagnosis.networks import GOAL, GROWN
from pipeline.diagnosis.verdicts import PROBLEMS, Diagnosis
from pipeline.points.point import Point
from pipeline.studies.grids import METRIC_NAMES, cell_metric, hidden_sizes, rates, with_size
from pipeline.studies.variants.variants import final_loss
from pipeline.system.wording import listed, roughly

VERIFIED = "lr_range_check"
"""The study of the rate that a range test suggests, with one smaller and one larger."""


def network_sentences(points: Sequence[Point]) -> Iterator[str]:
    """Best rates, rates too big, what rates too small cost; of one point alone its diagnosis."""
    if len(points) == 1:
        yield f"{points[0].diagnosis}."
        return
    best = best_points(points)
    yield from _verified(points)
    yield from _best(points, best)
    if len(rates(points)) > 1 and not any(_ran_away(point.diagnosis) for point in points):
        yield f"no rate up to {rates(points)[-1]:g} diverges."
    for size in hidden_sizes(points):
        members = with_size(points, size)
        told = [*_failing(members), *_costs(members), *_beyond(members, best.get(size))]
        where = "" if size is None else f"hidden size {size}: "
        yield from (where + sentence for sentence in told)


def network_headline(points: Sequence[Point]) -> str:
    """The answer in a line: the best point, and which rates ended how."""
    metric = cell_metric(points)
    sizes = hidden_sizes(points)
    best = best_point(points)
    shared = _share_cells(points)
    labels: dict[str, dict[float, list[int | None]]] = {}
    for point in points:
        rate = point.learning_rate
        size = point.hidden_size
        labels.setdefault(point.diagnosis.label, {}).setdefault(rate, []).append(size)
    parts = []
    if best is not None:
        size = best.hidden_size
        value = best.outcome.final[metric]
        hidden = "" if size is None else f" with hidden size {size}"
        which = f"`{best.name}`" if shared else f"rate {best.learning_rate:g}{hidden}"
        best_of = "best: " if len(points) > 1 else ""
        parts.append(f"{best_of}{which}, {METRIC_NAMES[metric]} {value:.4g}")
    if len(points) == 1:
        return "; ".join([*parts, *labels])
    for label, members in sorted(labels.items(), key=lambda item: min(item[1])):
        listed = []
        for rate, at in sorted(members.items()):
            whole = sum(point.learning_rate == rate for point in points)
            some = f"{len(at)} of {whole}" if shared else ", ".join(map(str, at))
            every = len(at) == whole and (shared or len(at) == len(sizes))
            listed.append(f"{rate:g}" if every else f"{rate:g} ({some})")
        parts.append(f"{label}: {', '.join(listed)}")
    return "; ".join(parts)


def verdict_counts(points: Sequence[Point]) -> dict[str, float]:
    """How many points have each verdict, by its name with `_` for a space."""
    counts = Counter(point.diagnosis.verdict for point in points)
    return {verdict.replace(" ", "_"): counts[verdict] for verdict in PROBLEMS}


def best_point(points: Sequence[Point]) -> Point | None:
    """The point whose final value is best by what the sweep is judged by; None where all diverged."""
    metric = cell_metric(points)
    ends = [point for point in points if not point.diverged and metric in point.outcome.final]
    choose = max if metric.endswith("accuracy") else min
    return choose(ends, key=lambda point: point.outcome.final[metric], default=None)


def best_points(points: Sequence[Point]) -> dict[int | None, Point]:
    """The best point of each hidden size; a size whose points all diverged has none."""
    chosen = {size: best_point(with_size(points, size)) for size in hidden_sizes(points)}
    return {size: point for size, point in chosen.items() if point is not None}


def _share_cells(points: Sequence[Point]) -> bool:
    """Whether points differ in more than rate and hidden size, so that these two do not name one."""
    return len({(point.learning_rate, point.hidden_size) for point in points}) < len(points)


def _ran_away(diagnosis: Diagnosis) -> bool:
    return diagnosis.verdict == "diverged" or diagnosis.values.get("loss_over_baseline", 0.0) > GROWN


def _verified(points: Sequence[Point]) -> Iterator[str]:
    """Whether the suggested rate, which stands between a smaller and a larger one, ends lowest."""
    if points[0].config.study != VERIFIED or len(rates(points)) != 3:
        return
    by_rate = sorted(points, key=lambda point: point.learning_rate)
    losses = [final_loss(point) for point in by_rate]
    ends = [f"{loss:.4g} at {point.learning_rate:g}" for point, loss in zip(by_rate, losses, strict=True)]
    holds = "is verified" if min(losses) == losses[1] else "is not the best of the three"
    yield f"the suggested rate, {by_rate[1].learning_rate:g}, {holds}: the loss ends at {', '.join(ends)}."


def _best(points: Sequence[Point], best: Mapping[int | None, Point]) -> Iterator[str]:
    if len(rates(points)) < 2 and not _share_cells(points):
        return
    metric = cell_metric(points)
    named = _share_cells(points)
    for size, point in best.items():
        which = "point" if named else "rate"
        if size is not None:
            which += f" with hidden size {size}" if named else f" for hidden size {size}"
        what = f"`{point.name}`" if named else f"{point.learning_rate:g}"
        yield f"the best {which} is {what}, {METRIC_NAMES[metric]} {point.outcome.final[metric]:.4g}."
    if len(best) > 1 and not named:
        same = len(rates(list(best.values()))) == 1
        how = "is the same for every hidden size" if same else "moves with the hidden size"
        yield f"the best rate {how}."


def _failing(points: Sequence[Point]) -> Iterator[str]:
    """The first rate that diverges, with its step, and which rates stall or oscillate."""
    diverged = [point for point in points if point.diagnosis.verdict == "diverged"]
    if diverged:
        first = diverged[0]
        others = [point for point in diverged[1:] if point.learning_rate > first.learning_rate]
        verb = "does" if len(rates(others)) == 1 else "do"
        more = f"; so {verb} {_listed(others, points)}" if others else ""
        yield f"{first.learning_rate:g} is the first rate that diverges: {first.diagnosis.evidence}{more}."
    failed = [point for point in points if point.diagnosis.verdict in ("stalled", "oscillating")]
    for label in dict.fromkeys(point.diagnosis.label for point in failed):
        members = [point for point in points if point.diagnosis.label == label]
        first = members[0]
        where = "rates" if len(rates(members)) > 1 else "rate"
        at = f"at {first.learning_rate:g}: {first.diagnosis.evidence}"
        yield f"{label} at {where} {_listed(members, points)}; {at}."


def _costs(points: Sequence[Point]) -> Iterator[str]:
    """When the rates recorded a low loss first, where at least one did, and there are several."""
    if len(rates(points)) < max(len(points), 2):
        return
    reached = {
        point.learning_rate: point.diagnosis.values["epochs_to_low_loss"]
        for point in points
        if "epochs_to_low_loss" in point.diagnosis.values
    }
    if not reached:
        return
    fastest = min(reached, key=lambda rate: (reached[rate], -rate))
    parts = [f"{reached[fastest]:,.0f} at rate {fastest:g}"]
    for point in reversed(points):
        rate = point.learning_rate
        if rate < fastest and rate in reached:
            parts.append(f"{reached[rate]:,.0f} at {rate:g}")
        elif rate < fastest and point.diagnosis.verdict == "too slow":
            needed = point.diagnosis.values.get("epochs_needed")
            far = f"about {roughly(needed)} would be needed" if needed else "no end is in sight"
            parts.append(f"{far} at {rate:g}")
    if len(parts) > 1:
        yield f"a loss of {GOAL:.0%} of the baseline is first recorded at epoch {', '.join(parts)}."


def _beyond(points: Sequence[Point], best: Point | None) -> Iterator[str]:
    """Rates that are slow because they are too big, not too small."""
    if best is None:
        return
    rate = best.learning_rate
    slow = [point for point in points if point.diagnosis.verdict == "too slow" and point.learning_rate > rate]
    if slow:
        ends = "ends" if len(rates(slow)) == 1 else "end"
        yield f"{_listed(slow, points)} {ends} behind {rate:g} after as many epochs: too big a rate is slow too."


def _listed(some: Sequence[Point], points: Sequence[Point]) -> str:
    """The rates of some of the points, and how many of its points where a rate has more of them."""
    names = []
    for rate in dict.fromkeys(point.learning_rate for point in some):
        mine = sum(point.learning_rate == rate for point in some)
        whole = sum(point.learning_rate == rate for point in points)
        names.append(f"{rate:g}" if mine == whole else f"{rate:g} ({mine} of {whole})")
    return listed(names)
