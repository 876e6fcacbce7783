"""Text summaries of curve studies, computed from the final positions of the balls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.backends.numpy.curves.shape import Curve
from pipeline.diagnosis.curves import Ending, ending
from pipeline.points.point import Point
from pipeline.studies.curves.restarts import chance_of_all, countable, starts_needed

# Probabilities for which the number of random starts is reported.
CHANCES = (0.5, 0.95, 0.99)


def curve_answers(points: Sequence[Point]) -> Iterator[str]:
    """Yield the minima of the curve, the final state of each point, and the effect of large rates and random starts."""
    points = sorted(points, key=lambda point: (point.learning_rate, point.name))
    endings = [ending(point.config, point.history) for point in points]
    curve = endings[0].curve
    first = points[0]
    yield f"the curve has {_minima(curve)}."
    for point, name in zip(points, point_labels(points), strict=True):
        yield f"{name}: {point.diagnosis.label}: {point.diagnosis.evidence}."
    # The limit 2 / curvature is valid for plain gradient descent, without momentum.
    if first.config.optimizer.name == "sgd" and len(curve.minima):
        yield from _limit(points, endings)
    if first.config.balls is not None and first.config.balls.random is not None:
        yield from _restarts(endings[0])


def curve_headline(points: Sequence[Point]) -> str:
    """Return a one-line summary: the diagnosis of each point."""
    if len(points) == 1:
        found = points[0].diagnosis
        return f"{found.label}: {found.evidence}"
    labels: dict[str, list[str]] = {}
    for point in sorted(points, key=lambda point: (point.learning_rate, point.name)):
        labels.setdefault(point.diagnosis.label, []).append(_short(point, points))
    return "; ".join(f"{label}: {', '.join(members)}" for label, members in labels.items())


def point_labels(points: Sequence[Point]) -> list[str]:
    """Return a label for each point: its rate, and any other setting that distinguishes it."""
    return [f"rate {_short(point, points)}" for point in points]


def _short(point: Point, points: Sequence[Point]) -> str:
    """Return a point's rate; if rates are shared, also the other settings in the point's name."""
    rate = f"{point.learning_rate:g}"
    others = [part for part in point.name.split() if not part.startswith("learning_rate=")]
    distinct = len({other.learning_rate for other in points}) == len(points)
    if distinct or not others:
        return rate
    return f"{rate} ({', '.join(others).replace('=', ' ')})"


def _minima(curve: Curve) -> str:
    """List the minima of a curve."""
    if not len(curve.minima):
        return "no minimum"
    positions = ", ".join(curve.label(x) for x in curve.minima)
    if len(curve.minima) == 1:
        return f"1 minimum, at x = {positions}"
    return (
        f"{len(curve.minima)} minima, at x = {positions}; the lowest is at {curve.label(curve.minima[curve.deepest])}"
    )


def _limit(points: Sequence[Point], endings: Sequence[Ending]) -> Iterator[str]:
    """Yield the stability limit implied by the curvature at the minima, and the growth of diverging balls."""
    curve = endings[0].curve
    curvature = float(curve.curvatures().max())
    # At a flat minimum, such as that of x^4, there is no limit.
    if not curvature > 0:
        return
    # Near a minimum the slope is curvature * distance. A step of rate * slope that is longer than twice the distance
    # lands farther away on the other side: rate * curvature > 2.
    limit = 2 / curvature
    minimum = "the minimum" if len(curve.minima) == 1 else "the narrowest minimum"
    yield (
        f"the curvature at {minimum} is {curvature:.3g}: rates above 2 / {curvature:.3g} = {limit:.3g} diverge there, "
        "because each step lands farther from the minimum than it started."
    )
    # With several minima a ball may have jumped between them, and its growth would be meaningless.
    if len(curve.minima) > 1:
        return
    for name, found in zip(point_labels(points), endings, strict=True):
        distances = np.abs(np.stack([found.start, found.end]) - curve.minima[0])
        all_diverged = found.counts.get("diverged") == len(found.start)
        # A ball that starts at the minimum does not move, and its growth would be 0 / 0.
        if all_diverged and distances[0].all():
            growth = float(np.median((distances[1] / distances[0]) ** (1 / found.updates)))
            yield f"{name}: each step lands {growth:.3g} times as far from the minimum as the previous one."


def _restarts(found: Ending) -> Iterator[str]:
    """Yield whether the random starts found exactly all minima, and the number of starts that needs."""
    curve = found.curve
    balls = len(found.start)
    settled = int((found.minimum >= 0).sum())
    if settled == balls and len(found.found) == len(curve.minima):
        yield f"the {balls} random starts all end in the curve's {len(curve.minima)} minima, and each minimum is found."
    else:
        yield (
            f"{settled} of the {balls} random starts end in a minimum, and {len(found.found)} of the curve's "
            f"{len(curve.minima)} minima are found."
        )
    shares = curve.shares()
    valleys = [f"{share:.1%} ({_balls(int((found.minimum == index).sum()))})" for index, share in enumerate(shares)]
    yield f"from left to right, the valleys cover these shares of the starting range: {', '.join(valleys)}."
    if not countable(shares):
        return
    needed = [f"{starts_needed(shares, chance)} for {chance:.0%}" for chance in CHANCES]
    yield (
        f"if every ball stays in its valley, {len(shares)} starts find all minima with a probability of "
        f"{chance_of_all(shares, len(shares)):.1%}; the number of starts needed is {', '.join(needed)}."
    )


def _balls(count: int) -> str:
    if count == 1:
        return "1 ball"
    return f"{count} balls"
