"""A trained point on disk: the truth that MLflow, the plots and the report are written from.

A point is known by a signature of its config and its data. Its folder `.points/SIGNATURE/` holds

    config.json             the typed config
    run.json                overrides, git commit, data checksums, when it started
    metrics.csv             journal: step (epoch), timestamp (ms), name, value
    weights.npz             `steps` (snapshots,), then for each array of the network (snapshots, ...)
    TABLE.csv               direction_changes, first_epochs
    outcome.json            how it ended; best and final metrics
    plots/                  figures

It is written under another name and renamed when it is complete.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np

from pipeline.config import Config, read_config
from pipeline.errors import LabError
from pipeline.files import explained
from pipeline.history import History, Metric
from pipeline.initial_weights import array_names

POINTS = Path(".points")
NOT_SIGNED = {"tracking", "results"}
"""Keys that do not decide numbers."""


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


def signature(config: Config, checksums: Mapping[str, str]) -> str:
    """16 hexadecimal digits of the SHA-256 of what decides a point's numbers, as canonical JSON."""
    decides = {"config": config.model_dump(mode="json", exclude=NOT_SIGNED), "data": dict(checksums)}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def point_name(config: Config, overrides: Sequence[str]) -> str:
    """What distinguishes a point: its rate, its hidden size, and what else was overridden.

    For instance `learning_rate=10 hidden_size=4 seed=2`.
    """
    rate = config.optimizer.learning_rate
    short = f"{rate:g}"
    values = {"learning_rate": short if float(short) == rate else repr(rate)}
    if config.model.hidden_size is not None:
        values["hidden_size"] = str(config.model.hidden_size)
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key not in ("experiment", "backend", "profile", "results") and not key.startswith(("hydra", "tracking")):
            values.setdefault(key.rsplit(".", 1)[-1].rsplit("/", 1)[-1], value)
    return " ".join(f"{key}={value}" for key, value in values.items())


def folder_name(name: str) -> str:
    """A point's name as a file name: only letters, digits and `=_.,-`, at most 100 characters."""
    safe = re.sub(r"[^A-Za-z0-9=_.,-]", "_", name.replace(" ", ","))
    if safe == name.replace(" ", ",") and "," not in name and len(safe) <= 100 and safe.strip("."):
        return safe
    return f"{safe[:90]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


class PointFolder:
    """The folder of a point that is being trained.

    Raises:
        LabError: from every method, when the folder cannot be written.
    """

    def __init__(self, project: Path, signature: str) -> None:
        self.final = project / POINTS / signature
        self.path = self.final.with_name(f"{signature}.partial-{os.getpid()}")
        self._journal = self.path / "metrics.csv"
        with explained(self.path):
            if self.path.exists():
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True)
            (self.path / "plots").mkdir()
            self._journal.write_text("step,timestamp,name,value\n")

    def write_json(self, name: str, content: object) -> None:
        """Write one JSON file."""
        with explained(self.path / name):
            (self.path / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")

    def append(self, metrics: Iterable[Metric]) -> None:
        """Append to the journal."""
        with explained(self._journal), self._journal.open("a", newline="") as stream:
            csv.writer(stream).writerows((m.step, m.timestamp, m.name, repr(m.value)) for m in metrics)

    def write_history(self, history: History) -> Outcome:
        """Write what is only known at the end: weights, tables, outcome. The journal stands already."""
        with explained(self.path):
            steps = sorted(history.snapshots)
            arrays = {name: np.stack([history.snapshots[s][name] for s in steps]) for name in history.snapshots[0]}
            np.savez(self.path / "weights.npz", allow_pickle=False, steps=np.array(steps), **arrays)
            for name, rows in history.tables.items():
                with (self.path / f"{name}.csv").open("w", newline="") as stream:
                    writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
                    writer.writeheader()
                    writer.writerows(rows)
        outcome = outcome_of(history)
        self.write_json("outcome.json", asdict(outcome))
        return outcome

    def complete(self) -> Path:
        """Put the folder in its place, replacing an earlier one."""
        with explained(self.final):
            shutil.rmtree(self.final, ignore_errors=True)
            self.path.rename(self.final)
        return self.final

    def discard(self) -> None:
        """Take an unfinished folder away."""
        shutil.rmtree(self.path, ignore_errors=True)


def read_point(folder: Path, name: str) -> Point:
    """Read a trained point.

    Raises:
        LabError: a file is missing, cut short or of the wrong kind.
    """
    try:
        config = read_config(json.loads((folder / "config.json").read_text()))
        outcome = Outcome(**json.loads((folder / "outcome.json").read_text()))
        history = History(
            metrics=_read_journal(folder / "metrics.csv"),
            diverged_step=outcome.diverged_step,
            last_finite_loss=outcome.last_finite_loss,
            seconds=outcome.seconds,
            epochs=outcome.epochs,
            points_in_pass=outcome.points_in_pass,
        )
        with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
            names = [key for key in arrays.files if key != "steps"]
            if set(names) != set(array_names(config.model)):
                raise ValueError(f"weights.npz holds {', '.join(names)}")
            loaded = {key: arrays[key] for key in names}
            for place, step in enumerate(arrays["steps"].tolist()):
                history.snapshots[step] = {key: loaded[key][place] for key in names}
        for table in folder.glob("*.csv"):
            if table.name != "metrics.csv":
                with table.open(newline="") as stream:
                    rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]
                history.tables[table.stem] = rows
    except (OSError, ValueError, TypeError, LookupError, EOFError, RuntimeError, BadZipFile, LabError) as error:
        raise LabError(
            f"The trained point in {folder} cannot be read.",
            expected="config.json, metrics.csv, weights.npz and outcome.json as training writes them",
            received=f"{type(error).__name__}: {error}",
            fix=f"delete {folder} and train it again",
        ) from None
    return Point(name, folder, config, history, outcome)


def _read_journal(file: Path) -> list[Metric]:
    with file.open(newline="") as stream:
        return [
            Metric(int(row["step"]), int(row["timestamp"]), row["name"], float(row["value"]))
            for row in csv.DictReader(stream)
        ]
