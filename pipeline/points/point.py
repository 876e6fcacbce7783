"""A trained point on disk: the truth that MLflow, the plots and the report are written from.

A point is known by its signature (identity.py). Its folder `.points/SIGNATURE/` holds

    signed.json             what was signed: config, checksums of data and code, versions of libraries
    config.json             the typed config
    run.json                name, overrides, command, git commit, when and where it started
    metrics.csv             journal: step (epoch), timestamp (ms), name, value
    weights.npz             `steps` (snapshots,), then for each array of the network (snapshots, ...)
    map.npz                 of a map: its axes, and what it keeps of each of its points; it has no snapshots
    TABLE.csv               direction_changes, first_epochs; balls, those of a curve
    outcome.json            how it ended; best and final metrics
    plots/                  figures
    SHA256SUMS              checksums of all of them; what makes the folder complete
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
NOT_IN_NAMES = {"experiment", "backend", "profile", "study", "results", "dry_run", "force"}


@with_config(ConfigDict(extra="forbid"))  # so that outcome.json is read with no other keys
@dataclass(frozen=True)
class Outcome:
    """How a point ended.

    Attributes:
        outcome: `finished` or `diverged`.
        diverged_step: updates made when the loss first was inf or NaN.
        last_finite_loss: training loss before that, or the last one.
        epochs: epochs trained.
        seconds: training time, seconds; points that train as one stack share its time evenly.
        seconds_per_epoch: seconds / epochs.
        points_in_stack: how many points trained in the same stack.
        best, final: metrics by name.
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
    """A trained point, read back: its name, config, history and outcome, and what is most asked of them."""

    name: str
    folder: Path
    config: Config
    history: History
    outcome: Outcome

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """How training ended, and why."""
        return diagnose(self.config, self.history)

    @property
    def learning_rate(self) -> float:
        """The step per unit of gradient; of a map, whose axis has others, what the config says."""
        return self.config.optimizer.learning_rate

    @property
    def hidden_size(self) -> int | None:
        """Units of the first hidden layer; None without one."""
        return self.config.model.hidden_size

    @property
    def diverged(self) -> bool:
        """Whether training ended because the loss was inf or NaN."""
        return self.outcome.outcome == "diverged"


def outcome_of(history: History) -> Outcome:
    """Sum up a history."""
    return Outcome(
        outcome="finished" if history.diverged_step is None else "diverged",
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
    """What distinguishes a point: its rate, its hidden size, and what else was overridden, by short names.

    For instance `{"learning_rate": "10", "hidden_size": "4", "seed": "2"}`; of a map the ends of its axes, as in
    `{"learning_rate": "0.1..1000", "output_learning_rate": "0.1..1000", "hidden_size": "4", "points": "256x256"}`.
    """
    rate = config.optimizer.learning_rate
    short = f"{rate:g}"
    values = {"learning_rate": short if float(short) == rate else repr(rate)}
    if config.model.hidden_size is not None:
        values["hidden_size"] = str(config.model.hidden_size)
    if config.grid is not None:
        values |= {axis.name: "{:g}..{:g}".format(*axis.values()[[0, -1]]) for axis in config.grid.axes}
        values["points"] = f"{config.grid.x.count}x{config.grid.y.count}"
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key not in NOT_IN_NAMES and not key.startswith(("hydra", "tracking", "grid.")):
            values.setdefault(key.rsplit(".", 1)[-1].rsplit("/", 1)[-1], value)
    return values


def point_name(config: Config, overrides: Sequence[str]) -> str:
    """A point's knobs in a line, for instance `learning_rate=10 hidden_size=4 seed=2`."""
    return name_of(knobs(config, overrides))


def name_of(knobs: Mapping[str, str]) -> str:
    """Knobs in a line."""
    return " ".join(f"{key}={value}" for key, value in knobs.items())


def folder_name(name: str) -> str:
    """A point's name as a file name: only letters, digits and `=_.,-`, at most 100 characters."""
    safe = re.sub(r"[^A-Za-z0-9=_.,-]", "_", name.replace(" ", ","))
    if safe == name.replace(" ", ",") and "," not in name and len(safe) <= 100 and safe.strip("."):
        return safe
    return f"{safe[:90]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
