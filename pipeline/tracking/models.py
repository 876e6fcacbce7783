"""The weights of a point as MLflow models: loaded with `mlflow.pyfunc.load_model`, they predict what training had.

A NumPy model carries its weights and a copy of the forward pass, and needs NumPy; a Keras model is a .keras file.
Everything is written with explicit ids through a client, so that no global state of MLflow's is leaned on.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.history import History
from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.data import TableData
from pipeline.config.schema import Config
from pipeline.points.point import Point, knobs
from pipeline.studies.kinds import kind_of
from pipeline.system.files import file_sha256, short_hash
from pipeline.tracking import dataset as lineage
from pipeline.tracking.store import answered

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.models import Model

PACKAGE = Path(__file__).resolve().parent.parent / "backends" / "numpy"
LOADER = "model_loader"
FORWARD_PASS = (f"{LOADER}.py", "network.py")
"""The modules that a NumPy model carries a copy of, in PACKAGE."""


@answered
def log_models(client: MlflowClient, experiment_id: str, run_id: str, point: Point) -> None:
    """Log the final and the best weights of a point as models of its run.

    They are called `final` and `best`. Where the best weights are the final ones there is one model, `final`, whose
    parameter `best` says so. What is there is not logged again, and what was begun is completed.

    Args:
        client: of the store.
        experiment_id: the experiment.
        run_id: the point's run.
        point: the trained point.

    Raises:
        LabError: MLflow does not take them.
    """
    chosen = chosen_epochs(point)
    found = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    there = {model.name: model for model in found}
    left = {name: epoch for name, epoch in chosen.items() if name not in there or there[name].status != "READY"}
    if not left:
        return
    run = client.get_run(run_id)
    for name, epoch in left.items():
        best = name == "best" or "best" not in chosen
        model = there.get(name) or client.create_logged_model(
            experiment_id,
            name,
            run_id,
            tags={"mlflow.note.content": _description(point, epoch, best)},
            params=_params(point, epoch, best),
        )
        _complete(client, run, model, point, epoch)


def list_packages() -> None:
    """Let MLflow list what is installed, which it does once, half a second long, before it writes a first model."""
    with suppress(ImportError):  # an MLflow that keeps it elsewhere lists then
        from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

        warn_dependency_requirement_mismatches(["numpy"])


def chosen_epochs(point: Point) -> dict[str, int]:
    """At which epochs the weights of the models were kept, by model name.

    `final` is the last epoch. `best` is the one of the snapshots with the smallest test loss, or training loss where
    there are no test rows, and is left out where that is the last one. Weights that are inf or NaN, or have such a
    loss, are no model; a map has none, and neither has a curve.
    """
    history = point.history
    if not history.snapshots or not kind_of(point.config).networks:
        return {}
    compared = _loss_name(history)
    losses = {metric.step: metric.value for metric in history.metrics if metric.name == compared}
    usable = [
        epoch
        for epoch, weights in history.snapshots.items()
        if epoch in losses and all(np.isfinite(array).all() for array in weights.values())
    ]
    last = max(history.snapshots)
    chosen = {"final": last} if last in usable else {}
    if usable:
        best = min(usable, key=lambda epoch: (losses[epoch], -epoch))
        if best != last:
            chosen["best"] = best
    return chosen


def _loss_name(history: History) -> str:
    """The loss that weights are compared by."""
    return "test/loss" if "test/loss" in history.names() else "train/loss"


def _params(point: Point, epoch: int, best: bool) -> dict[str, str]:
    """What models are told apart by, as text: the columns of MLflow's table of models."""
    return knobs(point.config, []) | {
        "backend": point.config.backend.name,
        "epoch": str(epoch),
        "best": str(best).lower(),
    }


def _description(point: Point, epoch: int, best: bool) -> str:
    """What stands on the model's page, in Markdown."""
    why = f" Of all that were kept they have the smallest {_loss_name(point.history)}." if best else ""
    return (
        f"The weights after epoch {epoch} of {point.outcome.epochs}.{why} They predict with\n\n"
        '    mlflow.pyfunc.load_model("models:/MODEL_ID").predict(inputs)'
    )


def _complete(client: MlflowClient, run: Run, model: LoggedModel, point: Point, epoch: int) -> None:
    """Give a model its files, its metrics and its place on the run's page; last of all it reads READY."""
    from mlflow.entities import LoggedModelOutput, Metric
    from mlflow.models import Model

    dataset = lineage.dataset_of(point.config, lineage.checksums_in(run.data.tags))
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        mlmodel = Model(run_id=run.info.run_id, model_id=model.model_id)
        write_model(folder, point.config, point.history.snapshots[epoch], mlmodel)
        client.log_model_artifacts(model.model_id, str(folder))
    measured = [m for m in point.history.metrics if m.step == epoch and m.name.startswith(("train/", "test/"))]
    metrics = [
        Metric(m.name, m.value, m.timestamp, m.step, model.model_id, dataset.name, dataset.digest) for m in measured
    ]
    client.log_batch(run.info.run_id, metrics=metrics)  # the run has them already, and gets none twice
    linked = run.outputs.model_outputs if run.outputs else []
    if model.model_id not in [output.model_id for output in linked]:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, epoch)])
    client.finalize_logged_model(model.model_id, "READY")


def write_model(folder: Path, config: Config, weights: Weights, mlmodel: Model | None = None) -> None:
    """Write a network as an MLflow model.

    Args:
        folder: where; it must not be there yet, or be empty.
        config: the point's.
        weights: of one network, by name.
        mlmodel: what is filled in and written as its MLmodel; None: a new one.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    layers = [array for name, array in weights.items() if name.endswith("weights")]
    dtype = np.dtype(config.dtype)
    described = {
        "signature": ModelSignature(
            Schema([TensorSpec(dtype, (-1, layers[0].shape[0]))]),
            Schema([TensorSpec(dtype, (-1, layers[-1].shape[1]))]),
        ),
        "input_example": input_example(config, layers[0].shape[0]),
        "mlflow_model": mlmodel,
    }
    folder.mkdir(exist_ok=True)
    write = _write_keras if config.backend.name == "keras" else _write_numpy
    write(folder, config, weights, described)


def input_example(config: Config, features: int) -> NDArray[np.floating]:
    """Rows that a model takes: (rows, features). A table's own; a black and a white image, for no image is at hand."""
    if isinstance(config.data, TableData):
        return np.array(config.data.inputs, config.dtype)
    return np.repeat(np.array([[0], [1]], config.dtype), features, axis=1)


def _write_numpy(folder: Path, config: Config, weights: Weights, described: dict[str, Any]) -> None:
    import mlflow.pyfunc

    # Named by what is in it: Python has one module of a name, and would let one version answer for another.
    needed = ["numpy", "scipy"] if config.model.hidden_activation == "gelu" else ["numpy"]
    package = "forward_" + short_hash("".join(file_sha256(PACKAGE / name) for name in FORWARD_PASS).encode())
    with TemporaryDirectory() as scratch:
        for name in FORWARD_PASS:
            copy = Path(scratch) / package / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PACKAGE / name, copy)
        network = Path(scratch) / "network"
        network.mkdir()
        knobs = config.model.model_dump(include={"hidden_activation", "output_activation", "bias"})
        (network / "network.json").write_text(json.dumps(knobs, indent=2) + "\n")
        np.savez(network / "weights.npz", allow_pickle=False, **weights)
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=f"{package}.{LOADER}",
            data_path=str(network),
            code_paths=[str(Path(scratch) / package)],
            pip_requirements=[f"{package}=={version(package)}" for package in needed],
            **described,
        )


def _write_keras(folder: Path, config: Config, weights: Weights, described: dict[str, Any]) -> None:
    from pipeline.backends.keras.saving import engine, plain_model

    needed = [f"{package}=={version(package)}" for package in ("keras", engine(), "numpy")]
    import mlflow.keras  # imports keras, whose settings must have been made

    mlflow.keras.save_model(plain_model(config, weights), str(folder), pip_requirements=needed, **described)
