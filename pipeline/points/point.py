"""A trained point on disk, from which its MLflow run, its plots and the report are written.

A point is identified by its signature (identity.py). Its folder `.points/SIGNATURE/` holds

    signed.json             the signed text: config, checksums of data and code, versions of libraries
    config.json             the typed config
    run.json                name, overrides, command, git commit, when and where training started
    metrics.csv             the journal: step (epoch), timestamp (ms), name, value
    weights.npz             `steps` (snapshots,), and each array of the network as (snapshots, ...)
    map.npz                 for a map: its axes and the results of each of its points; a map has no snapshots
    TABLE.csv               direction_changes and first_epochs; for a curve, balls
    outcome.json            how training ended; best and final metrics
    plots/                  figures
    SHA256SUMS              checksums of all of these files; the folder is complete once it exists
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, with_config

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.diagnosis.networks import diagnose
from pipeline.diagnosis.verdicts import Diagnosis

POINTS = Path(".points")
# Overrides that a name leaves out: they do not distinguish the points of one sweep.
NOT_IN_NAMES = {"experiment", "backend", "profile", "study", "results", "dry_run", "force"}


# Forbidding extra keys makes reading an outcome.json with unknown keys an error.
@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Outcome:
    """How a point ended.

    Attributes:
        outcome: `finished` or `diverged`.
        diverged_step: how many updates had been made when the loss first was inf or NaN; None if it never was.
        last_finite_loss: the training loss before that, or the last one.
        epochs: how many epochs the point trained.
        seconds: training time in seconds; points that train as one stack share its time evenly.
        seconds_per_epoch: seconds / epochs.
        points_in_stack: how many points trained in the same stack.
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


@dataclass(frozen=True)
class Point:
    """A trained point: its name, folder, config, history and outcome, and shortcuts to some of their values."""

    name: str
    folder: Path
    config: Config
    history: History
    outcome: Outcome

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """How training ended, and why; computed once, as it reads the whole history."""
        return diagnose(self.config, self.history)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the config; a map has other rates on its axis."""
        return self.config.optimizer.learning_rate

    @property
    def hidden_size(self) -> int | None:
        """The number of units of the first hidden layer, or None for a network without one."""
        return self.config.model.hidden_size

    @property
    def diverged(self) -> bool:
        """Whether training ended because the loss became inf or NaN."""
        return self.outcome.outcome == "diverged"


def outcome_of(history: History) -> Outcome:
    """Sum up a history."""
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
    """Return what distinguishes a point: its rate, its hidden size and other overrides, by short names.

    Example:
        `{"learning_rate": "10", "hidden_size": "4", "seed": "2"}`. A map has the ends of its axes:
        `{"learning_rate": "0.1..1000", "output_learning_rate": "0.1..1000", "hidden_size": "4", "points": "256x256"}`.
    """
    rate = config.optimizer.learning_rate
    rate_text = f"{rate:g}"
    # Six digits are easy to read, but two different rates must not have the same name.
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
        if key not in NOT_IN_NAMES and not key.startswith(("hydra", "tracking", "grid.")):
            # The last part of the key is enough. `setdefault`: what the config says of a knob above comes first.
            values.setdefault(key.rsplit(".", 1)[-1].rsplit("/", 1)[-1], value)
    return values


def point_name(config: Config, overrides: Sequence[str]) -> str:
    """Return a point's knobs in a line, for instance `learning_rate=10 hidden_size=4 seed=2`."""
    return name_of(knobs(config, overrides))


def name_of(knobs: Mapping[str, str]) -> str:
    """Return knobs in a line, as `point_name` does."""
    return " ".join(f"{key}={value}" for key, value in knobs.items())


def folder_name(name: str) -> str:
    """Turn a point's name into a file name: only letters, digits and `=_.,-`, at most 100 characters.

    Different names give different file names.
    """
    safe = re.sub(r"[^A-Za-z0-9=_.,-]", "_", name.replace(" ", ","))
    if safe == name.replace(" ", ",") and "," not in name and len(safe) <= 100 and safe.strip("."):
        return safe
    # Replacing or cutting characters can make two names equal; a hash of the whole name tells them apart again.
    return f"{safe[:90]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
