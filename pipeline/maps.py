"""What maps say: a sentence and some numbers for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.points.point import Point


def map_sentences(points: Sequence[Point]) -> Iterator[str]:
    """How many points of each map converge, and which is the best."""
    for point in points:
        named = "map" if len(points) == 1 else f"`{point.name}`"
        yield f"{named}: {point.diagnosis.evidence}."


def map_headline(points: Sequence[Point]) -> str:
    """The same in a line."""
    return "; ".join(point.diagnosis.evidence for point in points)


def map_numbers(points: Sequence[Point]) -> dict[str, float]:
    """What the first map comes to, by metric."""
    return {name: value for name, value in points[0].outcome.final.items() if name.startswith("map/")}
