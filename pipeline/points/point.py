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

import csv
import hashlib
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from pipeline.backends.numpy.curves.basins import check_basins
from pipeline.backends.numpy.curves.descent import POSITIONS
from pipeline.backends.numpy.maps.measures import check_map_arrays
from pipeline.backends.shared.history import History, Metric
from pipeline.backends.shared.initial_weights import array_names
from pipeline.config.reading import read_config
from pipeline.config.schema import Config
from pipeline.points.checkpoint import unstack_snapshots
from pipeline.system.errors import LabError
from pipeline.system.files import SUMS, checked_files, read_arrays

POINTS = Path(".points")
FILES = {"config.json", "metrics.csv", "weights.npz", "outcome.json"}
"""What every complete point has."""
NOT_IN_NAMES = {"experiment", "backend", "profile", "study", "results", "dry_run", "force"}
UNREADABLE = (
    OSError, ValueError, TypeError, LookupError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, csv.Error
)  # fmt: skip
"""What reading a damaged file may raise."""


@dataclass(frozen=True)
class Outcome:
    """How a point ended.

    Attributes:
        outcome: `finished` or `diverged`.
        diverged_step: updates made when the loss first was inf or NaN.
        last_finite_loss: training loss before that, or the last one.
        epochs: epochs trained.
        seconds: training time, seconds; points that train in one pass share its time evenly.
        seconds_per_epoch: seconds / epochs.
        points_in_pass: how many points trained in the same pass.
        best, final: metrics by name.
    """

    outcome: Literal["finished", "diverged"]
    diverged_step: int | None
    last_finite_loss: float | None
    epochs: int
    seconds: float
    seconds_per_epoch: float
    points_in_pass: int
    best: dict[str, float]
    final: dict[str, float]


@dataclass(frozen=True)
class Point:
    """A trained point, read back: its name, config, history and outcome."""

    name: str
    folder: Path
    config: Config
    history: History
    outcome: Outcome


def outcome_of(history: History) -> Outcome:
    """Sum up a history."""
    return Outcome(
        outcome="finished" if history.diverged_step is None else "diverged",
        diverged_step=history.diverged_step,
        last_finite_loss=history.last_finite_loss,
        epochs=history.epochs,
        seconds=history.seconds,
        seconds_per_epoch=history.seconds / max(history.epochs, 1),
        points_in_pass=history.points_in_pass,
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


def read_point(folder: Path, name: str) -> Point:
    """Read a trained point.

    Raises:
        LabError: a file is missing, cut short, changed or of the wrong kind.
    """
    try:
        files = checked_files(folder)
        if not FILES.issubset(files):
            raise ValueError(f"{SUMS} does not name {', '.join(sorted(FILES.difference(files)))}")
        config = read_config(json.loads((folder / "config.json").read_text()))
        outcome = Outcome(**json.loads((folder / "outcome.json").read_text()))
        with (folder / "metrics.csv").open(newline="") as stream:
            metrics = read_journal(stream)
        history = History(
            metrics=metrics,
            diverged_step=outcome.diverged_step,
            last_finite_loss=outcome.last_finite_loss,
            seconds=outcome.seconds,
            epochs=outcome.epochs,
            points_in_pass=outcome.points_in_pass,
        )
        arrays = read_arrays(folder / "weights.npz")
        names = [] if config.grid else [POSITIONS] if config.balls else array_names(config.model)
        if set(arrays) != {"steps", *names}:
            raise ValueError(f"weights.npz holds {', '.join(arrays)}")
        unstack_snapshots(arrays, history)
        if config.grid:
            if "map.npz" not in files:
                raise ValueError(f"{SUMS} does not name map.npz")
            history.map_arrays = dict(read_arrays(folder / "map.npz"))
            check = check_basins if config.data.kind == "curve" else check_map_arrays
            check(history.map_arrays, config.grid)
        for table in map(Path, files):
            if table.suffix == ".csv" and len(table.parts) == 1 and table.name != "metrics.csv":
                with (folder / table).open(newline="") as stream:
                    rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]
                history.tables[table.stem] = rows
    except (*UNREADABLE, LabError) as error:
        raise LabError(
            f"The trained point in {folder} cannot be read.",
            expected="config.json, metrics.csv, weights.npz and outcome.json as training writes them",
            received=f"{type(error).__name__}: {error}",
            fix=f"delete {folder} and train it again",
        ) from None
    return Point(name, folder, config, history, outcome)


def read_journal(stream: TextIO) -> list[Metric]:
    """The rows of a journal.

    Raises:
        ValueError, TypeError, KeyError: it is cut short or changed.
    """
    return [
        Metric(int(row["step"]), int(row["timestamp"]), row["name"], float(row["value"]))
        for row in csv.DictReader(stream)
    ]
