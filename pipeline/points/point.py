"""A trained point on disk, the source of its MLflow run, its plots and the report.

A point is identified by its signature (identity.py). Its folder `.points/SIGNATURE/` holds

    signed.json             the signed text: config, checksums of data and code, versions of libraries
    config.json             the typed config
    run.json                name, overrides, command, git commit, start time and process
    metrics.csv             the journal: step (epoch), timestamp (ms), name, value
    weights.npz             `steps` (snapshots,), and each array of the network as (snapshots, ...)
    initial.npz             the first snapshot, if it is large and not the only one; points that begin alike share it
    map.npz                 maps only: the axes, and the results for each pair of values; maps have no snapshots
    TABLE.csv               tables of some kinds of points: direction_changes (sign changes of the updates of each
                            weight), first_epochs (the first epochs of a single weight), stopped (how a minimizer
                            ended), balls (start, end and outcome of each ball on a curve)
    outcome.json            how training ended; best and final metrics
    network.json            the layers of a Keras model of one's own, from which Keras makes them again
    data.json               what the data is (data/description.py), unless the config says it
    plots/                  figures
    SHA256SUMS              checksums of all these files; marks the folder as complete
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, with_config

from pipeline.backends.shared.history import History
from pipeline.config.needs import typed
from pipeline.config.schema import Config, flatten
from pipeline.data.description import DataDescription
from pipeline.diagnosis.networks import diagnose
from pipeline.diagnosis.reach import Reach
from pipeline.diagnosis.start import recorded_rate, with_allowed_rate
from pipeline.diagnosis.verdicts import Diagnosis
from pipeline.points.breaking_rates import BreakingRate
from pipeline.points.identity import signed_threads
from pipeline.points.repeats import SPLIT_SEED

POINTS = Path(".points")
# Overrides that are not part of a point's name, by key and by prefix: they are equal for all points of a sweep, or do
# not affect training. A map's name has the ends of its axes instead of the `grid.` keys.
NOT_IN_NAMES = {
    "experiment",
    "backend",
    "profile",
    "study",
    "question",
    "repeats",
    "repeats_split",
    "results",
    "dry_run",
    "force",
    "breaking_rate",
    "budget",
}
NOT_IN_NAMES_PREFIXES = (
    "hydra",
    "tracking",
    "report.",
    "grid.",
    "recording.figures",
    "recording.models",
)


# An outcome.json with unknown keys is an error.
@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Outcome:
    """The result of training a point.

    Attributes:
        outcome: `finished` or `diverged`.
        diverged_step: number of updates before the loss first became inf or NaN; None if it never did.
        last_finite_loss: the training loss before divergence, or at the end if the point did not diverge.
        epochs: number of epochs trained.
        seconds: training time in seconds; the time of a stack is divided evenly among its points.
        seconds_per_epoch: seconds / epochs.
        points_in_stack: number of points in the same stack.
        best: the best value of every loss, error and accuracy, by metric name.
        final: the last value of every metric, by name.
    """

    outcome: Literal["finished", "diverged"]
    diverged_step: int | None
    last_finite_loss: float | None
    epochs: int
    seconds: float
    seconds_per_epoch: float
    points_in_stack: int
    best: dict[str, float]
    final: dict[str, float]

    @property
    def score(self) -> float:
        """The loss that judges a point against others, the smaller the better.

        That of the first of these rows that there are: validation, test, training; for a map, its best. inf if the
        point diverged, NaN if it has no loss.
        """
        if self.outcome == "diverged":
            return math.inf
        names = ("validation/loss", "test/loss", "train/loss", "map/best_loss")
        return next((self.final[name] for name in names if name in self.final), math.nan)


@dataclass(frozen=True)
class Point:
    """A trained point, and its most used values as properties.

    Attributes:
        name: its settings on one line.
        folder: its folder.
        config: its config.
        history: everything recorded while it trained.
        outcome: how training ended.
        data: what it was trained on; None for a table, a curve, and images of IDX files.
        reach: what the points that it is judged with reached (studies/reach.py); None: it is judged alone.
        breaking_rate: the rate at which its network breaks, predicted and seen; None if nothing was predicted.
    """

    name: str
    folder: Path
    config: Config
    history: History
    outcome: Outcome
    data: DataDescription | None = None
    reach: Reach | None = None
    breaking_rate: BreakingRate | None = None

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """How training went, with evidence; computed only once, because that takes the whole history."""
        found = diagnose(self.config, self.history, self.reach)
        return with_allowed_rate(found, self.learning_rate, self.allowed_rate)

    @property
    def allowed_rate(self) -> float | None:
        """The rate that the curvature at the start allows, recorded or predicted; None if it is unknown."""
        recorded = recorded_rate(self.history)
        if recorded is None and self.breaking_rate is not None:
            return self.breaking_rate.predicted
        return recorded

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every value of the config under its full name; computed only once, because tables and figures ask often."""
        return dict(flatten(self.config))

    @property
    def learning_rate(self) -> float:
        """The configured learning rate. For a map with a rate axis, the rates of its points are on the axis."""
        return self.config.optimizer.learning_rate

    @property
    def hidden_size(self) -> int | None:
        """The number of units in the first hidden layer, or None for a network without one."""
        return self.config.model.hidden_size

    @property
    def diverged(self) -> bool:
        """Whether training ended because the loss became inf or NaN."""
        return self.outcome.outcome == "diverged"


def outcome_of(history: History) -> Outcome:
    """Return the outcome recorded in a history."""
    outcome: Literal["finished", "diverged"] = "finished"
    if history.diverged_step is not None:
        outcome = "diverged"
    return Outcome(
        outcome=outcome,
        diverged_step=history.diverged_step,
        last_finite_loss=history.last_finite_loss,
        epochs=history.epochs,
        seconds=history.seconds,
        seconds_per_epoch=history.seconds / max(history.epochs, 1),
        points_in_stack=history.points_in_stack,
        best=history.best(),
        final=history.final(),
    )


def knobs(config: Config, overrides: Sequence[str]) -> dict[str, str]:
    """Return the settings that distinguish a point: its rate, its hidden size and other overrides, by short name.

    Example:
        `{"learning_rate": "10", "hidden_size": "4", "seed": "2"}`; for a map, the ends of its axes:
        `{"learning_rate": "0.1..1000", "output_learning_rate": "0.1..1000", "hidden_size": "4", "points": "256x256"}`.
    """
    rate = config.optimizer.learning_rate
    rate_text = f"{rate:g}"
    # Six digits are easy to read, but different rates must not get the same name.
    if float(rate_text) != rate:
        rate_text = repr(rate)
    values = {"learning_rate": rate_text}
    if config.model.hidden_size is not None:
        values["hidden_size"] = str(config.model.hidden_size)
    if config.grid is not None:
        values |= {axis.name: "{:g}..{:g}".format(*axis.values()[[0, -1]]) for axis in config.grid.axes}
        values["points"] = f"{config.grid.x.count}x{config.grid.y.count}"
    for override in overrides:
        # Hydra's `+` adds a key and `~` deletes one; neither is part of the key.
        key, _, value = override.lstrip("+~").partition("=")
        if key == "threads" and signed_threads(config) is None:
            continue
        # The seed tells them apart; `JobMaker` adds it where it does not.
        if key == SPLIT_SEED and config.repeats_split:
            continue
        if key not in NOT_IN_NAMES and not key.startswith(NOT_IN_NAMES_PREFIXES):
            # A key is a path with dots, or a config group, whose path has slashes.
            parts = re.split("[./]", key)
            short_name = parts[-1]
            # Points that differ in their seed alone are told apart by it, and no other key may take its name.
            if short_name == "seed":
                short_name = "_".join(parts)
            # The first value stays: the settings above are formatted. Names are labels, so that two keys with the same
            # short name do no harm; points are identified by their signatures.
            values.setdefault(short_name, _by_value(value, key, config))
    return values


def _by_value(text: str, key: str, config: Config) -> str:
    """Return the value of an override as it was typed, or the value that an interpolation in it has."""
    # With `${...}` in their names, points of different values would have the same name.
    if "${" not in text:
        return text
    value: Any = config.model_dump(mode="json")
    for part in re.split("[./]", key):
        if isinstance(value, dict):
            value = value.get(part)
    if isinstance(value, dict):
        value = value.get("name", text)
    return typed(value)


def point_name(config: Config, overrides: Sequence[str]) -> str:
    """Return a point's settings on one line, for instance `learning_rate=10 hidden_size=4 seed=2`."""
    return name_of(knobs(config, overrides))


def name_of(knobs: Mapping[str, str]) -> str:
    """Return settings on one line, as `point_name` does."""
    return " ".join(f"{key}={value}" for key, value in knobs.items())


def folder_name(name: str) -> str:
    """Convert a point's name to a file name: only letters, digits and `=_.,-`, at most 100 characters.

    Different names have different file names.
    """
    readable = name.replace(" ", ",")
    safe = re.sub(r"[^A-Za-z0-9=_.,-]", "_", readable)
    reversible = safe == readable and "," not in name
    # `.` and `..` are folders.
    if reversible and len(safe) <= 100 and safe.strip("."):
        return safe
    # After replacing or cutting characters, two names could be equal; a hash of the original name distinguishes them.
    return f"{safe[:90]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
