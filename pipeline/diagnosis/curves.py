"""How balls on a curve ended, and what that is called: settled, held by a local minimum, stuck, swinging, diverged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.curves.basins import basin_metrics
from pipeline.backends.numpy.curves.descent import curve_data
from pipeline.backends.numpy.curves.rolling import OUTCOMES, SETTLED
from pipeline.backends.numpy.curves.shape import Curve, curve_of
from pipeline.backends.numpy.maps.rate_map import map_axes
from pipeline.backends.shared.history import History
from pipeline.config.map_axes import GridAxes
from pipeline.config.schema import Config
from pipeline.diagnosis.verdicts import Diagnosis, Verdict

Floats = NDArray[np.float64]
VERDICTS: dict[str, tuple[Verdict, str]] = {
    "settled": ("converged", ""),
    "moving": ("too slow", "still moving"),
    "stuck": ("too slow", "stuck on a slope"),
    "swinging": ("oscillating", "to and fro"),
    "diverged": ("diverged", ""),
}
"""What a point is called whose balls end so; where the lowest minimum was not found, settled balls have stalled."""
SAID = {
    "moving": "still moving",
    "stuck": "stuck on a slope too small for the rate",
    "swinging": "swinging to and fro",
    "diverged": "diverged",
}


@dataclass(frozen=True)
class Ending:
    """How the balls of a point ended.

    Attributes:
        curve: what they rolled on.
        start, end: (balls,) places.
        outcome: (balls,) places in `rolling.OUTCOMES`.
        minimum: (balls,) in which minimum each rests, from the left; -1: in none.
        updates: (balls,) after how many it settled or diverged, else how many there were.
    """

    curve: Curve
    start: Floats
    end: Floats
    outcome: NDArray[np.intp]
    minimum: NDArray[np.intp]
    updates: NDArray[np.intp]

    @property
    def counts(self) -> dict[str, int]:
        """How many balls ended how, the most frequent outcome first."""
        names = Counter(OUTCOMES[place] for place in self.outcome.tolist())
        return dict(sorted(names.items(), key=lambda item: -item[1]))

    @property
    def found(self) -> NDArray[np.intp]:
        """The minima in which a ball rests, ascending."""
        return np.unique(self.minimum[self.minimum >= 0])

    @property
    def crossed(self) -> int:
        """How many balls settled in another valley than the one they started in."""
        return int(((self.minimum >= 0) & (self.minimum != self.curve.valley(self.start))).sum())


def ending(config: Config, history: History) -> Ending:
    """How the balls of a trained point ended."""
    rows = history.tables.get("balls", [])
    columns: dict[str, Any] = {
        name: np.array([row[name] for row in rows], dtype)
        for name, dtype in (
            ("start", np.float64), ("end", np.float64), ("outcome", np.intp), ("minimum", np.intp), ("updates", np.intp)
        )
    }  # fmt: skip
    return Ending(curve_of(curve_data(config)), **columns)


def diagnose_balls(config: Config, history: History) -> Diagnosis:
    """How the balls of a point ended: the verdict is that of most of them."""
    found = ending(config, history)
    balls = len(found.start)
    counts = found.counts
    if not balls:
        return Diagnosis("too slow", "", "no ball has rolled to its end")
    values = {f"{name}_share": counts.get(name, 0) / balls for name in OUTCOMES}
    values |= {"minima_found": float(len(found.found)), "crossed_share": found.crossed / balls}
    most = next(iter(counts))
    verdict, cause = VERDICTS[most]
    if most == "settled" and found.curve.deepest not in found.found:
        verdict, cause = "stalled", "local minimum"
    return Diagnosis(verdict, cause, "; ".join(_told(found)), values)


def diagnose_basins(config: Config, history: History) -> Diagnosis:
    """In how many minima the balls of a map settle, and how many leave the valley of their start.

    Raises:
        ValueError: the config has no grid.
    """
    return Diagnosis("map", "", _basins(config, map_axes(config), history))


def _told(found: Ending) -> list[str]:
    balls = len(found.start)
    several = balls > 1
    parts = []
    for name, count in found.counts.items():
        who = f"{count} of {balls} balls" if several else "the ball"
        members = found.outcome == OUTCOMES.index(name)
        last = int(found.updates[members].max())
        if name == "settled":
            every = "all " if len(found.found) == len(found.curve.minima) else ""
            where = f"in {every}{len(found.found)} minima of the curve"
            if len(found.found) == 1:
                where = f"at x = {found.curve.label(found.end[members][0])}"
            when = "by" if several else "after"
            parts.append(f"{who} settled {where} {when} update {last:,}")
        elif name == "diverged":
            when = "by" if several else "at"
            parts.append(f"{who} diverged {when} update {last:,}")
        else:
            verb = "are" if count > 1 else "is"
            at = "" if several else f" at x = {found.curve.label(found.end[members][0])}"
            parts.append(f"{who} {verb} {SAID[name]}{at} after {last:,} updates")
    curve = found.curve
    if (found.outcome == SETTLED).any() and len(curve.minima) > 1:
        lowest = int((found.minimum == curve.deepest).sum())
        if several:
            parts.append(f"{lowest} of them in the lowest minimum, x = {curve.label(curve.minima[curve.deepest])}")
        else:
            at = curve.label(curve.minima[curve.deepest])
            parts.append("the lowest minimum" if lowest else f"a local minimum; the lowest is at x = {at}")
        if found.crossed:
            verb = f"{found.crossed} of {balls} balls" if several else "it"
            parts.append(f"{verb} left the valley of the start")
    return parts


def _basins(config: Config, axes: GridAxes, history: History) -> str:
    values = basin_metrics(history.map_arrays)
    curve = curve_of(curve_data(config))
    if "map/converged_share" not in values:
        return "no ball has rolled to its end"
    arrays = history.map_arrays
    own = curve.valley(arrays["y"])[:, None] if axes.y.knob == "balls.start" else curve.valley(arrays["x"])
    crossed = float(np.mean((arrays["minimum"] >= 0) & (arrays["minimum"] != own)))
    return (
        f"{values['map/converged_share']:.1%} of {values['map/points']:,.0f} balls settle, in "
        f"{values['map/minima_found']:.0f} of the {len(curve.minima)} minima; "
        f"{values['map/diverged_share']:.1%} diverge; {crossed:.1%} settle in another valley than that of their start"
    )
