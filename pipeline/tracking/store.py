"""The MLflow store: where it is, how it is opened, and how it is asked.

It is sqlite at mlruns/mlflow.db with artifacts in mlruns/artifacts, or a server. Everything goes through one client:
no global state of MLflow's is leaned on. A store that another program has locked is waited for; what else goes wrong
becomes one message.
"""

from __future__ import annotations

import functools
import gc
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from filelock import FileLock

from pipeline.config.schema import Tracking
from pipeline.system.errors import LabError
from pipeline.system.files import write_file

if TYPE_CHECKING:
    from mlflow import MlflowClient

P = ParamSpec("P")
R = TypeVar("R")
DATABASE = "mlflow.db"

CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
"""Where MLflow's client finds what a server lets it in by. It is written nowhere."""
LOCK_SECONDS, LOCK_PAUSE = 90.0, 0.1
"""How long a store is waited for that another program has locked, and how long between tries. A try takes MLflow's own
20 s, or no time at all where two writers stand in each other's way: sqlite turns one of them away at once."""


def store_uri(project: Path) -> str:
    """Address of the local store."""
    return f"sqlite:///{project / 'mlruns' / DATABASE}"


REFUSED = ("disk is full", "disk I/O error", "unable to open database file", "readonly database", "out of memory")
"""What SQLite says where the machine does not let it read or write a database, which may be whole."""


def load(local: bool) -> None:
    """Import MLflow, which takes some two seconds of one core.

    Args:
        local: whether what writes to sqlite is needed too.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # mlflow sets its own level when it is imported
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # logs what it raises
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it tells of every try; we tell of the last
    collects = gc.isenabled()
    gc.disable()  # looking for what can be thrown away, among all that is imported, takes a quarter of the time
    try:
        import mlflow

        if local:
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    finally:
        if collects:
            gc.enable()


def open_store(tracking: Tracking, experiment: str, project: Path) -> tuple[MlflowClient, str]:
    """Open the store, which is made where there is none.

    Args:
        tracking: which store.
        experiment: name of an MLflow experiment, which is made too; the name of the study.
        project: folder that holds mlruns/.

    Returns:
        The client, and the experiment's id.

    Raises:
        LabError: a server does not answer, or the store cannot be opened.
    """
    load(tracking.name == "local")
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    folder = project / "mlruns" if tracking.name == "local" else None
    uri = tracking.uri or store_uri(project)
    try:
        return _past_locks(lambda: _open(uri, experiment, folder))
    except (MlflowException, SQLAlchemyError, CommandError, OSError) as error:
        raise LabError(
            "The MLflow store cannot be opened.",
            expected=f"a store of this MLflow's version at {uri}",
            received=_reason(error),
            fix=_fix(error, local=folder is not None),
        ) from None


def _fix(error: Exception, local: bool) -> str:
    if not local:
        return "start the server, or fix tracking.uri or the credentials"
    if isinstance(error, OSError) or any(reason in str(error) for reason in REFUSED):
        return "make room or fix the permissions, then run the same command again; the store may be whole"
    return "move mlruns/mlflow.db away and type python -m pipeline.rebuild"


def answered(method: Callable[P, R]) -> Callable[P, R]:
    """Wait for a store that is locked; turn what else goes wrong into one message: a server has gone, or refuses."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return _past_locks(lambda: method(*args, **kwargs))
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise LabError(
                "MLflow did not take what was to be logged.",
                expected="a store that can be written, or a tracking server that answers",
                received=_reason(error),
            ) from None

    return call


def _past_locks(action: Callable[[], R]) -> R:
    """Do something with the store, again while another program has it locked, and once more after a collision."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    give_up, collided = time.monotonic() + LOCK_SECONDS, False
    while True:
        try:
            return action()
        except (MlflowException, SQLAlchemyError) as error:
            # Two writers of the same row: the one that came second finds it there when it looks again.
            again = not collided and "UNIQUE constraint failed" in str(error)
            collided |= again
            if not again and ("database is locked" not in str(error) or time.monotonic() >= give_up):
                raise
            time.sleep(LOCK_PAUSE)


def _open(uri: str, experiment: str, folder: Path | None) -> tuple[MlflowClient, str]:
    """`folder`: that of the local store; None: a server's."""
    from mlflow import MlflowClient

    if folder is None:
        client = MlflowClient(uri)
        return client, _experiment(client, experiment, None)
    folder.mkdir(exist_ok=True)
    with FileLock(folder / ".lock"):  # a fresh store must be made by one process alone
        if not (folder / DATABASE).exists():  # and whole: one whose making was killed could never be opened
            write_file(
                folder / DATABASE, lambda file: MlflowClient(f"sqlite:///{file}").search_experiments(max_results=1)
            )
        client = MlflowClient(uri)
        return client, _experiment(client, experiment, (folder / "artifacts" / experiment).as_uri())


def _experiment(client: MlflowClient, name: str, artifact_location: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(name, artifact_location=artifact_location))


def _reason(error: Exception) -> str:
    """What went wrong, in a line: MLflow puts the whole request around a refused connection."""
    text = str(error).strip()
    if re.search(r"error code 401\b|\b401 Client Error", text):
        unset = " and no ".join(name for name in CREDENTIALS if not os.environ.get(name))
        if unset:
            return f"the server asks for a user and a password (401), and the environment has no {unset}"
        return f"the server does not know the user and password of {' and '.join(CREDENTIALS)} (401)"
    if re.search(r"error code 403\b|\b403 Client Error", text):
        return f"the server does not allow this to the user of {CREDENTIALS[0]} (403)"
    request = re.search(r"API request to (\w+://[^/]+)\S* failed", text)
    cause = re.search(r"\[Errno -?\d+\] ([^\"'()]+)", text) or re.search(r"Caused by (\w+)", text)
    if request:
        return f"{request[1]} does not answer" + (f": {cause[1]}" if cause else "")
    return text.splitlines()[0]
