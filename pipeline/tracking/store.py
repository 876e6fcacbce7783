"""The MLflow store: its location, how to open it, and how calls handle locks and errors.

It is an SQLite database at mlruns/mlflow.db with artifacts in mlruns/artifacts, or a tracking server. All access goes
through one client, independent of MLflow's global state. If another program has locked the store, calls wait; any
other error becomes a `LabError`.
"""

from __future__ import annotations

import functools
import gc
import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from urllib.parse import quote

from filelock import FileLock

from pipeline.config.schema import Tracking
from pipeline.system.errors import LabError
from pipeline.system.files import write_file
from pipeline.tracking.location import DATABASE, follow_project

if TYPE_CHECKING:
    from mlflow import MlflowClient

P = ParamSpec("P")
R = TypeVar("R")
# The environment variables from which MLflow's client reads the credentials for a server. They are never written to a
# file.
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
# Timeout and retry interval for a store that another program has locked. A try takes up to 20 s, MLflow's own timeout,
# or fails immediately if two transactions block each other, because SQLite then rejects one of them at once.
LOCK_SECONDS = 90.0
LOCK_PAUSE = 0.1
# SQLite's messages for problems of the machine (disk, permissions, memory); the database itself may be intact.
REFUSED = ("disk is full", "disk I/O error", "unable to open database file", "readonly database", "out of memory")


def store_uri(project: Path) -> str:
    """Return the address of the local store of a project."""
    return _database_uri(project / "mlruns" / DATABASE)


def _database_uri(file: Path) -> str:
    """Return the address of an SQLite database."""
    # SQLAlchemy decodes the path, in which a ? would otherwise begin the options. The driver is named because MLflow
    # takes the path of an address that begins with sqlite:/// as it is, and would create folders with encoded names.
    return f"sqlite+pysqlite:///{quote(str(file))}"


def load(local: bool) -> None:
    """Import MLflow, which takes about two seconds of one core.

    Args:
        local: whether to import the SQLite store too.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # These log every failed try; the first also logs errors that it raises. We report only the last failure.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    # Garbage collection would take a quarter of the import time, and would find nothing to free.
    collects = gc.isenabled()
    gc.disable()
    try:
        import mlflow

        if local:
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - loaded here, so that opening a store is fast
    finally:
        if collects:
            gc.enable()


def open_store(tracking: Tracking, experiment: str, project: Path) -> tuple[MlflowClient, str]:
    """Open the store and an experiment in it, creating them if necessary.

    Args:
        tracking: which store to open.
        experiment: name of the MLflow experiment, which is the name of the study.
        project: folder that holds mlruns/.

    Returns:
        The client, and the id of the experiment.

    Raises:
        LabError: a server does not answer, or the store cannot be opened.

    Example:
        >>> client, experiment_id = open_store(Tracking(name="local", uri=None), "three_bits", PROJECT)
        >>> client.search_runs([experiment_id])
    """
    load(tracking.name == "local")
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    folder: Path | None = None
    if tracking.name == "local":
        folder = project / "mlruns"
    uri = tracking.uri or store_uri(project)
    place = tracking.uri or str(project / "mlruns" / DATABASE)
    try:
        return _retry_while_locked(lambda: _open(uri, experiment, folder))
    # ValueError: a variable that MLflow cannot read, such as MLFLOW_HTTP_REQUEST_TIMEOUT=abc.
    except (MlflowException, SQLAlchemyError, CommandError, OSError, ValueError, sqlite3.Error) as error:
        raise LabError(
            "The MLflow store cannot be opened.",
            expected=f"a store for the installed version of MLflow at {place}",
            received=_reason(error),
            fix=_fix(error, local=folder is not None),
        ) from None


def _fix(error: Exception, local: bool) -> str:
    unreadable = isinstance(error, ValueError) and "MLFLOW_" in str(error)
    if unreadable or "max_retries" in str(error):
        return "unset or correct the variable MLFLOW_... in the environment; docs/machines.md lists those in use"
    if not local:
        return "start the server, or fix tracking.uri or the credentials"
    # Never suggest to replace a database that may be intact.
    if isinstance(error, OSError) or any(reason in str(error) for reason in REFUSED):
        return "free some disk space or fix the permissions, then run the same command again; the store may be intact"
    return "move mlruns/mlflow.db aside and run python -m pipeline.rebuild"


def store_call(method: Callable[P, R]) -> Callable[P, R]:
    """Wrap a function that calls the store: retry while the store is locked, and raise other errors as `LabError`."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return _retry_while_locked(lambda: method(*args, **kwargs))
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise LabError(
                "A call to MLflow failed.",
                expected="a writable store, or a tracking server that answers",
                received=_reason(error),
            ) from None

    return call


def _retry_while_locked(action: Callable[[], R]) -> R:
    """Repeat an action while another program has the store locked, and once after a uniqueness conflict."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    give_up = time.monotonic() + LOCK_SECONDS
    collided = False
    while True:
        try:
            return action()
        except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
            # Two processes inserted the same row. On retry, the second one finds that it already exists.
            again = not collided and "UNIQUE constraint failed" in str(error)
            collided |= again
            if not again and ("database is locked" not in str(error) or time.monotonic() >= give_up):
                raise
            time.sleep(LOCK_PAUSE)


def _open(uri: str, experiment: str, folder: Path | None) -> tuple[MlflowClient, str]:
    """Open a store; `folder` is the folder of a local store, or None for a server."""
    from mlflow import MlflowClient

    if folder is None:
        client = MlflowClient(uri)
        return client, _experiment(client, experiment, None)
    folder.mkdir(exist_ok=True)
    # MLflow fails if two processes create the tables of a new database at the same time.
    with FileLock(folder / ".lock"):
        # MLflow could never open a half-created database, so the file is renamed to its name only once it is complete.
        if not (folder / DATABASE).exists():
            write_file(
                folder / DATABASE, lambda file: MlflowClient(_database_uri(file)).search_experiments(max_results=1)
            )
        follow_project(folder)
        client = MlflowClient(uri)
        return client, _experiment(client, experiment, (folder / "artifacts" / experiment).as_uri())


def _experiment(client: MlflowClient, name: str, artifact_location: str | None) -> str:
    """Return the id of an experiment, creating it if necessary."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        if artifact_location and found.artifact_location.startswith("mlflow-artifacts:"):
            raise LabError(
                f"Artifacts of {name} cannot be written to the MLflow store.",
                expected=f"an experiment that keeps them in {artifact_location}",
                received=f"{found.artifact_location}, where only the server in which {name} was created can write",
                fix="give that experiment another name in MLflow (make ui), then run python -m pipeline.rebuild",
            )
        return str(found.experiment_id)
    return str(client.create_experiment(name, artifact_location=artifact_location))


def _reason(error: Exception) -> str:
    """Summarize an error of MLflow in one line, because its own text repeats the whole request."""
    text = str(error).strip()
    # MLflow has no exception types for these; the status code is only in the text.
    if re.search(r"error code 401\b|\b401 Client Error", text):
        unset = " or ".join(name for name in CREDENTIALS if not os.environ.get(name))
        if unset:
            return f"the server requires a user and a password (401), but the environment does not set {unset}"
        return f"the server rejected the user and password in {' and '.join(CREDENTIALS)} (401)"
    if re.search(r"error code 403\b|\b403 Client Error", text):
        return f"the user in {CREDENTIALS[0]} does not have permission (403)"
    request = re.search(r"API request to (\w+://[^/]+)\S* failed", text)
    if not request:
        return text.splitlines()[0]
    cause = re.search(r"\[Errno -?\d+\] ([^\"'()]+)", text) or re.search(r"Caused by (\w+)", text)
    if not cause:
        return f"{request[1]} does not answer"
    return f"{request[1]} does not answer: {cause[1]}"
