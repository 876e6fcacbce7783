"""The grid of mnist_grid as others train and track it: a loop over Keras, Optuna, and Ray Tune, each with MLflow.

    python -m benchmarks.tracked_loops keras|optuna|ray_tune FOLDER

FOLDER holds grid.json, a list of values by knob, settings.json, and rows.npz; the MLflow store is written there.
Nothing of the pipeline is imported.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 10
Point = dict[str, Any]


def swept(folder: Path) -> dict[str, list[Any]]:
    """The values of each knob, in grid.json."""
    values: dict[str, list[Any]] = json.loads((folder / "grid.json").read_text(encoding="utf-8"))
    return values


def points(folder: Path) -> list[Point]:
    """Every combination of the values."""
    values = swept(folder)
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


@functools.cache
def rows(folder: Path) -> dict[str, Any]:
    """The arrays of rows.npz by name, read once in a process."""
    with np.load(folder / "rows.npz") as arrays:
        return dict(arrays)


def settings(folder: Path) -> dict[str, int]:
    """The epochs and the batch size, in settings.json."""
    read: dict[str, int] = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    return read


def track(folder: Path) -> None:
    """Let MLflow write to a store in the folder."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    if mlflow.get_experiment_by_name("grid") is None:
        mlflow.create_experiment("grid", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment("grid")


def fit(point: Point, folder: Path, callbacks: list[Any]) -> float:
    """Train a network.

    Args:
        point: learning_rate, hidden_size, seed.
        folder: with settings.json and rows.npz.
        callbacks: Keras callbacks, which track it.

    Returns:
        Loss on the validation rows after the last epoch.
    """
    import keras

    arrays, fixed = rows(folder), settings(folder)
    keras.utils.clear_session()
    keras.utils.set_random_seed(point["seed"])
    network = keras.Sequential(
        [
            keras.Input((arrays["train_inputs"].shape[1],)),
            keras.layers.Dense(point["hidden_size"], "relu"),
            keras.layers.Dense(CLASSES),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(point["learning_rate"]), loss, metrics=["accuracy"])
    history = network.fit(
        arrays["train_inputs"], arrays["train_targets"], fixed["batch_size"], fixed["epochs"], verbose=0,
        validation_data=(arrays["validation_inputs"], arrays["validation_targets"]), callbacks=callbacks,
    )  # fmt: skip
    return float(history.history["val_loss"][-1])


def fit_in_run(point: Point, folder: Path) -> float:
    """Train a network in a run of its own, with MLflow's callback for Keras."""
    import mlflow.keras

    with mlflow.start_run():
        mlflow.log_params(point)
        return fit(point, folder, [mlflow.keras.MlflowCallback()])


def with_keras(folder: Path) -> None:
    """A loop over the points."""
    track(folder)
    for point in points(folder):
        fit_in_run(point, folder)


def with_optuna(folder: Path) -> None:
    """Optuna's sampler of grids."""
    import optuna

    track(folder)
    values = swept(folder)

    def objective(trial: Any) -> float:
        point = {name: trial.suggest_categorical(name, list(choices)) for name, choices in values.items()}
        return fit_in_run(point, folder)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.create_study(sampler=optuna.samplers.GridSampler(values)).optimize(objective)


def with_ray_tune(folder: Path) -> None:
    """Ray Tune with its MLflow callback, a core for each trial."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    track(folder)

    def trial(point: Point) -> None:
        import keras

        report = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: tune.report(dict(logs)))
        fit(point, folder, [report])

    ray.init(include_dashboard=False, log_to_driver=False)
    space = {name: tune.grid_search(choices) for name, choices in swept(folder).items()}
    mlflow = MLflowLoggerCallback(f"sqlite:///{folder}/mlflow.db", experiment_name="grid")
    running = tune.RunConfig(storage_path=str(folder / "ray"), callbacks=[mlflow], verbose=0)
    outcome = tune.Tuner(trial, param_space=space, run_config=running).fit()
    if outcome.num_errors:
        raise SystemExit(f"{outcome.num_errors} trials failed: {outcome.errors[0]}")


LOOPS = {"keras": with_keras, "optuna": with_optuna, "ray_tune": with_ray_tune}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracked_loops")
    parser.add_argument("loop", choices=LOOPS)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    LOOPS[options.loop](options.folder.resolve())
