"""MLflow: the only module that imports it.

The store is sqlite at mlruns/mlflow.db with artifacts in mlruns/artifacts, or a server. Everything goes through one
client with explicit run ids: no global state of MLflow's, and no MLFLOW_RUN_ID of the environment, is leaned on.
"""

from __future__ import annotations

import functools
import getpass
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

from filelock import FileLock

from pipeline.config import Config, Tracking, flatten
from pipeline.errors import LabError
from pipeline.history import Metric
from pipeline.points import Outcome

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")
Status = Literal["FINISHED", "FAILED", "KILLED"]
BATCH, PARAMS_BATCH = 1000, 100
"""Metrics and parameters that MLflow takes in one call."""


def store_uri(project: Path) -> str:
    """Address of the local store."""
    return f"sqlite:///{project / 'mlruns' / 'mlflow.db'}"


def _answered(method: Callable[P, R]) -> Callable[P, R]:
    """Turn MLflow's own errors into one message: the server has gone, or refuses."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        from mlflow.exceptions import MlflowException

        try:
            return method(*args, **kwargs)
        except MlflowException as error:
            raise LabError(
                "MLflow did not take what was to be logged.",
                expected="a tracking server that answers",
                received=str(error).splitlines()[0],
                fix="start the server, then run the same command again; points that finished are in .points/",
            ) from None

    return call


class Tracker:
    """Writes runs of one MLflow experiment.

    Args:
        tracking: where the store is.
        experiment: its name; the name of the study.
        project: folder that holds mlruns/.

    Raises:
        LabError: a server does not answer, or the store cannot be opened.
    """

    def __init__(self, tracking: Tracking, experiment: str, project: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        for noisy in ("mlflow", "alembic", "mlflow.store.db.utils"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # it tells of every try; we tell of the last
        from alembic.util.exc import CommandError
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        uri = tracking.uri or store_uri(project)
        artifacts = project / "mlruns" / "artifacts" / experiment
        try:
            if tracking.name == "local":
                (project / "mlruns").mkdir(exist_ok=True)
                with FileLock(project / "mlruns" / ".lock"):  # a fresh store must be made by one process alone
                    self.client = MlflowClient(uri)
                    self.experiment_id = self._experiment(experiment, artifacts.as_uri())
            else:
                self.client = MlflowClient(uri)
                self.experiment_id = self._experiment(experiment, None)
        except (MlflowException, SQLAlchemyError, CommandError, OSError) as error:
            raise LabError(
                "The MLflow store cannot be opened.",
                expected=f"a store of this MLflow's version at {uri}",
                received=str(error).splitlines()[0],
                fix="start the server, or mend tracking.uri; for the local store move mlruns/mlflow.db away",
            ) from None

    def _experiment(self, name: str, artifact_location: str | None) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        return str(self.client.create_experiment(name, artifact_location=artifact_location))

    @_answered
    def start_run(self, name: str, parent: str | None, tags: Mapping[str, str]) -> str:
        """Create a run that reads RUNNING, and return its id."""
        parentage = {"mlflow.parentRunId": parent} if parent else {}
        run = self.client.create_run(
            self.experiment_id,
            run_name=name,
            tags={"mlflow.user": _user(), "mlflow.source.name": "pipeline.train", **parentage, **tags},
        )
        return str(run.info.run_id)

    @_answered
    def log_config(self, run_id: str, config: Config) -> None:
        """Every key of the config as a parameter, and the twins that a chart can put on an axis."""
        from mlflow.entities import Param

        values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in flatten(config)}
        values["log10_learning_rate"] = f"{math.log10(config.optimizer.learning_rate):g}"
        params = [Param(key, value[:6000]) for key, value in values.items()]
        for start in range(0, len(params), PARAMS_BATCH):
            self.client.log_batch(run_id, params=params[start : start + PARAMS_BATCH])
        twins = {"hp/learning_rate": config.optimizer.learning_rate}
        if config.model.hidden_size is not None:
            twins["hp/hidden_size"] = float(config.model.hidden_size)
        self.log_values(run_id, twins)

    @_answered
    def log_metrics(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """Metrics with their own steps and timestamps, in batches."""
        from mlflow.entities import Metric as MlflowMetric

        for start in range(0, len(metrics), BATCH):
            batch = [MlflowMetric(m.name, m.value, m.timestamp, m.step) for m in metrics[start : start + BATCH]]
            self.client.log_batch(run_id, metrics=batch)

    def log_values(self, run_id: str, values: Mapping[str, float]) -> None:
        """Single values, as metrics of step 0."""
        now = time.time_ns() // 1_000_000
        self.log_metrics(run_id, [Metric(0, now, name, value) for name, value in values.items()])

    def log_outcome(self, run_id: str, outcome: Outcome) -> None:
        """What a run came to, once: best/..., final/..., time, divergence."""
        values = {f"best/{name}": value for name, value in outcome.best.items()}
        values |= {f"final/{name}": value for name, value in outcome.final.items()}
        values |= {"time/seconds": outcome.seconds, "time/seconds_per_epoch": outcome.seconds_per_epoch}
        values["diverged"] = float(outcome.outcome == "diverged")
        if outcome.diverged_step is not None:
            values["diverged_step"] = float(outcome.diverged_step)
        if outcome.last_finite_loss is not None:
            values["last_finite_loss"] = outcome.last_finite_loss
        self.log_values(run_id, values)
        self.tag(run_id, {"outcome": outcome.outcome})

    @_answered
    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, value[:8000]) for key, value in tags.items()])

    @_answered
    def log_folder(self, run_id: str, folder: Path) -> None:
        """Copy a folder to the run's artifacts."""
        self.client.log_artifacts(run_id, str(folder))

    @_answered
    def log_figures(self, run_id: str, figures: Iterable[tuple[str, Figure]]) -> None:
        """Figures as plots/NAME.png."""
        for name, figure in figures:
            self.client.log_figure(run_id, figure, f"plots/{name}.png")

    @_answered
    def end_run(self, run_id: str, status: Status) -> None:
        """Close a run as what it was."""
        self.client.set_terminated(run_id, status)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no passwd entry, as in some containers
        return "unknown"
