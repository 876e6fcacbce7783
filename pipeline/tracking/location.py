"""Where the artifacts of the local store are: MLflow records absolute locations, which must follow the project.

This module does not import mlflow.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.system.errors import LabError
from pipeline.system.wording import counted

log = logging.getLogger(__name__)

DATABASE = "mlflow.db"
# The columns in which MLflow records where artifacts are.
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
# How long to wait for another program that writes to the store.
LOCK_SECONDS = 20.0


def local_path(address: str) -> Path | None:
    """Return the path that an address of artifacts stands for; None if it is not on this machine."""
    parts = urlsplit(address)
    if parts.scheme == "file" and not parts.netloc:
        return Path(unquote(parts.path))
    if not parts.scheme:
        return Path(address)
    return None


def follow_project(mlruns: Path) -> None:
    """Update the artifact locations in a store that was moved or copied with its project, and log that.

    Only locations below the earlier mlruns/ change. An experiment for which a user chose another location keeps it.

    Args:
        mlruns: folder of the store, an absolute path; the store must exist.

    Raises:
        LabError: the store was moved, and cannot be written.
        sqlite3.Error: it is not an SQLite database, or another program has locked it.
    """
    address = f"{(mlruns / DATABASE).as_uri()}?mode=rw"
    # Without an isolation level, Python begins no transactions of its own.
    with closing(sqlite3.connect(address, uri=True, timeout=LOCK_SECONDS, isolation_level=None)) as database:
        earlier = _earlier_places(database, mlruns)
        if not earlier:
            return
        places = ", ".join(sorted({str(place.parent) for place in earlier.values()}))
        try:
            database.execute("BEGIN IMMEDIATE")
            # Asked again, because another process may have updated the locations since.
            earlier = _earlier_places(database, mlruns)
            count = sum(_update(database, prefix, place, mlruns) for prefix, place in earlier.items())
            database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
            raise LabError(
                f"The MLflow store was moved or copied from {places}, and its artifact locations cannot be updated.",
                expected=f"a writable {mlruns / DATABASE}",
                received=str(error),
                fix="fix the permissions, or copy the project to a folder where you may write, and use it there",
            ) from None
    if count:
        updated = counted(count, "artifact location")
        log.warning(f"The MLflow store was moved or copied from {places} to {mlruns.parent}; {updated} updated.")


def _earlier_places(database: sqlite3.Connection, mlruns: Path) -> dict[str, Path]:
    """Return the earlier paths of mlruns/, by their spelling in the locations of experiments."""
    if "experiments" not in _tables(database):
        return {}
    places = {}
    found = database.execute("SELECT CAST(experiment_id AS TEXT), name, artifact_location FROM experiments")
    for number, name, location in found:
        # `open_store` puts the artifacts of an experiment in mlruns/artifacts/NAME, and `pipeline.ui` those of one that
        # is created in MLflow's pages in mlruns/artifacts/ID.
        prefix, _, folder = (location or "").rpartition("/artifacts/")
        place = local_path(prefix)
        if place is None or place.name != mlruns.name or unquote(folder) not in (name, number):
            continue
        if place != mlruns and not _is_same_store(place, mlruns):
            places[prefix] = place
    return places


def _is_same_store(place: Path, mlruns: Path) -> bool:
    """Return whether two paths lead to one store, for instance through a link."""
    with suppress(OSError):
        return (place / DATABASE).samefile(mlruns / DATABASE)
    return False


def _update(database: sqlite3.Connection, prefix: str, place: Path, mlruns: Path) -> int:
    """Replace the start of all locations below an earlier place, and return how many there were."""
    count = 0
    tables = _tables(database)
    # MLflow itself gives the experiment Default a path instead of an address.
    for old in {f"{prefix}/", f"{place}/"}:
        for table, column in COLUMNS:
            if table in tables:
                count += database.execute(
                    f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "  # noqa: S608 - our own names
                    f"WHERE substr({column}, 1, length(:old)) = :old",
                    {"old": old, "new": f"{mlruns.as_uri()}/"},
                ).rowcount
    return count


def _tables(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
