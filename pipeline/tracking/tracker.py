"""The runs of an MLflow experiment: written with explicit ids, so that no MLFLOW_RUN_ID of the environment counts.

This module, store.py and models.py are the only ones that import mlflow.
"""

from __future__ import annotations

import getpass
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.backends.shared.history import Metric
from pipeline.config.schema import Config, Tracking, flatten
from pipeline.points.point import Outcome
from pipeline.tracking.dataset import Dataset
from pipeline.tracking.pages.views import LEAST_LOSS, LOG_LOSS
from pipeline.tracking.store import answered, open_store

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
    def runs(self, signature: str | None = None, sweep: str | None = None, deleted: bool = False) -> list[TrackedRun]:
        """The runs of the experiment that this program wrote, oldest first.

        Args:
            signature: only those of one point.
            sweep: only that of a sweep, by its key.
            deleted: those in MLflow's bin too.
        """
        from mlflow.entities import ViewType

        chosen = f"tags.signature = '{signature}'" if signature else ""
        if sweep is not None:
            chosen = f"tags.`lab.role` = 'sweep' and tags.`lab.sweep` = '{sweep}'"
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
    def start_run(self, name: str, tags: Mapping[str, str], started: int | None = None) -> str:
        """Create a run that reads RUNNING, and return its id.

        Args:
            name: what it is called.
            tags: its tags; `mlflow.parentRunId` names the run that it is to hang below.
            started: milliseconds since 1970; None: now.
        """
        run = self.client.create_run(
            self.experiment_id,
            start_time=started,
            run_name=name,
            tags={"mlflow.user": _user(), "mlflow.source.name": "pipeline.train", **tags},
        )
        return str(run.info.run_id)

    @answered
    def reopen_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Let a run read RUNNING again."""
        self.client.update_run(run_id, "RUNNING")
        self.tag(run_id, tags)

    @answered
    def delete_run(self, run_id: str) -> None:
        """Move a run to MLflow's bin, and delete its models, which would be listed without it."""
        self._remove_models([run_id])
        self.client.delete_run(run_id)

    @answered
    def remove_runs(self, run_ids: Sequence[str]) -> bool:
        """Delete runs with their models and artifacts.

        Returns:
            Whether they are gone for good. A server's are in its bin, which only its host can empty.
        """
        self._remove_models(run_ids)
        if not self.local:
            for run_id in run_ids:
                self.client.delete_run(run_id)
            return False
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        # As `mlflow gc` does it, which besides what it is told empties the bin of all other experiments.
        for run_id in run_ids:
            artifacts = get_artifact_repository(self.client.get_run(run_id).info.artifact_uri)
            artifacts.delete_artifacts()  # type: ignore[no-untyped-call]
            self.client._tracking_client.store._hard_delete_run(run_id)
        return True

    def _remove_models(self, run_ids: Sequence[str]) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        models, token = [], None
        while True:
            page = self.client.search_logged_models([self.experiment_id], page_token=token)
            models += [model for model in page if model.source_run_id in run_ids]
            token = page.token
            if not token:
                break
        for model in models:
            if not self.local:
                self.client.delete_logged_model(model.model_id)
                continue
            artifacts = get_artifact_repository(model.artifact_location)
            artifacts.delete_artifacts()  # type: ignore[no-untyped-call]
            self.client._tracking_client.store._hard_delete_logged_model(model.model_id)

    @answered
    def log_config(self, run_id: str, config: Config, known: Collection[str] = ()) -> None:
        """Every key of the config as a parameter, and the logarithm of the rate, which a chart can put on an axis.

        Args:
            run_id: the run.
            config: the point's.
            known: parameters that the run has already; MLflow refuses another value for them.
        """
        from mlflow.entities import Param

        values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in flatten(config)}
        values["log10_learning_rate"] = f"{math.log10(config.optimizer.learning_rate):g}"
        left = {key: value for key, value in values.items() if key not in known and key not in NOT_PARAMS}
        params = [Param(key, value[:6000]) for key, value in left.items()]
        for start in range(0, len(params), PARAMS_BATCH):
            self.client.log_batch(run_id, params=params[start : start + PARAMS_BATCH])

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

    def log_outcome(self, run_id: str, config: Config, outcome: Outcome, timestamp: int) -> None:
        """What a run came to, once: best/..., final/..., time, divergence, and its rate and size as numbers.

        These come last, because the comparison page opens with the first metric of all.
        """
        values = {f"best/{name}": value for name, value in outcome.best.items()}
        values |= {f"final/{name}": value for name, value in outcome.final.items()}
        values |= {"time/seconds": outcome.seconds, "time/seconds_per_epoch": outcome.seconds_per_epoch}
        values["diverged"] = float(outcome.outcome == "diverged")
        if outcome.diverged_step is not None:
            values["diverged_step"] = float(outcome.diverged_step)
        if outcome.last_finite_loss is not None:
            values["last_finite_loss"] = outcome.last_finite_loss
        if outcome.outcome == "finished" and "train/loss" in outcome.final:
            values[LOG_LOSS] = math.log10(max(outcome.final["train/loss"], LEAST_LOSS))
        if config.grid is None:  # a map has many
            values["hp/learning_rate"] = config.optimizer.learning_rate
        if config.grid is None and config.model.hidden_size is not None:
            values["hp/hidden_size"] = float(config.model.hidden_size)
        self.log_values(run_id, values, timestamp)

    @answered
    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, value[:8000]) for key, value in tags.items()])

    @answered
    def log_dataset(self, run_id: str, data: Dataset) -> None:
        """Say what a run was trained on; the same data set again changes nothing."""
        from mlflow.entities import Dataset as MlflowDataset
        from mlflow.entities import DatasetInput, InputTag

        entity = MlflowDataset(data.name, data.digest, data.source_type, data.source, data.schema, data.profile)
        context = [InputTag("mlflow.data.context", "training")]
        self.client.log_inputs(run_id, datasets=[DatasetInput(entity, context)])

    @answered
    def experiment_tags(self) -> dict[str, str]:
        """Tags of the experiment."""
        return dict(self.client.get_experiment(self.experiment_id).tags)

    @answered
    def tag_experiment(self, tags: Mapping[str, str]) -> None:
        """Set tags of the experiment; those that say so already are left alone."""
        there = self.experiment_tags()
        for key, value in tags.items():
            if there.get(key) != value:
                self.client.set_experiment_tag(self.experiment_id, key, value)

    def address(self, run_id: str) -> str:
        """Where the UI shows a run's artifacts, as a link within it."""
        return f"#/experiments/{self.experiment_id}/runs/{run_id}/artifacts"

    @answered
    def log_folder(self, run_id: str, folder: Path) -> None:
        """Copy a folder to the run's artifacts."""
        self.client.log_artifacts(run_id, str(folder))

    @answered
    def log_file(self, run_id: str, file: Path, folder: str) -> None:
        """Copy a file to a folder of the run's artifacts, in the place of one that is there."""
        self.client.log_artifact(run_id, str(file), folder)

    @answered
    def artifacts(self, run_id: str, folder: str) -> list[str]:
        """What lies in a folder of the run's artifacts, as paths among these."""
        return [str(file.path) for file in self.client.list_artifacts(run_id, folder)]

    @answered
    def download(self, run_id: str, path: str, destination: Path) -> None:
        """Copy one of the run's artifacts to its path below a folder."""
        written, place = Path(self.client.download_artifacts(run_id, path, str(destination))), destination / path
        if written != place:  # a server's comes without the folders that its path names
            place.parent.mkdir(parents=True, exist_ok=True)
            written.rename(place)

    @answered
    def remove_artifacts(self, run_id: str, folder: str) -> None:
        """Delete a folder of the run's artifacts."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        address = self.client.get_run(run_id).info.artifact_uri
        artifacts = get_artifact_repository(address, tracking_uri=self.client.tracking_uri)
        artifacts.delete_artifacts(folder)  # type: ignore[no-untyped-call]

    @answered
    def end_run(self, run_id: str, status: Status, ended: int | None = None) -> None:
        """Close a run as what it was; `ended` in milliseconds since 1970, None: now."""
        self.client.set_terminated(run_id, status, ended)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no passwd entry, as in some containers
        return "unknown"
