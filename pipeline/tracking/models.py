"""The weights of a point as MLflow models for `mlflow.pyfunc.load_model`. Their predictions match those in training.

A NumPy model contains its weights and a copy of the forward pass, and needs only NumPy (with gelu, also SciPy); a Keras
model is a .keras file. Everything is written through a client with explicit ids, independent of MLflow's global state.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.history import History
from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.data import TableData
from pipeline.config.own_code import write_sources
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import Config
from pipeline.points.point import Point, knobs
from pipeline.studies.kinds import kind_of
from pipeline.system.failures import Do, at_once
from pipeline.system.files import file_sha256, short_hash
from pipeline.tracking import dataset as lineage
from pipeline.tracking.causes import lacks_endpoint
from pipeline.tracking.limits import LONGEST_PARAM, storable
from pipeline.tracking.location import local_path
from pipeline.tracking.store import store_call

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.models import Model

PACKAGE = Path(__file__).resolve().parent.parent / "backends" / "numpy"
LOADER = "model_loader"
OWN_LOADER = PACKAGE.parent / "keras" / "own_loader.py"
# The modules of PACKAGE that are copied into a NumPy model.
FORWARD_PASS = (f"{LOADER}.py", "network.py")


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
            tags={"mlflow.note.content": _description(point, snapshot.epoch, snapshot.best)},
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

    `final` is the last snapshot. `best` is the one with the smallest test loss (training loss if there are no test
    rows), and is omitted if it is the last one. Snapshots with inf or NaN in their weights, or without a finite loss,
    are not logged. Maps and curves have no models, nor do models of one's own that Keras cannot make again.

    Returns:
        The epoch of each model's weights, by the model's name.
    """
    history = point.history
    if not history.snapshots or not kind_of(point.config).networks:
        return {}
    # What Keras cannot make again is no model to load; the training has said so.
    if isinstance(point.config.model, KerasModel) and not history.architecture:
        return {}
    compared = _loss_name(history)
    # The history records finite values only, so an epoch whose loss was inf or NaN has no entry here.
    losses = {metric.step: metric.value for metric in history.metrics if metric.name == compared}
    usable = [
        epoch
        for epoch, weights in history.snapshots.items()
        if epoch in losses and all(np.isfinite(array).all() for array in weights.values())
    ]
    if not usable:
        return {}
    chosen = {}
    last = max(history.snapshots)
    if last in usable:
        chosen["final"] = last
    # If losses are equal, the latest epoch counts, so that `best` is omitted if the final weights are equally good.
    best = min(usable, key=lambda epoch: (losses[epoch], -epoch))
    if best != last:
        chosen["best"] = best
    return chosen


def _loss_name(history: History) -> str:
    """Return the name of the loss by which the best weights are chosen."""
    if "test/loss" in history.names():
        return "test/loss"
    return "train/loss"


def _params(point: Point, epoch: int, best: bool) -> dict[str, str]:
    """Return the parameters that distinguish models, which are columns in MLflow's table of models."""
    params = knobs(point.config, []) | {
        "backend": point.config.backend.name,
        "epoch": str(epoch),
        "best": str(best).lower(),
    }
    return {key: storable(value, LONGEST_PARAM) for key, value in params.items()}


def _description(point: Point, epoch: int, best: bool) -> str:
    """Return the description for the model's page, in Markdown."""
    sentences = [f"The weights after epoch {epoch} of {point.outcome.epochs}."]
    if best:
        sentences.append(f"Of all saved snapshots, they have the lowest {_loss_name(point.history)}.")
    sentences.append("Load them and predict with")
    call = 'mlflow.pyfunc.load_model("models:/MODEL_ID").predict(inputs)'
    return f"{' '.join(sentences)}\n\n    {call}"


def _complete(client: MlflowClient, run: Run, model: LoggedModel, point: Point, epoch: int) -> None:
    """Log the files and metrics of a model, link it to its run and, last, set its status to READY."""
    from mlflow.entities import LoggedModelOutput, Metric
    from mlflow.models import Model

    dataset = lineage.dataset_of(point.config, lineage.checksums_in(run.data.tags))
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        mlmodel = Model(run_id=run.info.run_id, model_id=model.model_id)
        weights = point.history.snapshots[epoch]
        write_model(folder, point.config, weights, mlmodel, point.history.architecture)
        client.log_model_artifacts(model.model_id, str(folder))
    measured = [m for m in point.history.metrics if m.step == epoch and m.name.startswith(("train/", "test/"))]
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


def write_model(
    folder: Path, config: Config, weights: Weights, mlmodel: Model | None = None, architecture: str = ""
) -> None:
    """Write a network as an MLflow model.

    Args:
        folder: the target folder; must be missing or empty.
        config: the config of the point.
        weights: the arrays of one network, by name.
        mlmodel: MLflow's metadata to complete and write to the file MLmodel; None for new metadata.
        architecture: the layers of a Keras model of one's own, from `History.architecture`.

    Example:
        >>> write_model(Path("model"), point.config, point.history.snapshots[100])
        >>> mlflow.pyfunc.load_model("model").predict(inputs)
    """
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    features, outputs = _widths(weights, architecture)
    dtype = np.dtype(config.dtype)
    # Inputs are (rows, features), outputs (rows, outputs); -1 stands for any number of rows.
    options = {
        "signature": ModelSignature(
            Schema([TensorSpec(dtype, (-1, features))]),
            Schema([TensorSpec(dtype, (-1, outputs))]),
        ),
        "input_example": input_example(config, features),
        "mlflow_model": mlmodel,
    }
    folder.mkdir(exist_ok=True)
    if config.backend.name == "keras":
        _write_keras(folder, config, weights, architecture, options)
    else:
        _write_numpy(folder, config, weights, options)


def _widths(weights: Weights, architecture: str) -> tuple[int, int]:
    """Return the numbers of inputs and outputs of a network."""
    if architecture:
        described = json.loads(architecture)
        return math.prod(described["input_shape"]), described["outputs"]
    layers = [array for name, array in weights.items() if name.endswith("weights")]
    return layers[0].shape[0], layers[-1].shape[1]


def input_example(config: Config, features: int) -> NDArray[np.floating]:
    """Return example inputs for a model: (rows, features).

    For a table, its own rows; for images, one black and one white image, because no real image is available here.
    """
    if isinstance(config.data, TableData):
        return np.array(config.data.inputs, config.dtype)
    return np.repeat(np.array([[0], [1]], config.dtype), features, axis=1)


def _write_numpy(folder: Path, config: Config, weights: Weights, options: dict[str, Any]) -> None:
    import mlflow.pyfunc

    needed = ["numpy"]
    # The forward pass imports SciPy only for gelu.
    if config.dense.hidden_activation == "gelu":
        needed.append("scipy")
    # Named after its content hash: Python keeps one module per name, so a process that loads models of two versions
    # would otherwise use the first forward pass for both.
    sums = "".join(file_sha256(PACKAGE / name) for name in FORWARD_PASS)
    package = f"forward_{short_hash(sums.encode())}"
    with TemporaryDirectory() as scratch:
        for name in FORWARD_PASS:
            copy = Path(scratch) / package / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PACKAGE / name, copy)
        network = Path(scratch) / "network"
        network.mkdir()
        architecture = config.model.model_dump(include={"hidden_activation", "output_activation", "bias"})
        (network / "network.json").write_text(json.dumps(architecture, indent=2) + "\n")
        np.savez(network / "weights.npz", allow_pickle=False, **weights)
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=f"{package}.{LOADER}",
            data_path=str(network),
            code_paths=[str(Path(scratch) / package)],
            pip_requirements=[f"{name}=={version(name)}" for name in needed],
            **options,
        )


def _write_keras(folder: Path, config: Config, weights: Weights, architecture: str, options: dict[str, Any]) -> None:
    from pipeline.backends.keras.own_model import classes_of
    from pipeline.backends.keras.saving import engine, plain_model

    needed = [f"{name}=={version(name)}" for name in ("keras", engine(), "numpy")]
    # After our package, which configures keras: this imports keras.
    import mlflow.keras

    model = plain_model(config, weights, architecture)
    classes = {}
    if isinstance(config.model, KerasModel):
        classes = classes_of(config.model, architecture)
    if isinstance(config.model, KerasModel) and classes:
        _write_with_code(folder, config.model, model, classes, {"pip_requirements": needed, **options})
    else:
        # A model of Keras' own layers is complete in itself.
        mlflow.keras.save_model(model, str(folder), pip_requirements=needed, **options)


def _write_with_code(
    folder: Path, own: KerasModel, model: Any, classes: dict[str, Any], options: dict[str, Any]
) -> None:
    """Write a Keras model with the code of the layers that Keras does not have."""
    import mlflow.pyfunc

    with TemporaryDirectory() as scratch:
        code = Path(scratch) / "code"
        code.mkdir()
        # Named after its content, as the forward pass of a NumPy model is.
        loader = f"own_loader_{short_hash(OWN_LOADER.read_bytes())}"
        shutil.copyfile(OWN_LOADER, code / f"{loader}.py")
        paths = write_sources(own, code)
        network = Path(scratch) / "network"
        network.mkdir()
        model.save(network / "model.keras")
        modules = {name: found.__module__ for name, found in classes.items()}
        (network / "classes.json").write_text(json.dumps(modules, indent=2) + "\n", encoding="utf-8")
        mlflow.pyfunc.save_model(str(folder), loader_module=loader, data_path=str(network), code_paths=paths, **options)
