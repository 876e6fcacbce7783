"""Reads points from disk. Their files are always checked, and damage is distinguished from other errors.

The functions raise `DamagedError` if a file is missing, truncated, changed or of the wrong type, and a plain `LabError`
if this machine cannot read it, in which case the file may be intact (`files.readable`). A few functions raise OSError
or ValueError instead, as their docstrings say.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline.backends.numpy.curves.basins import check_basins
from pipeline.backends.numpy.curves.descent import POSITIONS
from pipeline.backends.numpy.maps.measures import check_map_arrays
from pipeline.backends.shared.history import History, Metric
from pipeline.backends.shared.initial_weights import array_names
from pipeline.config.own_model import KerasModel
from pipeline.config.reading import read_config
from pipeline.config.schema import Config
from pipeline.data.description import DataDescription
from pipeline.points.point import Outcome, Point
from pipeline.points.repeats import RAW_ROWS, seeds_in
from pipeline.points.weights import read_weights
from pipeline.system.errors import DamagedError, LabError
from pipeline.system.files import MISSING, SUMS, readable, short_hash, verify_sums
from pipeline.system.formats import read_arrays, read_json, read_rows

# The files that every complete point has.
FILES = {"config.json", "metrics.csv", "weights.npz", "outcome.json"}
# The file that a point on described data has too.
DESCRIPTION = "data.json"
# The files that `read_results` reads.
RESULTS = {"config.json", "metrics.csv", "outcome.json", DESCRIPTION}
# The file that a point of a Keras model of one's own has too.
ARCHITECTURE = "network.json"


@dataclass(frozen=True)
class RunRecord:
    """The content of run.json: the name of a point, the command that trained it, and the attempt.

    Attributes:
        name: the point's settings on one line.
        overrides: the part of the command line that its config was composed from.
        tags: command, git commit, data checksums.
        attempt: random id of the attempt; stays the same when training resumes, changes when it restarts.
        started: start time of the attempt, in milliseconds since 1970.
        owner: the process that trains it, from `processes.owner`.
    """

    name: str
    overrides: list[str]
    tags: dict[str, str]
    attempt: str
    started: int
    owner: str

    def ended(self, history: History) -> int:
        """Return the time of the last metric of the point, in milliseconds since 1970.

        Taken from the point and not from the clock, so that writing its MLflow run twice gives the same run.
        """
        if not history.metrics:
            return self.started
        return history.metrics[-1].timestamp


RUN_RECORD = TypeAdapter(RunRecord)
OUTCOME = TypeAdapter(Outcome)


def read_point(folder: Path, name: str) -> Point:
    """Read a trained point.

    Raises:
        DamagedError: a file is missing, truncated, changed or of the wrong type.
        LabError: a file cannot be read for another reason.
    """
    with _point_readable(folder):
        # Checksums first: a file that does not match is never parsed.
        files = verify_sums(folder)
        point = _results_in(folder, name, files)
        config = point.config
        history = point.history
        read_weights(folder, files, history, _array_names(config))
        if ARCHITECTURE in files:
            history.architecture = (folder / ARCHITECTURE).read_text("utf-8")
            if not isinstance(read_json(folder / ARCHITECTURE), dict):
                raise ValueError(f"{ARCHITECTURE} does not describe a network")
        if config.grid is not None:
            if "map.npz" not in files:
                raise ValueError(f"{SUMS} does not name map.npz")
            history.map_arrays = dict(read_arrays(folder / "map.npz"))
            if config.data.kind == "curve":
                check_basins(history.map_arrays, config.grid)
            else:
                check_map_arrays(history.map_arrays, config.grid)
        for table in map(Path, files):
            if table.suffix == ".csv" and len(table.parts) == 1 and table.name != "metrics.csv":
                history.tables[table.stem] = _read_table(folder / table)
    return point


def read_results(folder: Path, name: str, signature: str) -> Point:
    """Read only what other points are judged by: a point with its outcome and metrics, and without any weights.

    The weights are most of a point. Neither they nor their checksums are read.

    Raises:
        DamagedError: the folder holds a different point, or one of the files that are read is damaged.
        LabError: a file cannot be read for another reason.
    """
    with _point_readable(folder):
        point = _results_in(folder, name, verify_sums(folder, only=RESULTS))
        if signed_in(folder) != signature:
            raise ValueError(f"its signed.json is not that of the point {signature}")
    return point


def _results_in(folder: Path, name: str, files: Collection[str]) -> Point:
    """Return the point in a folder with these files, without its weights, maps and tables."""
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
    description = None
    if DESCRIPTION in files:
        description = DataDescription.model_validate_json((folder / DESCRIPTION).read_bytes())
    return Point(name, folder, config, history, outcome, description)


def _read_table(file: Path) -> list[dict[str, float]]:
    rows = [{key: float(value) for key, value in row.items()} for row in read_rows(file.read_bytes())]
    if not rows:
        raise ValueError(f"{file.name} has no rows")
    return rows


def _array_names(config: Config) -> list[str] | None:
    """Return the names of the arrays in a point's snapshots; None if they are not known."""
    # Only the function of a model of one's own knows the names of its arrays.
    if isinstance(config.model, KerasModel):
        return None
    # A map has no weights, and balls on a curve have positions instead.
    if config.grid is not None:
        return []
    if config.balls is not None:
        return [POSITIONS]
    return array_names(config.model)


def read_own_point(folder: Path, name: str, signature: str) -> Point:
    """Read a trained point, and check that it is the expected one and has a run.json.

    Raises:
        DamagedError: the folder holds a different point, or is damaged.
        LabError: a file cannot be read for another reason.
    """
    point = read_point(folder, name)
    with _point_readable(folder):
        received = signed_in(folder)
    if received != signature:
        raise DamagedError(
            f"{folder} holds a different point.",
            expected=f"a signed.json whose SHA-256 starts with {signature}",
            received=received,
            fix=f"delete {folder} and retrain the point",
        )
    if not read_run(folder):
        raise DamagedError(
            f"The point in {folder} has no record of how it was trained.",
            expected="a run.json as training writes it",
            received="a missing or invalid run.json",
            fix=f"delete {folder} and retrain the point",
        )
    return point


def read_own_config(folder: Path) -> Config:
    """Read only the config of a point; its other files may be missing or damaged.

    Raises:
        DamagedError: config.json is missing or damaged.
        LabError: config.json cannot be read for another reason.
    """
    with _point_readable(folder):
        return _config_in(folder)


def _config_in(folder: Path) -> Config:
    composed = read_json(folder / "config.json")
    try:
        return read_config(composed, trained=True)
    except LabError as error:
        # The message is for users who typed a config. Here it only explains how the file is damaged.
        raise ValueError(str(error)) from None


def _point_readable(folder: Path) -> AbstractContextManager[None]:
    return readable(
        f"The trained point in {folder}",
        expected="config.json, metrics.csv, weights.npz and outcome.json as training writes them",
        fix=f"delete {folder} and retrain the point",
    )


def read_journal(content: bytes) -> list[Metric]:
    """Parse the content of a journal.

    Raises:
        ValueError: the content is truncated or was changed.
    """
    return [
        Metric(int(row["step"]), int(row["timestamp"]), row["name"], float(row["value"]))
        for row in read_rows(content, Metric._fields)
    ]


def read_run(folder: Path) -> RunRecord | None:
    """Read the run.json of a point's folder.

    Returns:
        Its content, or None if it is missing or damaged, because a point can be trained without it.

    Raises:
        LabError: run.json exists, but cannot be read.
    """
    file = folder / "run.json"
    try:
        with readable(str(file), expected="a run.json as training writes it", fix=f"delete {folder}"):
            return RUN_RECORD.validate_json(file.read_bytes(), strict=True)
    except DamagedError:
        return None


def read_attempt(folder: Path) -> str | None:
    """Return the id of the attempt in a point's folder, or None if its run.json is missing or damaged.

    Raises:
        LabError: run.json exists, but cannot be read.
    """
    run = read_run(folder)
    if run is None:
        return None
    return run.attempt


def signed_in(folder: Path) -> str:
    """Return the signature of the signed.json in a point's folder, or an empty string if there is none.

    Raises:
        OSError: signed.json exists, but cannot be read.
    """
    try:
        return short_hash((folder / "signed.json").read_bytes())
    except MISSING:
        return ""


def read_signed(folder: Path) -> dict[str, Any] | None:
    """Return what was signed of a point, or None if its signed.json is missing or damaged.

    For described data also with the checksum of its raw rows, as `RAW_ROWS`: those are the same for every split.

    Raises:
        LabError: signed.json exists, but cannot be read.
    """
    file = folder / "signed.json"
    try:
        with readable(str(file), expected="a signed.json as training writes it", fix=f"delete {folder}"):
            content = read_json(file)
            config = content.get("config")
            if not isinstance(config, dict):
                raise ValueError("not the signed text of a point")
            # Checked here, because the repeats of a point are told apart by them.
            seeds_in(config)
            if (folder / DESCRIPTION).exists():
                description = DataDescription.model_validate_json((folder / DESCRIPTION).read_bytes())
                content[RAW_ROWS] = description.sha256
            return content
    except DamagedError:
        return None
