"""The runs of an MLflow experiment: written with explicit ids, so that no MLFLOW_RUN_ID of the environment counts.

This module and store.py are the only ones that import mlflow.
"""

from __future__ import annotations

import getpass
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.config import Config, Tracking, flatten
from pipeline.history import Metric
from pipeline.points import Outcome
from pipeline.store import answered, open_store

Status = Literal["FINISHED", "FAILED", "KILLED"]
BATCH, PARAMS_BATCH = 1000, 100
"""Metrics and parameters that MLflow takes in one call."""
NOT_PARAMS = {"dry_run", "force"}


@dataclass(frozen=True)
class TrackedRun:
    """A run that MLflow has: its id, status, tags, and the names of its parameters."""

    run_id: str
    status: str
    tags: dict[str, str]
    params: frozenset[str]


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
        self.local = tracking.name == "local"
        self.client, self.experiment_id = open_store(tracking, experiment, project)

    @answered
    def runs(self, signature: str | None = None, deleted: bool = False) -> list[TrackedRun]:
        """The runs of the experiment that this program wrote, oldest first.

        Args:
            signature: only those of one point.
            deleted: those in MLflow's bin too.
        """
        from mlflow.entities import ViewType

        chosen = f"tags.signature = '{signature}'" if signature else ""
        view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
        found, token = [], None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], chosen, view, 1000, order_by=["attributes.start_time"], page_token=token
            )
            found += [
                TrackedRun(run.info.run_id, run.info.status, dict(run.data.tags), frozenset(run.data.params))
                for run in page
                if "lab.role" in run.data.tags
            ]
            token = page.token
            if not token:
                return found

    @answered
    def start_run(self, name: str, parent: str | None, tags: Mapping[str, str], started: int | None = None) -> str:
        """Create a run that reads RUNNING, and return its id.

        Args:
            name: what it is called.
            parent: run id of its sweep.
            tags: its tags.
            started: milliseconds since 1970; None: now.
        """
        parentage = {"mlflow.parentRunId": parent} if parent else {}
        run = self.client.create_run(
            self.experiment_id,
            start_time=started,
            run_name=name,
            tags={"mlflow.user": _user(), "mlflow.source.name": "pipeline.train", **parentage, **tags},
        )
        return str(run.info.run_id)

    @answered
    def reopen_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Let a run read RUNNING again."""
        self.client.update_run(run_id, "RUNNING")
        self.tag(run_id, tags)

    @answered
    def delete_run(self, run_id: str) -> None:
        """Move a run to MLflow's bin."""
        self.client.delete_run(run_id)

    @answered
    def remove_runs(self, run_ids: Sequence[str]) -> bool:
        """Delete runs with their models and artifacts.

        Returns:
            Whether they are gone for good. A server's are in its bin, which only its host can empty.
        """
        models, token = [], None
        while True:
            page = self.client.search_logged_models([self.experiment_id], page_token=token)
            models += [model for model in page if model.source_run_id in run_ids]
            token = page.token
            if not token:
                break
        if not self.local:
            for model in models:
                self.client.delete_logged_model(model.model_id)
            for run_id in run_ids:
                self.client.delete_run(run_id)
            return False
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        # As `mlflow gc` does it, which besides what it is told empties the bin of all other experiments.
        store = self.client._tracking_client.store
        for model in models:
            artifacts = get_artifact_repository(model.artifact_location)
            artifacts.delete_artifacts()  # type: ignore[no-untyped-call]
            store._hard_delete_logged_model(model.model_id)
        for run_id in run_ids:
            artifacts = get_artifact_repository(self.client.get_run(run_id).info.artifact_uri)
            artifacts.delete_artifacts()  # type: ignore[no-untyped-call]
            store._hard_delete_run(run_id)
        return True

    @answered
    def log_config(self, run_id: str, config: Config, started: int, known: Collection[str] = ()) -> None:
        """Every key of the config as a parameter, and the twins that a chart can put on an axis.

        Args:
            run_id: the run.
            config: the point's.
            started: timestamp of the twins, milliseconds since 1970.
            known: parameters that the run has already; MLflow refuses another value for them.
        """
        from mlflow.entities import Param

        values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in flatten(config)}
        values["log10_learning_rate"] = f"{math.log10(config.optimizer.learning_rate):g}"
        left = {key: value for key, value in values.items() if key not in known and key not in NOT_PARAMS}
        params = [Param(key, value[:6000]) for key, value in left.items()]
        for start in range(0, len(params), PARAMS_BATCH):
            self.client.log_batch(run_id, params=params[start : start + PARAMS_BATCH])
        twins = {"hp/learning_rate": config.optimizer.learning_rate}
        if config.model.hidden_size is not None:
            twins["hp/hidden_size"] = float(config.model.hidden_size)
        self.log_values(run_id, twins, started)

    @answered
    def log_metrics(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """Metrics with their own steps and timestamps, in batches; a metric that is there already changes nothing."""
        from mlflow.entities import Metric as MlflowMetric

        for start in range(0, len(metrics), BATCH):
            batch = [MlflowMetric(m.name, m.value, m.timestamp, m.step) for m in metrics[start : start + BATCH]]
            self.client.log_batch(run_id, metrics=batch)

    def log_values(self, run_id: str, values: Mapping[str, float], timestamp: int) -> None:
        """Single values, as metrics of step 0."""
        self.log_metrics(run_id, [Metric(0, timestamp, name, value) for name, value in values.items()])

    def log_outcome(self, run_id: str, outcome: Outcome, timestamp: int) -> None:
        """What a run came to, once: best/..., final/..., time, divergence."""
        values = {f"best/{name}": value for name, value in outcome.best.items()}
        values |= {f"final/{name}": value for name, value in outcome.final.items()}
        values |= {"time/seconds": outcome.seconds, "time/seconds_per_epoch": outcome.seconds_per_epoch}
        values["diverged"] = float(outcome.outcome == "diverged")
        if outcome.diverged_step is not None:
            values["diverged_step"] = float(outcome.diverged_step)
        if outcome.last_finite_loss is not None:
            values["last_finite_loss"] = outcome.last_finite_loss
        self.log_values(run_id, values, timestamp)

    @answered
    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, value[:8000]) for key, value in tags.items()])

    @answered
    def log_folder(self, run_id: str, folder: Path) -> None:
        """Copy a folder to the run's artifacts."""
        self.client.log_artifacts(run_id, str(folder))

    @answered
    def end_run(self, run_id: str, status: Status, ended: int | None = None) -> None:
        """Close a run as what it was; `ended` in milliseconds since 1970, None: now."""
        self.client.set_terminated(run_id, status, ended)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no passwd entry, as in some containers
        return "unknown"
