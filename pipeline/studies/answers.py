"""What a sweep says about the learning rate and the hidden size, in sentences computed from its points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.diagnosis.networks import GOAL, GROWN
from pipeline.diagnosis.range_test import is_range_test, suggestion
from pipeline.diagnosis.verdicts import Diagnosis
from pipeline.drawing.plot_data import cell_metric, hidden_sizes, rates, with_size
from pipeline.points.point import Point
from pipeline.studies.curves.answers import curve_answers, curve_headline
from pipeline.studies.network_figures import METRIC_NAMES
from pipeline.studies.variants.table import comparison
from pipeline.studies.variants.variants import final_loss, knob
from pipeline.studies.width_transfer import parametrizations, transfer_sentences
from pipeline.system.wording import roughly

QUESTIONS = {
    "line_y2x": "Fit y = 2x with one weight and one bias: which rates reach 2, which run away?",
    "line_y3x": "Fit y = 3x from zero: smooth at 0.01, oscillating at 0.1, stuck at 1?",
    "two_bits": "Two weights and one sigmoid: what does the whole error surface look like, and the way down it?",
    "three_bits": "Seven rates, six orders of magnitude apart, and two hidden sizes: which rate ends lowest?",
    "thirteen_lines": "The 13-line network as it stands, rate 0.5 and four hidden units: where does it end?",
    "mnist": "A 784-1000-10 network under Adam at three rates: how smoothly does each learn, and how far?",
    "mnist_grid": "Does the best rate move with the hidden size?",
    "trainability_map": "A rate for each layer of the three-bit network: which pairs train it, and which do not?",
    "methods_three_bits": "Every method on the three-bit network: which rates can it use, how fast is it?",
    "methods_mnist": "Every method on MNIST: which rates can it use, how fast is it?",
    "features_mnist": "One feature of the network at a time, on MNIST: what does it do to the rates that train it?",
    "lr_range_test": "One run whose rate rises at every update: which rate does it suggest?",
    "lr_range_check": "Does the suggested rate train better than a tenth of it, and than ten times as much?",
    "width_transfer": "In which parametrization does the best rate stay where it is as a network grows?",
    "curve_divergence": "Balls in a bowl: at which rate does each step overshoot farther than the one before?",
    "curve_stuck": "A ball on a shelf that is almost flat: is it stuck, and does a larger rate free it?",
    "curve_local_minimum": "A ball in the higher of two minima: which rates, and which momentum, get it out?",
    "curve_restarts": "100 balls dropped at random on a curve with five minima: do they end in exactly these?",
    "curve_basins": "In which of five minima does a ball end, by rate and start, and what does momentum do to that?",
}
"""Each study's question, in the order of the report."""
PAGES = "studies"
"""The folder of the report that has a page for each study."""
VERIFIED = "lr_range_check"
"""The study of the rate that a range test suggests, with one smaller and one larger."""


Diagnosed = Sequence[tuple[Point, Diagnosis]]
"""Points by rising rate, each with its diagnosis."""


def answers(points: Sequence[Point]) -> Iterator[str]:
    """The sentences of one backend's points: best rates, rates too big, what rates too small cost.

    One point alone gets its diagnosis, and so does every map.
    """
    if len(points) > 1:
        for point in points:
            if point.config.grid is not None:
                yield f"`{point.name}`: {point.diagnosis.evidence}."
        points = [point for point in points if point.config.grid is None]
        if not points:
            return
    if points[0].config.balls is not None:
        yield from curve_answers(points)
        return
    if parametrizations(points):
        yield from transfer_sentences(points)
        return
    if knob(points) is not None:
        yield from comparison(points)
        return
    found = {point.name: point.diagnosis for point in points}
    if len(points) == 1:
        (alone,) = found.values()
        yield f"{alone.label}: {alone.evidence}."
        return
    best = best_points(points)
    yield from _verified(points)
    yield from _best(points, best)
    if len(rates(points)) > 1 and not any(map(_ran_away, found.values())):
        yield f"no rate up to {rates(points)[-1]:g} diverges."
    for size in hidden_sizes(points):
        members = [(point, found[point.name]) for point in with_size(points, size)]
        told = [*_failing(members), *_costs(members), *_beyond(members, best.get(size))]
        where = "" if size is None else f"hidden size {size}: "
        yield from (where + sentence for sentence in told)


def headline(points: Sequence[Point]) -> str:
    """The answer in a line: the best point, and which rates ended how; what there is to say of each map."""
    maps = [point for point in points if point.config.grid is not None]
    if maps:
        others = [point for point in points if point.config.grid is None]
        told = [point.diagnosis.evidence for point in maps]
        return "; ".join([*told, *([headline(others)] if others else [])])
    if points[0].config.balls is not None:
        return curve_headline(points)
    if is_range_test(points[0].config):
        return suggestion(points[0].history)
    if parametrizations(points):
        return " ".join(sentence[0].upper() + sentence[1:] for sentence in transfer_sentences(points))
    if knob(points) is not None:
        return " ".join(sentence[0].upper() + sentence[1:] for sentence in comparison(points))
    metric, sizes, best = cell_metric(points), hidden_sizes(points), best_point(points)
    labels: dict[str, dict[float, list[int | None]]] = {}
    for point in points:
        rate, size = point.learning_rate, point.hidden_size
        labels.setdefault(point.diagnosis.label, {}).setdefault(rate, []).append(size)
    parts = []
    if best is not None:
        size, value = best.hidden_size, best.outcome.final[metric]
        hidden = "" if size is None else f" with hidden size {size}"
        which = f"`{best.name}`" if _share_cells(points) else f"rate {best.learning_rate:g}{hidden}"
        parts.append(f"{'best: ' if len(points) > 1 else ''}{which}, {METRIC_NAMES[metric]} {value:.4g}")
    if len(points) == 1:
        return "; ".join([*parts, *labels])
    for label, members in sorted(labels.items(), key=lambda item: min(item[1])):
        listed = []
        for rate, at in sorted(members.items()):
            whole = sum(point.learning_rate == rate for point in points)
            if len(at) == whole and (_share_cells(points) or len(at) == len(sizes)):
                listed.append(f"{rate:g}")
            else:
                listed.append(
                    f"{rate:g} ({f'{len(at)} of {whole}' if _share_cells(points) else ', '.join(map(str, at))})"
                )
        parts.append(f"{label}: {', '.join(listed)}")
    return "; ".join(parts)


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
    metric, named = cell_metric(points), _share_cells(points)
    for size, point in best.items():
        which = f"point{'' if size is None else f' with hidden size {size}'} is `{point.name}`"
        if not named:
            which = f"rate{'' if size is None else f' for hidden size {size}'} is {point.learning_rate:g}"
        yield f"the best {which}, {METRIC_NAMES[metric]} {point.outcome.final[metric]:.4g}."
    if len(best) > 1 and not named:
        same = len({point.learning_rate for point in best.values()}) == 1
        yield f"the best rate {'is the same for every hidden size' if same else 'moves with the hidden size'}."


def _failing(found: Diagnosed) -> Iterator[str]:
    """The first rate that diverges, with its step, and which rates stall or oscillate."""
    diverged = [(point, diagnosis) for point, diagnosis in found if diagnosis.verdict == "diverged"]
    if diverged:
        point, first = diverged[0]
        others = [other for other, _ in diverged[1:] if other.learning_rate > point.learning_rate]
        verb = "does" if len({other.learning_rate for other in others}) == 1 else "do"
        more = f"; so {verb} {_listed(others, found)}" if others else ""
        yield f"{point.learning_rate:g} is the first rate that diverges: {first.evidence}{more}."
    for label in dict.fromkeys(d.label for _, d in found if d.verdict in ("stalled", "oscillating")):
        members = [(point, diagnosis) for point, diagnosis in found if diagnosis.label == label]
        point, first = members[0]
        several = len({one.learning_rate for one, _ in members}) > 1
        at = _listed([one for one, _ in members], found)
        yield f"{label} at rate{'s' if several else ''} {at}; at {point.learning_rate:g}: {first.evidence}."


def _costs(found: Diagnosed) -> Iterator[str]:
    """When the rates recorded a low loss first, where at least one did, and there are several."""
    if len({point.learning_rate for point, _ in found}) < max(len(found), 2):
        return
    reached = {p.learning_rate: d.values["epochs_to_low_loss"] for p, d in found if "epochs_to_low_loss" in d.values}
    if not reached:
        return
    fastest = min(reached, key=lambda rate: (reached[rate], -rate))
    parts = [f"{reached[fastest]:,.0f} at rate {fastest:g}"]
    for point, diagnosis in reversed(found):
        rate = point.learning_rate
        if rate < fastest and rate in reached:
            parts.append(f"{reached[rate]:,.0f} at {rate:g}")
        elif rate < fastest and diagnosis.verdict == "too slow":
            needed = diagnosis.values.get("epochs_needed")
            far = f"about {roughly(needed)} would be needed" if needed else "no end is in sight"
            parts.append(f"{far} at {rate:g}")
    if len(parts) > 1:
        yield f"a loss of {GOAL:.0%} of the baseline is first recorded at epoch {', '.join(parts)}."


def _beyond(found: Diagnosed, best: Point | None) -> Iterator[str]:
    """Rates that are slow because they are too big, not too small."""
    if best is None:
        return
    rate = best.learning_rate
    slow = [point for point, diagnosis in found if diagnosis.verdict == "too slow" and point.learning_rate > rate]
    if slow:
        ends = "ends" if len({point.learning_rate for point in slow}) == 1 else "end"
        yield f"{_listed(slow, found)} {ends} behind {rate:g} after as many epochs: too big a rate is slow too."


def _listed(points: Sequence[Point], found: Diagnosed) -> str:
    """The rates of points, and how many of its points where a rate has more of them."""
    names = []
    for rate in dict.fromkeys(point.learning_rate for point in points):
        mine = sum(one.learning_rate == rate for one in points)
        whole = sum(one.learning_rate == rate for one, _ in found)
        names.append(f"{rate:g}" if mine == whole else f"{rate:g} ({mine} of {whole})")
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
