"""Tell whether the local store has changed since a command ended, without importing MLflow, which takes two seconds."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pipeline.system.files import tree_state
from pipeline.tracking.location import DATABASE, local_path

# What MLflow has of an experiment: the tables with its rows, and with those of its runs.
OF_EXPERIMENT = ("experiments", "experiment_tags", "runs", "logged_models")
OF_RUNS = ("tags", "params", "latest_metrics")
# How long to wait for a program that writes to the store. The sync waits longer.
LOCK_SECONDS = 1.0


def contents(mlruns: Path, study: str) -> str | None:
    """Return a hash of all that the local store has of a study: its experiment, its runs, and their artifacts.

    The history of a metric is represented by its last value, and a file by its size and its modification time.

    Args:
        mlruns: folder of the store.
        study: the name of the experiment.

    Returns:
        None if it cannot be told, because the artifacts are not on this machine for instance, or if a run has the
        status RUNNING: then MLflow has to be asked.
    """
    database = mlruns / DATABASE
    try:
        # Read-only: a store that is missing is not created.
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=LOCK_SECONDS)) as store:
            rows = list(_rows(store, study))
            artifacts = [local_path(place) for place in _locations(store, study)]
            [(running,)] = store.execute(
                "SELECT COUNT(*) FROM runs JOIN experiments USING (experiment_id) "
                "WHERE experiments.name = ? AND runs.status = 'RUNNING'",
                [study],
            )
        if running or not artifacts:
            return None
        found = sorted(rows)
        for folder in artifacts:
            if folder is None:
                return None
            found.append(tree_state(folder))
    except (sqlite3.Error, OSError):
        return None
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def _locations(store: sqlite3.Connection, study: str) -> list[str]:
    return [place for (place,) in store.execute("SELECT artifact_location FROM experiments WHERE name = ?", [study])]


def _rows(store: sqlite3.Connection, study: str) -> Iterator[str]:
    chosen = "SELECT experiment_id FROM experiments WHERE name = ?"
    for table in OF_EXPERIMENT:
        found = store.execute(f"SELECT * FROM {table} WHERE experiment_id IN ({chosen})", [study])  # noqa: S608 - our own names
        yield from (f"{table} {row!r}" for row in found)
    for table in OF_RUNS:
        found = store.execute(
            f"SELECT {table}.* FROM {table} JOIN runs USING (run_uuid) WHERE experiment_id IN ({chosen})",  # noqa: S608 - our own names
            [study],
        )
        yield from (f"{table} {row!r}" for row in found)
