"""The weights of a point as MLflow models for `mlflow.pyfunc.load_model`. Their predictions match those in training.

`model_files.py` writes their files. Everything is sent through a client with explicit ids, independent of MLflow's
global state.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config.metrics import judged_by, larger_is_better
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import is_server_address
from pipeline.points.point import Point, knobs
from pipeline.studies.kinds import kind_of
from pipeline.system.failures import Do, at_once
from pipeline.tracking import dataset as lineage
from pipeline.tracking.causes import lacks_endpoint
from pipeline.tracking.limits import LONGEST_PARAM, storable
from pipeline.tracking.location import local_path
from pipeline.tracking.model_files import write_model
from pipeline.tracking.raw_rows import prediction
from pipeline.tracking.store import TYPED, store_call

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run


def all_models(client: MlflowClient, experiment_id: str) -> list[LoggedModel]:
    """Return all models of an experiment; none on a server of an earlier version, which has no such models."""
    from mlflow.exceptions import MlflowException

    models: list[LoggedModel] = []
    token = None
    # All pages before anything is deleted, which would shift the models on the following pages.
    while True:
        try:
            page = client.search_logged_models([experiment_id], page_token=token)
        except MlflowException as error:
            if lacks_endpoint(error):
                return []
            raise
        models += page
        token = page.token
        if not token:
            return models


def log_models(client: MlflowClient, experiment_id: str, run_id: str, point: Point, do: Do = at_once) -> None:
    """Log the final and the best weights of a point as models of its run, named `final` and `best`.

    If the best weights are the final ones, there is only `final`, and its parameter `best` is `true`. Models that are
    already logged are skipped, and incomplete ones are completed.

    Args:
        client: the client of the store.
        experiment_id: the experiment of the run.
        run_id: the run of the point.
        point: the trained point.
        do: logs one model.

    Raises:
        LabError: MLflow rejects them, or does not answer.
    """
    chosen = chosen_epochs(point)
    for name, epoch in chosen.items():
        snapshot = _Snapshot(name, epoch, best=name == "best" or "best" not in chosen)
        do(f"{name} model", partial(_log_model, client, experiment_id, run_id, point, snapshot))


@dataclass(frozen=True)
class _Snapshot:
    """A snapshot to log as a model: the name of the model, the epoch, and whether it is the best one."""

    name: str
    epoch: int
    best: bool


@store_call
def _log_model(client: MlflowClient, experiment_id: str, run_id: str, point: Point, snapshot: _Snapshot) -> None:
    """Log a snapshot as a model, unless it is already logged; an incomplete model is completed."""
    found = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    model = next((one for one in found if one.name == snapshot.name), None)
    if model is not None and _is_complete(model):
        return
    if model is None:
        model = client.create_logged_model(
            experiment_id,
            snapshot.name,
            run_id,
            tags={"mlflow.note.content": _description(point, snapshot, client.tracking_uri, run_id)},
            params=_params(point, snapshot.epoch, snapshot.best),
        )
    # The run is read now, because an earlier model has changed its outputs.
    _complete(client, client.get_run(run_id), model, point, snapshot.epoch)


def _is_complete(model: LoggedModel) -> bool:
    """Return whether a model is logged and its files, if they are on this machine, exist."""
    # A model that is not READY is incomplete: a process was killed, or the server became unavailable.
    if model.status != "READY":
        return False
    folder = local_path(model.artifact_location)
    return folder is None or (folder / "MLmodel").exists()


def chosen_epochs(point: Point) -> dict[str, int]:
    """Choose the snapshots to log as models.

    `final` is the last snapshot. `best` is the one with the best value of `report.metric`, or else of the metric that
    fits the task, and is omitted if it is the last one. Snapshots with inf or NaN in their weights, or without a finite
    loss, are not logged. Maps and curves have no models, nor do models of one's own that Keras cannot make again.

    Returns:
        The epoch of each model's weights, by the model's name.
    """
    history = point.history
    if not history.snapshots or not kind_of(point.config).networks:
        return {}
    # A model that Keras cannot make again cannot be loaded either; the training has said so.
    if isinstance(point.config.model, KerasModel) and not history.architecture:
        return {}
    # The history records finite values only, so an epoch whose loss was inf or NaN has no entry here.
    trained = _values(point, _loss_name(point)).keys()
    usable = [
        epoch
        for epoch, weights in history.snapshots.items()
        if epoch in trained and all(np.isfinite(array).all() for array in weights.values())
    ]
    chosen = {}
    last = max(history.snapshots)
    if last in usable:
        chosen["final"] = last
    judged = _judging_metric(point)
    values = _values(point, judged)
    sign = 1 if larger_is_better(judged) else -1
    # If values are equal, the latest epoch counts, so that `best` is omitted if the final weights are equally good.
    best = max(
        (epoch for epoch in usable if epoch in values), key=lambda epoch: (sign * values[epoch], epoch), default=last
    )
    if best != last:
        chosen["best"] = best
    return chosen


def _judging_metric(point: Point) -> str:
    """Return the metric by which the best weights are chosen; the loss if that was not recorded."""
    judged = judged_by(point.config)
    if judged in point.history.names():
        return judged
    return _loss_name(point)


def _loss_name(point: Point) -> str:
    """Return the name of the loss of the rows that points are compared on."""
    names = point.history.names()
    # Test rows that were measured at the end only cannot choose.
    return next((name for name in ("validation/loss", "test/loss") if name in names), "train/loss")


def _values(point: Point, metric: str) -> dict[int, float]:
    """Return the recorded values of a metric by epoch."""
    return {one.step: one.value for one in point.history.metrics if one.name == metric}


def _params(point: Point, epoch: int, best: bool) -> dict[str, str]:
    """Return the parameters that distinguish models, which are columns in MLflow's table of models."""
    params = knobs(point.config, []) | {
        "backend": point.config.backend.name,
        "epoch": str(epoch),
        "best": str(best).lower(),
    }
    return {key: storable(value, LONGEST_PARAM) for key, value in params.items()}


def _description(point: Point, snapshot: _Snapshot, store: str, run_id: str) -> str:
    """Return the description for the model's page, in Markdown; `store` is the address of the MLflow store."""
    sentences = [f"The weights after epoch {snapshot.epoch} of {point.outcome.epochs}."]
    if snapshot.best:
        judged = _judging_metric(point)
        extreme = "highest" if larger_is_better(judged) else "lowest"
        sentences.append(f"Of all saved snapshots, they have the {extreme} {judged}.")
    if point.data is None:
        sentences.append("Load them and predict with")
        call = ['mlflow.pyfunc.load_model("models:/MODEL_ID").predict(inputs)']
    elif is_server_address(store):
        sentences.append("Load them and predict with")
        call = prediction(point.data, store, f"runs:/{run_id}/{snapshot.name}")
    else:
        sentences.append("In the project's folder, load them and predict with")
        call = prediction(point.data, TYPED, f"runs:/{run_id}/{snapshot.name}")
    return f"{' '.join(sentences)}\n\n" + "\n".join(f"    {line}".rstrip() for line in call)


def _complete(client: MlflowClient, run: Run, model: LoggedModel, point: Point, epoch: int) -> None:
    """Log the files and metrics of a model, link it to its run and, last, set its status to READY."""
    from mlflow.entities import LoggedModelOutput, Metric
    from mlflow.models import Model

    dataset = lineage.dataset_of(point.config, lineage.checksums_in(run.data.tags), point.data)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        mlmodel = Model(run_id=run.info.run_id, model_id=model.model_id)
        weights = point.history.snapshots[epoch]
        write_model(folder, point.config, weights, mlmodel, point.data, point.history.architecture)
        client.log_model_artifacts(model.model_id, str(folder))
    measured = [
        m for m in point.history.metrics if m.step == epoch and m.name.startswith(("train/", "validation/", "test/"))
    ]
    metrics = [
        Metric(m.name, m.value, m.timestamp, m.step, model.model_id, dataset.name, dataset.digest) for m in measured
    ]
    # Links the metrics to the model. The run already has these metrics; with the same step and timestamp, MLflow does
    # not store duplicates.
    client.log_batch(run.info.run_id, metrics=metrics, synchronous=True)
    linked = []
    if run.outputs:
        linked = [output.model_id for output in run.outputs.model_outputs]
    if model.model_id not in linked:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, epoch)])
    # Last, because `log_models` skips READY models.
    client.finalize_logged_model(model.model_id, "READY")
