"""The short names and the colours by which a person tells the points of a sweep apart in MLflow's list of runs.

They are labels only: a run is found by the signature of its point. The full name is in the tag `POINT_NAME`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.schema import Config
from pipeline.drawing.colours import Colour, rank_colour, rate_colour

# Tag of a point's run: the name that tables, messages and folders have.
POINT_NAME = "lab.point"
# The settings that each name has, shortened; all others keep their names.
ABBREVIATIONS = {"learning_rate": "lr", "hidden_size": "h", "seed": "s"}
RATE = "learning_rate"
SEED = "seed"
SEPARATOR = " · "

# A setting of a name: key and value.
Setting = tuple[str, str]


@dataclass(frozen=True)
class Labels:
    """The labels of the points of a sweep.

    Attributes:
        constant: the settings that all points have in common; their names leave them out.
        rates: the learning rates of the points, ascending.
    """

    constant: frozenset[Setting]
    rates: tuple[float, ...]

    def name(self, name: str, without: str | None = None) -> str:
        """Return the short name of a point: `lr 10 · h 4 · s 3`.

        Args:
            name: its full name, `learning_rate=10 hidden_size=4 seed=3`.
            without: a setting to leave out too.
        """
        settings = settings_of(name)
        # The rate stays, so that no name is empty.
        shown = [one for one in settings if one not in self.constant or one[0] == RATE]
        parts = [f"{ABBREVIATIONS.get(key, key)} {value}" for key, value in shown if key != without]
        return SEPARATOR.join(parts) or name

    def colour(self, config: Config) -> Colour:
        """Return the colour of a point: by the rank of its rate, so that neighbours are told apart."""
        rate = config.optimizer.learning_rate
        if len(self.rates) > 1 and rate in self.rates:
            return rank_colour(self.rates.index(rate), len(self.rates))
        return rate_colour(rate)


def labels(names: Iterable[str]) -> Labels:
    """Return the labels of the points of a sweep, from all their full names."""
    points = [settings_of(name) for name in dict.fromkeys(names)]
    constant: frozenset[Setting] = frozenset()
    # The name of a single point has all its settings.
    if len(points) > 1:
        constant = frozenset.intersection(*map(frozenset, points))
    return Labels(constant, tuple(sorted(set(_rates(points)))))


def settings_of(name: str) -> list[Setting]:
    """Return the settings in the full name of a point, in order; empty if it has none."""
    # A value may contain spaces; a new setting begins with its key.
    parts = re.split(r" (?=[\w~]+=)", name)
    pairs = [part.partition("=") for part in parts if "=" in part]
    return [(key, value) for key, _, value in pairs]


def is_one_point(names: Iterable[str]) -> bool:
    """Whether points with these full names differ in nothing but their seed."""
    different = {tuple(setting for setting in settings_of(name) if setting[0] != SEED) or name for name in names}
    return len(different) <= 1


def _rates(points: Sequence[Sequence[Setting]]) -> Iterable[float]:
    for settings in points:
        text: Mapping[str, str] = dict(settings)
        try:
            yield float(text[RATE])
        except (KeyError, ValueError):
            # A map has the ends of its axis in its name.
            continue
