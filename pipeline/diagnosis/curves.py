"""Diagnose balls on a curve: settled, trapped in a local minimum, stuck, oscillating or diverged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
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
# Verdict and cause of a point, by the most frequent outcome of its balls. Balls that settled but all missed the lowest
# minimum count as stalled in a local one.
VERDICTS: dict[str, tuple[Verdict, str]] = {
    "settled": ("converged", ""),
    "moving": ("too slow", "still moving"),
    "stuck": ("too slow", "slope too shallow"),
    "swinging": ("oscillating", "back and forth"),
    "diverged": ("diverged", ""),
}
# The words for an outcome in the evidence. Settled and diverged balls have sentences of their own.
STATES = {
    "moving": "still moving",
    "stuck": "stuck on a slope too shallow for the rate",
    "swinging": "oscillating back and forth",
}


@dataclass(frozen=True)
class Ending:
    """The final state of a point's balls.

    Attributes:
        curve: the curve that they roll on.
        start, end: (balls,) positions.
        outcome: (balls,) indices into `rolling.OUTCOMES`.
        minimum: (balls,) index, from the left, of the minimum in which each ball settled; -1 if it did not settle.
        updates: (balls,) number of updates until the ball settled or diverged; otherwise the total number.
    """

    curve: Curve
    start: Floats
    end: Floats
    outcome: NDArray[np.intp]
    minimum: NDArray[np.intp]
    updates: NDArray[np.intp]

    @property
    def counts(self) -> dict[str, int]:
        """Number of balls by outcome, the most frequent outcome first."""
        names = Counter(OUTCOMES[index] for index in self.outcome.tolist())
        # The sort is stable: if two outcomes are equally frequent, the outcome of the earlier ball comes first.
        return dict(sorted(names.items(), key=lambda item: -item[1]))

    @property
    def found(self) -> NDArray[np.intp]:
        """Indices of the minima in which at least one ball settled, ascending."""
        return np.unique(self.minimum[self.minimum >= 0])

    @property
    def crossed(self) -> int:
        """Number of balls that settled in a different valley from the one they started in."""
        return int(((self.minimum >= 0) & (self.minimum != self.curve.valley(self.start))).sum())


def ending(config: Config, history: History) -> Ending:
    """Read the final state of a trained point's balls."""
    rows = history.tables.get("balls", [])
    columns: dict[str, Any] = {
        name: np.array([row[name] for row in rows], dtype)
        for name, dtype in (
            ("start", np.float64), ("end", np.float64), ("outcome", np.intp), ("minimum", np.intp), ("updates", np.intp)
        )
    }  # fmt: skip
    return Ending(curve_of(curve_data(config)), **columns)


def diagnose_balls(config: Config, history: History) -> Diagnosis:
    """Diagnose a point with balls; the most frequent outcome decides the verdict."""
    found = ending(config, history)
    balls = len(found.start)
    counts = found.counts
    if not balls:
        return Diagnosis("too slow", "", "no ball has reached the end of its run")
    values = {f"{name}_share": counts.get(name, 0) / balls for name in OUTCOMES}
    values |= {"minima_found": float(len(found.found)), "crossed_share": found.crossed / balls}
    most = next(iter(counts))
    verdict, cause = VERDICTS[most]
    if most == "settled" and found.curve.deepest not in found.found:
        verdict = "stalled"
        cause = "local minimum"
    describe = _one_ball
    if balls > 1:
        describe = _several_balls
    return Diagnosis(verdict, cause, "; ".join(describe(found)), values)


def diagnose_basins(config: Config, history: History) -> Diagnosis:
    """Report the number of minima in which the balls of a map settle, and the share that leave their starting valley.

    Raises:
        ValueError: the config has no grid.
    """
    return Diagnosis("map", "", _basins(config, map_axes(config), history))


def _one_ball(found: Ending) -> Iterator[str]:
    """Describe the final state of a single ball."""
    curve = found.curve
    position = curve.label(found.end[0])
    last = int(found.updates[0])
    [outcome] = found.counts
    if outcome == "settled":
        yield f"the ball settled at x = {position} after update {last:,}"
        yield from _one_minimum(found)
    elif outcome == "diverged":
        yield f"the ball diverged at update {last:,}"
    else:
        yield f"the ball is {STATES[outcome]} at x = {position} after {last:,} updates"


def _one_minimum(found: Ending) -> Iterator[str]:
    """Compare the minimum in which a single ball settled with the lowest one; nothing if the curve has only one."""
    curve = found.curve
    if len(curve.minima) < 2:
        return
    if found.minimum[0] == curve.deepest:
        yield "the lowest minimum"
    else:
        yield f"a local minimum; the lowest is at x = {curve.label(curve.minima[curve.deepest])}"
    if found.crossed:
        yield "it left its starting valley"


def _several_balls(found: Ending) -> Iterator[str]:
    """Describe the final states of several balls, by outcome."""
    balls = len(found.start)
    curve = found.curve
    for outcome, count in found.counts.items():
        some = f"{count} of {balls} balls"
        last = int(found.updates[found.outcome == OUTCOMES.index(outcome)].max())
        if outcome == "settled":
            yield f"{some} settled {_minima(found)} by update {last:,}"
        elif outcome == "diverged":
            yield f"{some} diverged by update {last:,}"
        elif count == 1:
            yield f"{some} is {STATES[outcome]} after {last:,} updates"
        else:
            yield f"{some} are {STATES[outcome]} after {last:,} updates"
    if (found.outcome == SETTLED).any() and len(curve.minima) > 1:
        lowest = int((found.minimum == curve.deepest).sum())
        yield f"{lowest} of them in the lowest minimum, x = {curve.label(curve.minima[curve.deepest])}"
        if found.crossed:
            yield f"{found.crossed} of {balls} balls left their starting valley"


def _minima(found: Ending) -> str:
    """Name the minimum in which the balls settled, or the number of minima if there are several."""
    if len(found.found) == 1:
        settled = found.outcome == SETTLED
        return f"at x = {found.curve.label(found.end[settled][0])}"
    if len(found.found) == len(found.curve.minima):
        return f"in all {len(found.found)} minima of the curve"
    return f"in {len(found.found)} minima of the curve"


def _basins(config: Config, axes: GridAxes, history: History) -> str:
    """Describe where the balls of a map end."""
    values = basin_metrics(history.map_arrays)
    curve = curve_of(curve_data(config))
    if "map/converged_share" not in values:
        return "no ball has reached the end of its run"
    arrays = history.map_arrays
    # One of the axes holds the starting positions. The arrays of a map are (y, x), so starts on y are a column.
    starts = arrays["x"]
    if axes.y.knob == "balls.start":
        starts = arrays["y"][:, None]
    crossed = float(np.mean((arrays["minimum"] >= 0) & (arrays["minimum"] != curve.valley(starts))))
    return (
        f"{values['map/converged_share']:.1%} of {values['map/points']:,.0f} balls settle, in "
        f"{values['map/minima_found']:.0f} of the {len(curve.minima)} minima; "
        f"{values['map/diverged_share']:.1%} diverge; "
        f"{crossed:.1%} settle in a different valley from the one they started in"
    )
