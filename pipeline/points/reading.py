"""What is on disk of a point, read back: nothing in its folder is trusted, and damage is told from all else.

A function here raises `DamagedError` where a file is missing, cut short, changed or of another kind, and another
`LabError` where the machine does not let it be read (files.readable); one that says so raises OSError and ValueError.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from pipeline.backends.numpy.curves.basins import check_basins
from pipeline.backends.numpy.curves.descent import POSITIONS
from pipeline.backends.numpy.maps.measures import check_map_arrays
from pipeline.backends.shared.history import History, Metric
from pipeline.backends.shared.initial_weights import array_names
from pipeline.config.reading import read_config
from pipeline.config.schema import Config
from pipeline.points.checkpoint import unstack_snapshots
from pipeline.points.point import Outcome, Point
from pipeline.system.errors import DamagedError, LabError
from pipeline.system.files import MISSING, SUMS, checked_files, readable, short_hash
from pipeline.system.formats import read_arrays, read_json, read_rows

FILES = {"config.json", "metrics.csv", "weights.npz", "outcome.json"}
"""What every complete point has."""


@dataclass(frozen=True)
class Run:
    """What run.json holds: how the point was asked for and where, and which attempt at it this is, begun when (ms)."""

    name: str
    overrides: list[str]
    tags: dict[str, str]
    attempt: str
    started: int
    owner: str


RUN, OUTCOME = TypeAdapter(Run), TypeAdapter(Outcome)


def read_point(folder: Path, name: str) -> Point:
    """Read a trained point.

    Raises:
        DamagedError: a file is missing, cut short, changed or of the wrong kind.
        LabError: a file cannot be read for another reason.
    """
    with _point_readable(folder):
        files = checked_files(folder)
        if not FILES.issubset(files):
            raise ValueError(f"{SUMS} does not name {', '.join(sorted(FILES.difference(files)))}")
        config = _config_in(folder)
        outcome = OUTCOME.validate_json((folder / "outcome.json").read_bytes(), strict=True)
        history = History(
            metrics=read_journal((folder / "metrics.csv").read_bytes()),
            diverged_step=outcome.diverged_step,
            last_finite_loss=outcome.last_finite_loss,
            seconds=outcome.seconds,
            epochs=outcome.epochs,
            points_in_stack=outcome.points_in_stack,
        )
        _read_snapshots(folder, config, history)
        if config.grid is not None:
            if "map.npz" not in files:
                raise ValueError(f"{SUMS} does not name map.npz")
            history.map_arrays = dict(read_arrays(folder / "map.npz"))
            check = check_basins if config.data.kind == "curve" else check_map_arrays
            check(history.map_arrays, config.grid)
        for table in map(Path, files):
            if table.suffix == ".csv" and len(table.parts) == 1 and table.name != "metrics.csv":
                history.tables[table.stem] = _read_table(folder / table)
    return Point(name, folder, config, history, outcome)


def _read_table(file: Path) -> list[dict[str, float]]:
    rows = [{key: float(value) for key, value in row.items()} for row in read_rows(file.read_bytes())]
    if not rows:
        raise ValueError(f"{file.name} has no rows")
    return rows


def _read_snapshots(folder: Path, config: Config, history: History) -> None:
    arrays = read_arrays(folder / "weights.npz")
    names = array_names(config.model)
    if config.grid is not None:
        names = []
    elif config.balls is not None:
        names = [POSITIONS]
    if set(arrays) != {"steps", *names}:
        raise ValueError(f"weights.npz holds {', '.join(arrays)}")
    unstack_snapshots(arrays, history)


def read_own_point(folder: Path, name: str, signature: str) -> Point:
    """Read a trained point, and make sure that it is not another one that was put in its place, and has a run.json.

    Raises:
        DamagedError: it is another one, or damaged.
        LabError: a file cannot be read for another reason.
    """
    point = read_point(folder, name)
    with _point_readable(folder):
        received = signed_in(folder)
    if received != signature:
        raise DamagedError(
            f"{folder} holds a different point.",
            expected=f"a signed.json whose SHA-256 begins with {signature}",
            received=received,
            fix=f"delete {folder} and train it again",
        )
    if not read_run(folder):
        raise DamagedError(
            f"Nothing tells how the point in {folder} was trained.",
            expected="a run.json as training writes it",
            received="none, or another one",
            fix=f"delete {folder} and train it again",
        )
    return point


def read_own_config(folder: Path) -> Config:
    """The config of a point, which need not be whole otherwise.

    Raises:
        DamagedError: it is not there, or damaged.
        LabError: it cannot be read for another reason.
    """
    with _point_readable(folder):
        return _config_in(folder)


def _config_in(folder: Path) -> Config:
    composed = read_json(folder / "config.json")
    try:
        return read_config(composed)
    except LabError as error:
        raise ValueError(str(error)) from None


def _point_readable(folder: Path) -> AbstractContextManager[None]:
    return readable(
        f"The trained point in {folder}",
        expected="config.json, metrics.csv, weights.npz and outcome.json as training writes them",
        fix=f"delete {folder} and train it again",
    )


def read_journal(content: bytes) -> list[Metric]:
    """The rows of a journal.

    Raises:
        ValueError: it is cut short or changed.
    """
    return [
        Metric(int(row["step"]), int(row["timestamp"]), row["name"], float(row["value"]))
        for row in read_rows(content, Metric._fields)
    ]


def read_run(folder: Path) -> Run | None:
    """What the run.json of a point's folder says of its training; None where it is not one that training wrote.

    Raises:
        LabError: it is there and cannot be read.
    """
    file = folder / "run.json"
    try:
        with readable(str(file), expected="a run.json as training writes it", fix=f"delete {folder}"):
            return RUN.validate_json(file.read_bytes(), strict=True)
    except DamagedError:
        return None


def read_attempt(folder: Path) -> str | None:
    """Which attempt at a point a folder holds; None where it holds none.

    Raises:
        LabError: run.json is there and cannot be read.
    """
    run = read_run(folder)
    return None if run is None else run.attempt


def signed_in(folder: Path) -> str:
    """The signature of the text that a point's folder says was signed; empty where there is none.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        return short_hash((folder / "signed.json").read_bytes())
    except MISSING:
        return ""
