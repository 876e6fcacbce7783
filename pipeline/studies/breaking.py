"""Where the networks of a study break: predicted from the curvature at the start, and seen in training.

A network breaks at a rate if a recorded loss is more than 1 % above its start. Where training was not looked at
for its own sake (`breaking_rate=true`), this lies between two rates of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from pipeline.diagnosis.start import loss_rose
from pipeline.diagnosis.verdicts import TOO_BIG
from pipeline.points.breaking_rates import BreakingRate, Key, key_of, network_of, training_of
from pipeline.points.point import Point
from pipeline.studies.explanations import Section
from pipeline.studies.knobs import RATE, layout
from pipeline.system.wording import counted, short, table, three_digits

HEADING = "breaks at (predicted, seen)"
# In the place of a name.
ONLY = "the only one"
# Maximum number of networks with a sentence of their own.
MOST_TOLD = 3


@dataclass(frozen=True)
class Network:
    """The points that differ in nothing but the rate and the seed, with the rates at which they break.

    Attributes:
        name: the settings that tell it from the other networks of the study; empty for the only one.
        points: its points.
        found: what was predicted and seen, one for each seed that was looked at; at least one.
    """

    name: str
    points: tuple[Point, ...]
    found: tuple[BreakingRate, ...]

    @property
    def predicted(self) -> float | None:
        """The median over the seeds of the predicted rate; None if there is none."""
        rates = [one.predicted for one in self.found if one.predicted is not None]
        if not rates:
            return None
        return median(rates)

    @property
    def holds(self) -> float | None:
        """The largest rate below `breaks` that was trained; None if there is none."""
        return max((rate for rate in self._rates() if self.breaks is None or rate < self.breaks), default=None)

    @property
    def breaks(self) -> float | None:
        """The smallest rate of the grid at which the loss of a seed rose above its start; None if it never did."""
        return min((point.learning_rate for point in self.points if loss_rose(point.history)), default=None)

    @property
    def fails(self) -> float | None:
        """The rate from which on most seeds fail, whatever the reason; None if they train at the largest rate."""
        start = None
        for rate in sorted(self._rates(), reverse=True):
            failed = [_failed(point) for point in self.points if point.learning_rate == rate]
            if 2 * sum(failed) <= len(failed):
                break
            start = rate
        return start

    @property
    def bisected(self) -> float | None:
        """The median over the seeds of the rate that bisection found; None if there is none."""
        return _bisected(self.found)

    @property
    def seen(self) -> float | None:
        """The rate at which it breaks: from bisection, else the geometric mean of the rates around; None if unknown."""
        if self.bisected is not None:
            return self.bisected
        if self.holds is None or self.breaks is None:
            return None
        return math.sqrt(self.holds) * math.sqrt(self.breaks)

    @property
    def is_inside(self) -> bool:
        """Whether the prediction lies between a rate of the grid at which training holds and one at which it breaks."""
        if self.predicted is None or self.holds is None or self.breaks is None:
            return False
        return self.holds < self.predicted <= self.breaks

    @property
    def never_broke(self) -> bool:
        """Whether no rate was found at which its loss rises."""
        return self.bisected is None and self.breaks is None

    @property
    def always_broke(self) -> bool:
        """Whether no rate was found at which its loss does not rise."""
        return self.bisected is None and self.holds is None

    @property
    def seen_text(self) -> str:
        """The rate that bisection found, or the largest that it tried, or the two of the grid that it lies between."""
        if self.bisected is not None:
            return short(self.bisected)
        tried = [one.holds for one in self.found if one.holds is not None]
        if self.breaks is None and tried:
            return f"none up to {max(tried):.1g}"
        if self.breaks is None:
            return f"above {self.holds:g}"
        if self.holds is None:
            return f"below {self.breaks:g}"
        return f"{self.holds:g} to {self.breaks:g}"

    @property
    def text(self) -> str:
        """Predicted and seen, for a cell of a table."""
        rates = [one.predicted for one in self.found if one.predicted is not None]
        if not rates:
            return f"no prediction, {self.seen_text}"
        return f"{median_text(rates)}, {self.seen_text}"

    def _rates(self) -> set[float]:
        return {point.learning_rate for point in self.points}


def _failed(point: Point) -> bool:
    """Whether training got nowhere, or its rate is too large."""
    return point.diagnosis.verdict == "stalled" or point.diagnosis.problem == TOO_BIG


def with_breaking_rates(points: Sequence[Point], found: Mapping[Key, BreakingRate]) -> list[Point]:
    """Return points with what was predicted for their networks; of a seed that was not looked at, nothing is known."""
    if not found:
        return list(points)
    return [replace(point, breaking_rate=_own(point, found)) for point in points]


def _own(point: Point, found: Mapping[Key, BreakingRate]) -> BreakingRate | None:
    one = found.get(key_of(point.config))
    if one is None or one.training in ("", training_of(point.config)):
        return one
    # The prediction is also that of the other backend, and of a longer training; what was seen is not.
    return one.unseen


def networks(points: Sequence[Point]) -> list[Network]:
    """Return the networks of a study on one backend for which something was predicted."""
    if all(point.breaking_rate is None for point in points):
        return []
    apart = [knob for knob in layout(points).knobs if knob.key != RATE]
    by_network: dict[str, list[Point]] = {}
    for point in points:
        # The rate of a range test rises through all rates.
        if point.config.kind == "network":
            by_network.setdefault(network_of(point.config), []).append(point)
    found = []
    for members in by_network.values():
        rates = {one.key: one for point in members if (one := point.breaking_rate) is not None}
        if rates:
            name = " and ".join(knob.said(knob.of(members[0])) for knob in apart)
            found.append(Network(name, tuple(members), tuple(rates.values())))
    return found


def breaking_sentences(points: Sequence[Point]) -> Iterator[str]:
    """Yield where each of a few networks breaks, predicted and seen, or of many how far the prediction is off."""
    known = [network for network in networks(points) if network.predicted is not None]
    if len(known) <= MOST_TOLD:
        yield from map(_told, known)
        return
    inside = sum(network.is_inside for network in known)
    said = f"where training breaks was predicted for {len(known)} networks, for {inside} of them between the rates seen"
    ratios = sorted(network.seen / network.predicted for network in known if network.seen and network.predicted)
    if ratios:
        said += (
            f"; the rate seen is {short(median(ratios))} times the predicted one, the median of {len(ratios)} "
            f"(from {short(ratios[0])} to {short(ratios[-1])})"
        )
    held = sum(network.never_broke for network in known)
    if held:
        said += f"; {counted(held, 'network')} broke at no rate of the grid"
    broke = sum(network.always_broke for network in known)
    if broke:
        said += f"; {counted(broke, 'network')} broke at each"
    yield f"{said}."


def _told(network: Network) -> str:
    """Say where one network breaks."""
    said = f"predicted to break at {short(network.predicted or math.nan)}"
    if network.name:
        said = f"{network.name} is {said}"
    if network.bisected is not None:
        said += f", seen at {short(network.bisected)}"
    if network.holds is not None:
        said += f"; at {network.holds:g} the loss stays at or below its start"
    if network.breaks is not None:
        said += f"; at {network.breaks:g} the loss rises above its start"
    else:
        said += ", and no larger rate was tried"
    if network.fails is not None and network.fails != network.breaks:
        said += f"; training fails from {network.fails:g} on"
    return f"{said}."


def breaking_section(points: Sequence[Point]) -> list[Section]:
    """Return the table of the networks of a study, if something was predicted for them."""
    found = networks(points)
    if not found:
        return []
    rows = [["network", "curvature L", HEADING, "training fails from"]]
    rows += [[one.name or ONLY, curvature_text(one), one.text, fails_text(one)] for one in found]
    reasons = [f"No prediction: {one.unclear}." for network in found for one in network.found if one.unclear]
    lines = [
        "The predicted rate follows from the curvature of the loss at the initial weights "
        "(`docs/curvature.md`). Training breaks where a recorded loss is more than 1 % above its start; it may "
        "recover, and fail at larger rates only. With minibatches that is the loss of validation or test rows after "
        "an epoch, so that nothing is seen of what rises and falls within one.",
        "",
        *table(rows),
    ]
    if reasons:
        lines += ["", *dict.fromkeys(reasons)]
    return [("Where it breaks", lines)]


def curvature_text(network: Network) -> str:
    """Return the median over the seeds of the curvature, for a cell of a table; empty if it is unknown."""
    known = [one.curvature for one in network.found if one.curvature is not None]
    if not known:
        return ""
    return median_text(known)


def fails_text(network: Network) -> str:
    """Return the rate from which on training fails, for a cell of a table."""
    if network.fails is None:
        return "no rate of the grid"
    return f"{network.fails:g}"


def breaking_cells(points: Sequence[Point]) -> dict[str, str]:
    """Return the text of a table's cell, predicted and seen, by `network_of`."""
    return {network_of(network.points[0].config): network.text for network in networks(points)}


def median_text(values: Sequence[float]) -> str:
    """Return a value with four digits, or of several different ones the median, the smallest and the largest."""
    if min(values) == max(values):
        return short(values[0])
    smallest, middle, largest = map(three_digits, (min(values), median(values), max(values)))
    return f"{middle} ({smallest} to {largest})"


def _bisected(found: Sequence[BreakingRate]) -> float | None:
    rates = [
        math.sqrt(one.holds) * math.sqrt(one.breaks)
        for one in found
        if one.holds is not None and one.breaks is not None
    ]
    if not rates:
        return None
    return median(rates)


def bisected_text(found: Sequence[BreakingRate]) -> str:
    """Return the rate that bisection found, for a cell of a table; `not found` if no rate broke, or all did."""
    rate = _bisected(found)
    if rate is None:
        return "not found"
    return short(rate)
