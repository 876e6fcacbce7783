"""Find the knobs of a study: the keys in which its points differ, and what each of them is in figures and sentences.

Two numeric knobs are the axes: the learning rate if it varies, then the size (`report.size`, by default the hidden
size), then others in the order of the config. The first knob whose values are not numbers has a figure for each of its
values (the panels). For every further knob the best over all others is reported, which is its profile. Points that
differ in nothing but the seed are one result, their mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from pipeline.config.schema import Config, flatten
from pipeline.points.point import Point
from pipeline.points.repeats import SPLIT_SEED, distance, seeds_of, shown_distances

RATE = "optimizer.learning_rate"
SIZE = "model.hidden_size"
SEED = "seed"
# Keys that do not affect training, or that differ only between backends.
NOT_SETTINGS = (
    *("study", "results", "dry_run", "force", "breaking_rate", "budget", "threads", "question"),
    *("report.", "tracking.", "backend."),
)
# These, keys that only maps have, and where data was downloaded from, which does not change it.
NOT_KNOBS = (*NOT_SETTINGS, "recording.", "data.local_dir", "data.sources", "grid")
# Keys that name what many other keys consist of: with a method, a schedule, data or a feature they change as well.
NAMES = ("optimizer.name", "schedule.name", "data.name", "feature")

# Keys with their values, of one point.
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Knob:
    """A key of the config with the values that it has in a study.

    Attributes:
        key: its full name; empty if there is no such knob.
        values: numbers ascending, after null if that is one of them; other values in the order of their points.
        distances: the values of a split seed where seeds have splits of their own (`shown_distances`).
    """

    key: str
    values: tuple[Any, ...]
    distances: tuple[tuple[int | None, int | str], ...] = ()

    def of(self, point: Point) -> Any:
        """Return the value of a point."""
        value = _plain(point.settings.get(self.key))
        if not self.distances:
            return value
        return dict(self.distances).get(distance(seeds_of(point.config)), value)

    @property
    def name(self) -> str:
        """Its name in sentences: short, as in the names of points."""
        if self.key == RATE:
            return "rate"
        if self.key == SIZE:
            return "hidden size"
        parts = self.key.split(".")
        if self.key in NAMES and len(parts) > 1:
            return parts[0]
        return parts[-1]

    @property
    def title(self) -> str:
        """What is written along an axis of a figure."""
        if self.key == RATE:
            return "learning rate"
        return self.name

    @property
    def numeric(self) -> bool:
        """Whether all its values are numbers, apart from null."""
        return all(value is None or _is_number(value) for value in self.values)

    @property
    def logarithmic(self) -> bool:
        """Whether its values are more even on a logarithmic axis than on a linear one; rates always count as such."""
        if self.key == RATE:
            return True
        numbers = self.values
        # Null has no place on it.
        if len(numbers) < 2 or not self.numeric or None in numbers or numbers[0] <= 0:
            return False
        if len(numbers) == 2:
            return bool(numbers[1] / numbers[0] >= 10)
        return _unevenness([math.log(value) for value in numbers]) < _unevenness(numbers)

    def text(self, value: Any) -> str:
        """Return a value as it is written in sentences and tables."""
        if value is None:
            return "none"
        if isinstance(value, float) and (self.key == RATE or float(f"{value:g}") == value):
            return f"{value:g}"
        return str(value)

    def said(self, value: Any) -> str:
        """Return a value with the knob's name, for instance `batch_size 64`."""
        if self.key == SIZE and value is None:
            return "no hidden layer"
        return f"{self.name} {self.text(value)}"


# Stands for an axis that a study does not have.
NO_KNOB = Knob("", (None,))


@dataclass(frozen=True)
class Layout:
    """What the figures and sentences of a study are about.

    Attributes:
        across: the horizontal axis; the rate, with its only value, if no number varies.
        up: the other axis; the size if no second number varies.
        panels: the knob whose values have figures of their own; None if all knobs are numbers.
        further: all other knobs, which get a profile each.
        seeds: the seeds; more than one if points differ in it.
    """

    across: Knob
    up: Knob
    panels: Knob | None
    further: tuple[Knob, ...]
    seeds: tuple[int, ...]

    @property
    def apart(self) -> tuple[Knob, ...]:
        """The knobs that are no axes."""
        if self.panels is None:
            return self.further
        return (self.panels, *self.further)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """All knobs that vary, apart from the seed: those of the axes first."""
        return tuple(knob for knob in (self.across, self.up, *self.apart) if len(knob.values) > 1)


def layout(points: Sequence[Point], others: Sequence[Point] = ()) -> Layout:
    """Return the knobs of a study.

    Args:
        points: those of one backend, at least one; they decide which keys are knobs.
        others: those of another backend, which may have values of their own.
    """
    size = points[0].config.report.size or SIZE
    varied = varying([point.settings for point in points], size, _typed(points))
    everything = [*points, *others]
    knobs = [_knob(everything, key) for key in varied if key != SEED]
    numeric = [knob for knob in knobs if knob.numeric]
    named = [knob for knob in knobs if not knob.numeric]
    # Null has no place among numbers.
    across = next((knob for knob in numeric if None not in knob.values), _knob(everything, RATE))
    left = [knob for knob in numeric if knob != across]
    up = NO_KNOB
    if left:
        up = left.pop(0)
    elif across.key != size:
        up = _knob(everything, size)
    panels = None
    if named:
        panels = named.pop(0)
    seeds = tuple(sorted({point.config.seed for point in everything}))
    return Layout(across, up, panels, (*left, *named), seeds)


def differ_in(points: Sequence[Point], *keys: str) -> bool:
    """Whether points differ in nothing but these keys and what follows from them."""
    return set(varying([point.settings for point in points], typed=_typed(points))) <= set(keys)


def further_knobs(points: Sequence[Point]) -> list[Knob]:
    """Return the knobs that vary besides the rate and the hidden size, for the columns of a table; the seed is last."""
    shown = layout(points)
    found = [knob for knob in shown.knobs if knob.key not in (RATE, SIZE)]
    if len(shown.seeds) > 1:
        found.append(Knob(SEED, shown.seeds))
    return found


def numeric_keys(configs: Sequence[Config]) -> list[str]:
    """Return the keys of the numbers that vary, in the order of the axes; the seed is not one of them."""
    settings = [dict(flatten(config)) for config in configs]
    size = configs[0].report.size or SIZE
    varied = [key for key in varying(settings, size) if key != SEED]
    return [key for key in varied if all(_is_number(one.get(key)) or one.get(key) is None for one in settings)]


def varying(settings: Sequence[Settings], size: str = SIZE, typed: Collection[str] = ()) -> list[str]:
    """Return the keys in which points differ, without those that only follow from others.

    A method, for instance, comes with keys of its own. A key that was typed follows from no other, unless that names a
    method, a schedule, data or a feature.

    Args:
        settings: the config of each point, flat.
        size: the key that is the size.
        typed: the short names of the keys that were typed; empty: unknown.

    Returns:
        The rate, the size, and the others in the order of the config; the seed is last.
    """
    columns: dict[str, tuple[Any, ...]] = {}
    for key in dict.fromkeys(key for one in settings for key in one):
        if not key.startswith(NOT_KNOBS):
            values = tuple(_plain(one.get(key)) for one in settings)
            if len(set(values)) > 1:
                columns[key] = values
    if SEED in columns and SPLIT_SEED in columns:
        seeds = [(one[SEED], one.get(SPLIT_SEED)) for one in settings]
        shown = shown_distances(seeds)
        columns[SPLIT_SEED] = tuple(shown.get(distance(one), one[1]) for one in seeds)
        # Each seed has a split of its own, which belongs to it.
        if len(set(columns[SPLIT_SEED])) == 1:
            del columns[SPLIT_SEED]
    names = [key for key in NAMES if key in columns]
    chosen = _independent(names, columns, lambda key, found: found)
    first = [key for key in (RATE, size) if key in columns]
    rest = [key for key in columns if key not in (*names, *first, SEED)]

    def causes(key: str, found: Sequence[str]) -> Sequence[str]:
        # A rate and a size are not looked for among the settings that follow from others.
        if key in first or not typed or key.rpartition(".")[-1] in typed:
            return [cause for cause in found if cause in NAMES]
        return found

    chosen = _independent([*first, *rest], columns, causes, chosen)
    ordered = [key for key in first if key in chosen]
    ordered += [key for key in columns if key in chosen and key not in (*first, SEED)]
    if SEED in columns:
        ordered.append(SEED)
    return ordered


def _independent(
    keys: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    causes: Callable[[str, Sequence[str]], Sequence[str]],
    chosen: Sequence[str] = (),
) -> list[str]:
    """Add to `chosen` those keys whose values do not follow from one of the keys that `causes` returns for them."""
    found = list(chosen)
    for key in keys:
        if not any(_follows(columns[key], columns[cause]) for cause in causes(key, found)):
            found.append(key)
    return found


def _follows(values: Sequence[Any], causes: Sequence[Any]) -> bool:
    """Whether points with the same value of one key always have the same value of the other."""
    return len(set(zip(causes, values, strict=True))) == len(set(causes))


def _typed(points: Sequence[Point]) -> set[str]:
    """Return the short names of the settings in the names of points."""
    return {part.partition("=")[0] for point in points for part in point.name.split() if "=" in part}


def _knob(points: Sequence[Point], key: str) -> Knob:
    """Return a key with its values, in order."""
    knob = Knob(key, ())
    if key == SPLIT_SEED:
        shown = shown_distances([seeds_of(point.config) for point in points])
        knob = Knob(key, (), tuple(shown.items()))
    values = list(dict.fromkeys(knob.of(point) for point in points))
    if all(value is None or _is_number(value) for value in values):
        values.sort(key=lambda value: (value is not None, value or 0))
    return replace(knob, values=tuple(values))


def _plain(value: Any) -> Any:
    """Return a value that can be a key of a dictionary: a list as its text, as it is typed."""
    if isinstance(value, (list, dict)):
        # Sorted: a config that was read from a file has its keys in another order than one that was composed.
        return json.dumps(value, sort_keys=True)
    # In Python true is equal to 1.
    if isinstance(value, bool):
        return str(value).lower()
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _unevenness(values: Sequence[float]) -> float:
    """Return the largest step of ascending values as a multiple of the smallest."""
    steps = [after - before for before, after in pairwise(values)]
    return max(steps) / min(steps)
