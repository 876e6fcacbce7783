"""Text summaries of curve studies, computed from the final positions of the balls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.backends.numpy.curves.shape import Curve
from pipeline.diagnosis.curves import Ending, ending
from pipeline.points.point import Point
from pipeline.studies.curves.restarts import chance_of_all, countable, starts_needed
from pipeline.studies.knobs import layout
from pipeline.studies.verdict_sentences import evidence_sentences, verdict_sentence
from pipeline.system.wording import listed

# Probabilities for which the number of random starts is reported.
CHANCES = (0.5, 0.95, 0.99)
# The verdicts whose evidence is told; how fast balls move away that diverge is told apart.
TOLD = ("stalled", "oscillating", "too slow", "converged")


def curve_answers(points: Sequence[Point]) -> Iterator[str]:
    """Yield the minima of the curve, the final state of each point, and the effect of large rates and random starts."""
    points = sorted(points, key=lambda point: (point.learning_rate, point.name))
    endings = [ending(point.config, point.history) for point in points]
    first = points[0]
    # The limit 2 / curvature is valid for plain gradient descent, without momentum.
    limited = first.config.optimizer.name == "sgd"
    limits: list[str] = []
    if limited:
        limits += _limit(endings[0].curve)
    yield "; ".join([f"the curve has {_minima(endings[0].curve)}", *limits]) + "."
    if len(points) == 1:
        yield f"{point_labels(points)[0]}: {first.diagnosis}."
    else:
        yield f"{verdict_sentence(points, layout(points))}."
    # Before the evidence, because only the first few sentences are shown (`kinds.answers`).
    if first.config.balls is not None and first.config.balls.random is not None:
        yield from _restarts(endings[0])
    if len(points) > 1:
        yield from evidence_sentences(points, layout(points), told=TOLD)
    if limited:
        yield from _growth(points, endings)


def curve_headline(points: Sequence[Point]) -> str:
    """Return a one-line summary: how the balls end at each rate."""
    if len(points) == 1:
        return str(points[0].diagnosis)
    return verdict_sentence(points, layout(points))


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


def _limit(curve: Curve) -> Iterator[str]:
    """Yield the stability limit implied by the curvature at the minima, if there is one."""
    # At a flat minimum, such as that of x^4, there is no limit.
    curvature = 0.0
    if len(curve.minima):
        curvature = float(curve.curvatures().max())
    if not curvature > 0:
        return
    # Near a minimum the slope is curvature * distance. A step of rate * slope that is longer than twice the distance
    # lands farther away on the other side: rate * curvature > 2.
    limit = 2 / curvature
    minimum = "the minimum"
    if len(curve.minima) > 1:
        minimum = "the narrowest minimum"
    yield (
        f"the curvature at {minimum} is {curvature:.3g}: rates above 2 / {curvature:.3g} = {limit:.3g} diverge there, "
        "because each step lands farther from the minimum than it started"
    )


def _growth(points: Sequence[Point], endings: Sequence[Ending]) -> Iterator[str]:
    """Yield how fast the balls move away that diverge."""
    curve = endings[0].curve
    # With several minima a ball may have jumped between them, and its growth would be meaningless.
    if len(curve.minima) != 1 or not list(_limit(curve)):
        return
    grown = []
    for point, found in zip(points, endings, strict=True):
        distances = np.abs(np.stack([found.start, found.end]) - curve.minima[0])
        all_diverged = found.counts.get("diverged") == len(found.start)
        # A ball that starts at the minimum does not move, and its growth would be 0 / 0.
        if all_diverged and distances[0].all():
            growth = float(np.median((distances[1] / distances[0]) ** (1 / found.updates)))
            grown.append(f"{growth:.3g} times at rate {_short(point, points)}")
    if grown:
        yield f"each step lands farther from the minimum than the one before: {listed(grown)}."


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
