"""Say what the loss does on the plane of each training (landscapes.py), and how much of the path the plane shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.points.point import Point
from pipeline.studies.explanations import Section
from pipeline.studies.landscape_picture import PLACES, drawn_points, loss_on_rows
from pipeline.studies.landscapes import plane_of
from pipeline.studies.networks import network_headline, network_sections, network_sentences
from pipeline.system.wording import table, three_digits

# The steps to both sides of the end, as multiples of the random direction.
ASIDE = 0.5
# Maximum number of trainings that have a sentence; the table has all that are drawn.
MOST_SAID = 3
UNSURE = (
    "Each network has a plane of its own, and one random direction: another direction, or another seed, has another "
    "picture. The axes are not of the same length: the horizontal one ends where the training ended. How much of the "
    "path is in the plane is a share of the squared distances of the snapshots from the start."
)


class Cut(NamedTuple):
    """What the plane of a training shows.

    Attributes:
        start: the loss at the start.
        end: the loss at the end.
        highest: the largest loss on the straight line between them, both included.
        highest_at: where it is, 0 to 1.
        aside: the mean loss `ASIDE` of the random direction to both sides of the end.
        share: how much of the squared distances of the path from the start is in the plane.
        rows: on how many training rows the losses were computed.
        of: the number of training rows.
    """

    start: float
    end: float
    highest: float
    highest_at: float
    aside: float
    share: float
    rows: int
    of: int


def cut_of(point: Point) -> Cut | None:
    """Return what the plane of a point shows; None if it has not moved, or its data is not prepared here."""
    plane = plane_of(point)
    loss = loss_on_rows(point, PLACES * PLACES)
    if plane is None or loss is None:
        return None
    way = np.linspace(0, 1, PLACES)
    places = np.stack([way, np.zeros(PLACES)], axis=1)
    losses = loss.on(plane, np.concatenate([places, [[1, -ASIDE], [1, ASIDE]]]))
    along = np.nan_to_num(losses[:PLACES], nan=np.inf)
    highest = int(np.argmax(along))
    with np.errstate(over="ignore"):
        aside = float(losses[PLACES:].mean())
    numbers = (float(along[0]), float(along[-1]), float(along[highest]), float(way[highest]))
    return Cut(*numbers, aside, plane.share, loss.rows, loss.of)


def landscape_sentences(points: Sequence[Point]) -> Iterator[str]:
    """Yield what the loss does from the start to the end of each training, then how training went."""
    for name, point in list(drawn_points(points).items())[:MOST_SAID]:
        cut = cut_of(point)
        if cut is not None:
            yield f"{name}: {_way(cut)}."
    yield from network_sentences(points)


def landscape_headline(points: Sequence[Point]) -> str:
    """Return a one-line summary: on how many of the straight lines the loss rises first, and how training went."""
    cuts = [cut for point in drawn_points(points).values() if (cut := cut_of(point)) is not None]
    barred = sum(_rises(cut) for cut in cuts)
    if not cuts:
        return network_headline(points)
    straight = f"on {barred} of {len(cuts)} straight lines from the start to the end the loss rises above both ends"
    return f"{straight}; {network_headline(points)}"


def landscape_sections(points: Sequence[Point]) -> list[Section]:
    """Return the table of the planes, and what it cannot say."""
    rows = [["network", "loss at the start", "at the end", "highest between them", "where",
             f"{ASIDE} of the direction aside of the end", "of the path in the plane"]]  # fmt: skip
    lines = []
    for name, point in drawn_points(points).items():
        cut = cut_of(point)
        if cut is None:
            rows.append([name, *[""] * (len(rows[0]) - 1)])
            lines.append(f"- {name}: the weights have not moved, or the data is not prepared here.")
            continue
        rows.append([name, *map(three_digits, (cut.start, cut.end, cut.highest)), f"{cut.highest_at:.0%} of the way",
                     three_digits(cut.aside), f"{cut.share:.0%}"])  # fmt: skip
        if cut.rows < cut.of:
            lines.append(f"- {name}: on the first {cut.rows:,} of {cut.of:,} training rows.")
    return [("The loss on each plane", [*table(rows), "", UNSURE, *lines]), *network_sections(points)]


def _rises(cut: Cut) -> bool:
    return cut.highest > max(cut.start, cut.end)


def _way(cut: Cut) -> str:
    """Say how the loss changes on the straight line, and how much of the path the plane shows."""
    change = f"from {three_digits(cut.start)} to {three_digits(cut.end)}"
    text = f"on the straight line from the start to the end the loss goes {change} and is nowhere higher"
    if _rises(cut):
        text = (
            f"on the straight line from the start to the end the loss rises to {three_digits(cut.highest)} at "
            f"{cut.highest_at:.0%} of the way, and goes {change} in all"
        )
    return f"{text}; {cut.share:.0%} of the path is in the plane"
