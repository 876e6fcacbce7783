"""What points whose data is a curve say, in sentences computed from where their balls ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.backends.numpy.curves.shape import Curve
from pipeline.diagnosis.curves import Ending, ending
from pipeline.points.point import Point
from pipeline.studies.curves.restarts import chance_of_all, countable, starts_needed

CHANCES = (0.5, 0.95, 0.99)


def curve_answers(points: Sequence[Point]) -> Iterator[str]:
    """The sentences of points on one curve: its minima, how each point ends, what rates too big and restarts do."""
    points = sorted(points, key=lambda point: (point.learning_rate, point.name))
    endings = [ending(point.config, point.history) for point in points]
    curve = endings[0].curve
    first = points[0]
    yield f"the curve has {_minima(curve)}."
    for point in points:
        found = point.diagnosis
        yield f"{_named(point, points)}: {found.label}: {found.evidence}."
    if first.config.optimizer.name == "sgd" and len(curve.minima):
        yield from _limit(points, endings)
    if first.config.balls is not None and first.config.balls.random is not None:
        yield from _restarts(endings[0])


def _minima(curve: Curve) -> str:
    if not len(curve.minima):
        return "no minimum"
    places = ", ".join(curve.place(x) for x in curve.minima)
    if len(curve.minima) == 1:
        return f"1 minimum, at x = {places}"
    return f"{len(curve.minima)} minima, at x = {places}; the lowest is at {curve.place(curve.minima[curve.deepest])}"


def curve_headline(points: Sequence[Point]) -> str:
    """The answer in a line: which points ended how."""
    if len(points) == 1:
        found = points[0].diagnosis
        return f"{found.label}: {found.evidence}"
    labels: dict[str, list[str]] = {}
    for point in sorted(points, key=lambda point: (point.learning_rate, point.name)):
        labels.setdefault(point.diagnosis.label, []).append(_short(point, points))
    return "; ".join(f"{label}: {', '.join(members)}" for label, members in labels.items())


def _short(point: Point, points: Sequence[Point]) -> str:
    """A point's rate, and what else tells it from the others."""
    rate = f"{point.learning_rate:g}"
    if len({other.learning_rate for other in points}) == len(points):
        return rate
    others = [part for part in point.name.split() if not part.startswith("learning_rate=")]
    return f"{rate} ({', '.join(others).replace('=', ' ')})" if others else rate


def _named(point: Point, points: Sequence[Point]) -> str:
    return f"rate {_short(point, points)}"


def _limit(points: Sequence[Point], endings: Sequence[Ending]) -> Iterator[str]:
    """What the curvature at the minima says of the rates, and what was seen."""
    curve = endings[0].curve
    curvature = float(curve.curvatures().max())
    if not curvature > 0:
        return
    limit = 2 / curvature
    where = "the minimum" if len(curve.minima) == 1 else "the narrowest minimum"
    yield (
        f"the curvature at {where} is {curvature:.3g}: a "
        f"step there overshoots farther than it came from where the rate is above 2 / {curvature:.3g} = {limit:.3g}."
    )
    for point, found in zip(points, endings, strict=True):
        out = np.abs(np.stack([found.start, found.end]) - curve.minima[0])
        if found.counts.get("diverged") == len(found.start) and len(curve.minima) == 1 and out[0].all():
            growth = float(np.median((out[1] / out[0]) ** (1 / found.updates)))
            yield f"{_named(point, points)}: each step ends {growth:.3g} times as far out as the one before."


def _restarts(found: Ending) -> Iterator[str]:
    """Whether random starts found exactly the minima, and how many it takes."""
    curve = found.curve
    balls = len(found.start)
    rest = int((found.minimum >= 0).sum())
    if rest == balls and len(found.found) == len(curve.minima):
        yield f"the {balls} random starts end in exactly the {len(curve.minima)} minima of the curve, and nowhere else."
    else:
        yield (
            f"of the {balls} random starts {rest} end in a minimum, and {len(found.found)} of the curve's "
            f"{len(curve.minima)} minima are found."
        )
    shares = curve.shares()
    told = [f"{share:.1%} ({int((found.minimum == place).sum())} balls)" for place, share in enumerate(shares)]
    yield f"from left to right the valleys take these shares of the starting places: {', '.join(told)}."
    if not countable(shares):
        return
    needed = [f"{starts_needed(shares, chance)} for {chance:.0%}" for chance in CHANCES]
    yield (
        f"if every ball stays in its valley, {len(shares)} starts find all minima with a probability of "
        f"{chance_of_all(shares, len(shares)):.1%}; it takes {', '.join(needed)}."
    )


def varied(points: Sequence[Point]) -> list[str]:
    """What each point is called in a picture: its rate, and what else varies."""
    return [_named(point, points) for point in points]
