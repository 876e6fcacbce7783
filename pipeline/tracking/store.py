"""The MLflow store: its location, how to open it, and how calls handle locks and errors.

It is an SQLite database at mlruns/mlflow.db with artifacts in mlruns/artifacts, or a tracking server. All access goes
through one client, independent of MLflow's global state. If another program has locked the store, calls wait; any
other error becomes a `LabError`.
"""

from __future__ import annotations

import functools
import gc
import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from urllib.parse import quote

from filelock import FileLock

from pipeline.config.schema import Tracking
from pipeline.system.errors import LabError, UnavailableError
from pipeline.system.files import write_file
from pipeline.tracking.causes import call_error, cause_of
from pipeline.tracking.location import DATABASE, follow_project
from pipeline.tracking.template import new_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
# Timeout and retry interval for a store that another program has locked. A try takes up to 20 s, MLflow's own timeout,
# or fails immediately if two transactions block each other, because SQLite then rejects one of them at once.
LOCK_SECONDS = 90.0
LOCK_PAUSE = 0.1
# What a person types for the local store in the project's folder; relative, because a project can be moved.
TYPED = f"sqlite:///mlruns/{DATABASE}"
# What SQLite, PostgreSQL and MySQL say when two processes insert the same row.
COLLISIONS = ("UNIQUE constraint failed", "duplicate key value violates unique constraint", "Duplicate entry")


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
        cause = cause_of(error)
        # Not always an UnavailableError: the experiments of other studies may be open to the user.
        kind: type[LabError] = LabError
        if cause.everything or cause.in_server:
            kind = UnavailableError
        raise kind(
            "The MLflow store cannot be opened.",
            expected=f"a store for the installed version of MLflow at {place}",
            received=cause.reason,
            fix=f"{cause.fix}, then run the same command again",
        ) from None


def store_call(method: Callable[P, R]) -> Callable[P, R]:
    """Wrap a function that calls the store: retry while the store is locked, and raise other errors as `LabError`."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return _retry_while_locked(lambda: method(*args, **kwargs))
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise call_error(error) from None

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
            again = not collided and any(words in str(error) for words in COLLISIONS)
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
            write_file(folder / DATABASE, lambda file: new_store(file, _create))
        follow_project(folder)
        client = MlflowClient(uri)
        return client, _experiment(client, experiment, (folder / "artifacts" / experiment).as_uri())


def _create(file: Path) -> None:
    """Let MLflow create an empty store, with all its migrations."""
    from mlflow import MlflowClient

    MlflowClient(_database_uri(file)).search_experiments(max_results=1)


def _experiment(client: MlflowClient, name: str, artifact_location: str | None) -> str:
    """Return the id of an experiment, creating it if necessary; one that was deleted in MLflow's UI is restored."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, artifact_location=artifact_location))
    if artifact_location and found.artifact_location.startswith("mlflow-artifacts:"):
        raise LabError(
            f"Artifacts of {name} cannot be written to the MLflow store.",
            expected=f"an experiment that keeps them in {artifact_location}",
            received=f"{found.artifact_location}, where only the server in which {name} was created can write",
            fix="give that experiment another name in MLflow (make ui), then run python -m pipeline.rebuild",
        )
    if found.lifecycle_stage == "deleted":
        _restore(client, found.experiment_id, name)
    return str(found.experiment_id)


def _restore(client: MlflowClient, experiment_id: str, name: str) -> None:
    """Restore a deleted experiment with its runs: MLflow accepts nothing for it, and no other of the same name.

    Raises:
        LabError: the user may not restore it.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.restore_experiment(experiment_id)
    except MlflowException as error:
        raise LabError(
            f"The MLflow experiment {name} was deleted, and could not be restored.",
            expected="an experiment that takes new runs",
            received=cause_of(error).reason,
            fix="have its owner restore it: "
            f"MLFLOW_TRACKING_URI={client.tracking_uri} mlflow experiments restore --experiment-id {experiment_id}",
        ) from None
    log.warning(
        f"the MLflow experiment {name} had been deleted; it and its runs were restored. "
        f"To delete a study for good: python -m pipeline.remove study={name} confirm=true"
    )
