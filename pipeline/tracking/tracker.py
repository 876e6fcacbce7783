"""The runs of an MLflow experiment. Every call has an explicit run id, so MLFLOW_RUN_ID in the environment is ignored.

Only this module, store.py, models.py and internals.py import mlflow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.backends.shared.history import Metric
from pipeline.config.schema import Config, Tracking, flatten
from pipeline.points.identity import signed_threads
from pipeline.system.sharing import share_folder
from pipeline.tracking import limits
from pipeline.tracking.dataset import Dataset
from pipeline.tracking.deletion import delete_artifacts, delete_models, delete_runs
from pipeline.tracking.location import local_path
from pipeline.tracking.store import open_store, store_call
from pipeline.tracking.tracked_run import TrackedRun, tracked_run

if TYPE_CHECKING:
    from mlflow.entities import Metric as MlflowMetric
    from mlflow.entities import RunTag

Status = Literal["FINISHED", "FAILED", "KILLED"]
# Config keys that are options of the command, not settings of a point.
NOT_PARAMS = {"dry_run", "force", "breaking_rate", "budget", "threads", "recording.figures", "recording.models"}


class Tracker:
    """Reads and writes the runs of one MLflow experiment.

    Args:
        tracking: which store to use.
        experiment: name of the experiment, which is the name of the study.
        project: folder that holds mlruns/.

    Attributes:
        root: the folder of all artifacts of a local store; None for a server.

    Raises:
        LabError: a server does not answer, or the store cannot be opened.

    Example:
        >>> tracker = Tracker(Tracking(name="local", uri=None), "three_bits", PROJECT)
        >>> run_id = tracker.start_run("learning_rate=1", {"lab.role": "point"})
        >>> tracker.end_run(run_id, "FINISHED")
    """

    def __init__(self, tracking: Tracking, experiment: str, project: Path) -> None:
        self.client, self.experiment_id = open_store(tracking, experiment, project)
        self.root: Path | None = None
        if tracking.name == "local":
            self.root = project / "mlruns" / "artifacts"

    @store_call
    def runs(self, signature: str | None = None, sweep: str | None = None, deleted: bool = False) -> list[TrackedRun]:
        """Return the runs of the experiment that were created by this program, oldest first.

        Args:
            signature: return only the runs of the point with this signature.
            sweep: return only the run of the sweep with this key.
            deleted: whether to include soft-deleted runs.
        """
        from mlflow.entities import ViewType

        query = ""
        if signature:
            query = f"tags.signature = '{signature}'"
        if sweep is not None:
            query = f"tags.`lab.role` = 'sweep' and tags.`lab.sweep` = '{sweep}'"
        view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
        found = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], query, view, 1000, order_by=["attributes.start_time"], page_token=token
            )
            # All our runs have a role. Users may have added other runs to the experiment.
            found += [tracked_run(run) for run in page if "lab.role" in run.data.tags]
            token = page.token
            if not token:
                return found

    @store_call
    def has_artifacts(self, run: TrackedRun, names: Iterable[str]) -> bool:
        """Return whether these artifacts of a run, and those of its models, exist.

        Files can be deleted, or be missing in a copy of the project. A server is not asked: it would take a request for
        each folder.
        """
        if self.root is None or run.folder is None:
            return True
        # MLflow puts the models of an experiment next to the folders of its runs.
        models = run.folder.parent.parent / "models"
        lost = [model for model in run.models if not (models / model / "artifacts" / "MLmodel").exists()]
        if lost:
            # A run is still linked to models that a user has deleted.
            found = self.client.search_logged_models([self.experiment_id], f"source_run_id = '{run.run_id}'")
            lost = [model.model_id for model in found if model.model_id in lost]
        return not lost and all((run.folder / name).exists() for name in names)

    @store_call
    def start_run(self, name: str, tags: Mapping[str, str], started: int | None = None) -> str:
        """Create a run with status RUNNING, and return its id.

        Args:
            name: name of the run.
            tags: its tags; `mlflow.parentRunId` makes it the child of another run.
            started: start time, in milliseconds since 1970; None for now.
        """
        all_tags = {"mlflow.user": limits.user_name(), "mlflow.source.name": "pipeline.train", **tags}
        run = self.client.create_run(
            self.experiment_id,
            start_time=started,
            run_name=limits.storable(name, limits.LONGEST_NAME),
            tags={key: limits.storable(value, limits.LONGEST_TAG) for key, value in all_tags.items()},
        )
        return str(run.info.run_id)

    @store_call
    def reopen_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set the status of a run back to RUNNING, and add tags."""
        # Tags first: a run that is RUNNING with its last heartbeat would count as one whose process has exited.
        self.tag(run_id, tags)
        self.client.update_run(run_id, "RUNNING")

    @store_call
    def delete_run(self, run_id: str) -> None:
        """Soft-delete a run, and delete its models, which would otherwise still be listed."""
        delete_models(self.client, self.experiment_id, [run_id], self.root)
        self.client.delete_run(run_id)

    @store_call
    def remove_runs(self, run_ids: Sequence[str]) -> bool:
        """Delete runs with their models and artifacts; see `deletion.delete_runs`."""
        return delete_runs(self.client, self.experiment_id, run_ids, self.root)

    @store_call
    def log_config(self, run_id: str, config: Config, known: Collection[str] = ()) -> None:
        """Log every key of the config as a parameter, and the logarithm of the learning rate.

        Args:
            run_id: the run.
            config: the config of the point.
            known: names of parameters that the run already has; MLflow does not allow changing their values.
        """
        from mlflow.entities import Param

        values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in flatten(config)}
        # For use as a chart axis: MLflow has only linear axes for parameters.
        values["log10_learning_rate"] = f"{math.log10(config.optimizer.learning_rate):g}"
        options = NOT_PARAMS
        # Where their number changes the results, it is a setting of the point.
        if signed_threads(config) is not None:
            options = NOT_PARAMS - {"threads"}
        left = {key: value for key, value in values.items() if key not in known and key not in options}
        params = [Param(key, limits.storable(value, limits.LONGEST_PARAM)) for key, value in left.items()]
        for start in range(0, len(params), limits.PARAMS_BATCH):
            batch = params[start : start + limits.PARAMS_BATCH]
            self.client.log_batch(run_id, params=batch, synchronous=True)

    @store_call
    def log_metrics(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """Log metrics with their own steps and timestamps; metrics that the run already has are not duplicated."""
        for start in range(0, len(metrics), limits.BATCH):
            batch = _metrics(metrics[start : start + limits.BATCH])
            self.client.log_batch(run_id, metrics=batch, synchronous=True)

    @store_call
    def log_values(
        self, run_id: str, values: Mapping[str, float], timestamp: int, tags: Mapping[str, str] | None = None
    ) -> None:
        """Log single values as metrics at step 0, and tags, in one call; `timestamp` in milliseconds since 1970."""
        batch = _metrics([Metric(0, timestamp, name, value) for name, value in values.items()])
        self.client.log_batch(run_id, metrics=batch, tags=_tags(tags or {}), synchronous=True)

    @store_call
    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run; values longer than MLflow allows are truncated."""
        self.client.log_batch(run_id, tags=_tags(tags), synchronous=True)

    @store_call
    def log_dataset(self, run_id: str, data: Dataset) -> None:
        """Log the data set that a run was trained on; logging it again changes nothing."""
        from mlflow.entities import Dataset as MlflowDataset
        from mlflow.entities import DatasetInput, InputTag

        entity = MlflowDataset(data.name, data.digest, data.source_type, data.source, data.schema, data.profile)
        context = [InputTag("mlflow.data.context", "training")]
        self.client.log_inputs(run_id, datasets=[DatasetInput(entity, context)])

    @store_call
    def has_run(self, run_id: str) -> bool:
        """Return whether a run exists and was not deleted in MLflow."""
        return self._exists(lambda: self.client.get_run(run_id).info.lifecycle_stage)

    @store_call
    def has_experiment(self) -> bool:
        """Return whether the experiment exists and was not deleted in MLflow."""
        return self._exists(lambda: self.client.get_experiment(self.experiment_id).lifecycle_stage)

    def _exists(self, stage: Callable[[], str]) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return stage() == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    @store_call
    def experiment_tags(self) -> dict[str, str]:
        """Return the tags of the experiment."""
        return dict(self.client.get_experiment(self.experiment_id).tags)

    @store_call
    def tag_experiment(self, tags: Mapping[str, str]) -> None:
        """Set tags of the experiment."""
        existing = self.experiment_tags()
        # One call per tag, so tags that already have the value are skipped.
        for key, value in tags.items():
            if existing.get(key) != value:
                shortened = limits.storable(value, limits.LONGEST_EXPERIMENT_TAG)
                self.client.set_experiment_tag(self.experiment_id, key, shortened)

    @store_call
    def delete_experiment_tags(self, keys: Iterable[str]) -> None:
        """Delete tags of the experiment."""
        for key in keys:
            self.client.delete_experiment_tag(self.experiment_id, key)

    def address(self, run_id: str) -> str:
        """Return a link to the artifacts of a run, for use within MLflow's UI."""
        return f"#/experiments/{self.experiment_id}/runs/{run_id}/artifacts"

    @store_call
    def log_folder(self, run_id: str, folder: Path) -> None:
        """Add the files in a folder to the artifacts of a run; the local store shares them, a server gets copies.

        Args:
            run_id: the run.
            folder: complete files, which nothing writes to again.
        """
        if self.root is not None:
            artifacts = local_path(self.client.get_run(run_id).info.artifact_uri)
            if artifacts is not None:
                share_folder(folder, artifacts)
                return
        self.client.log_artifacts(run_id, str(folder))

    @store_call
    def log_file(self, run_id: str, file: Path, folder: str) -> None:
        """Upload a file to a folder of a run's artifacts, replacing an existing file."""
        self.client.log_artifact(run_id, str(file), folder)

    @store_call
    def artifacts(self, run_id: str, folder: str) -> list[str]:
        """List a folder of a run's artifacts; paths are relative to the root of the artifacts."""
        return [str(file.path) for file in self.client.list_artifacts(run_id, folder)]

    @store_call
    def download(self, run_id: str, path: str, destination: Path) -> None:
        """Download an artifact of a run to the same relative path in a folder."""
        written = Path(self.client.download_artifacts(run_id, path, str(destination)))
        wanted = destination / path
        # Artifacts of a server are written directly to the destination, without their parent folders.
        if written != wanted:
            wanted.parent.mkdir(parents=True, exist_ok=True)
            written.rename(wanted)

    @store_call
    def remove_artifacts(self, run_id: str, folder: str) -> None:
        """Delete a folder of a run's artifacts."""
        delete_artifacts(self.client, run_id, folder, self.root)

    @store_call
    def end_run(self, run_id: str, status: Status, ended: int | None = None) -> None:
        """Close a run with its final status; `ended` in milliseconds since 1970, None for now."""
        self.client.set_terminated(run_id, status, ended)


def _metrics(metrics: Sequence[Metric]) -> list[MlflowMetric]:
    from mlflow.entities import Metric as MlflowMetric

    return [MlflowMetric(m.name, m.value, m.timestamp, m.step) for m in metrics]


def _tags(tags: Mapping[str, str]) -> list[RunTag]:
    from mlflow.entities import RunTag

    return [RunTag(key, limits.storable(value, limits.LONGEST_TAG)) for key, value in tags.items()]
