"""mnist_grid as a whole command on a fresh MLflow store, beside the same grid as others train and track it."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import OmegaConf

from benchmarks.commands import TRAIN, in_fresh_project, needs_mnist, seconds
from benchmarks.measuring import Benchmark, Contenders, peer
from benchmarks.untracked import composed
from pipeline.data.arrays import load
from pipeline.system.project import CONF, PROJECT

STUDY = "mnist_grid"
Command = Callable[[Path], Sequence[str]]


def values() -> dict[str, list[float] | list[int]]:
    """The values of each knob in the study, seeds among them."""
    study = OmegaConf.load(CONF / "experiment" / f"{STUDY}.yaml")
    params = study.hydra.sweeper.params
    first = composed(f"experiment={STUDY}").seed
    return {
        "learning_rate": [float(rate) for rate in str(params["optimizer.learning_rate"]).split(",")],
        "hidden_size": [int(size) for size in str(params["model.hidden_size"]).split(",")],
        "seed": list(range(first, first + study.repeats)),
    }


def write_inputs(folder: Path) -> None:
    """Write what the others read: the values, the settings of training, and the rows as float32."""
    config = composed(f"experiment={STUDY}")
    arrays = load(config.data, config.dtype, PROJECT).at_most(config.training.rows)
    settings = {"epochs": config.training.epochs, "batch_size": config.training.batch_size}
    (folder / "grid.json").write_text(json.dumps(values()), encoding="utf-8")
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    rows: dict[str, Any] = {"train_inputs": arrays.scaled(arrays.train_inputs), "train_targets": arrays.train_targets}
    for name, inputs, targets in arrays.evaluated(last=False):
        rows |= {f"{name}_inputs": arrays.scaled(inputs), f"{name}_targets": targets}
    np.savez(folder / "rows.npz", **rows)


def loop(name: str, folder: Path) -> Sequence[str]:
    """The command of one of `benchmarks.tracked_loops`."""
    return (sys.executable, "-m", "benchmarks.tracked_loops", name, str(folder))


def lightning(folder: Path) -> Sequence[str]:
    """The command of `benchmarks.lightning_loop`."""
    swept = [f"{name}={','.join(map(str, choices))}" for name, choices in values().items()]
    hydra = f"hydra.sweep.dir={folder}/hydra"
    return (sys.executable, "-m", "benchmarks.lightning_loop", "-m", f"folder={folder}", hydra, *swept)


def in_fresh_store(command: Command) -> float:
    """How long a command of others takes, with a store that it makes."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        write_inputs(Path(name))
        return seconds(command(Path(name)))


class Others(NamedTuple):
    """How others do it.

    Attributes:
        what, how: for the table.
        command: the command, from the folder that it reads and writes.
        peers: the packages that it needs, as modules.
    """

    what: str
    how: str
    command: Command
    peers: Sequence[str] = ()


@contextmanager
def _pair(backend: str, others: Others) -> Iterator[Contenders]:
    needs_mnist()
    for module in others.peers:
        peer(module)
    ours = (*TRAIN, f"experiment={STUDY}", f"backend={backend}")
    yield Contenders(lambda: in_fresh_project(ours), lambda: in_fresh_store(others.command))


def _benchmark(name: str, backend: str, goal: float, others: Others) -> Benchmark:
    return Benchmark(
        name,
        f"{STUDY} as a whole command, backend={backend}",
        others.what,
        goal,
        f"`python -m pipeline.train experiment={STUDY} backend={backend}` in a fresh copy of the project, whose MLflow "
        f"store it makes too, against {others.how}",
        partial(_pair, backend, others),
        most_rounds=3,
    )


LOOP = Others(
    "a loop of Keras with MLflow's callback",
    "`python -m benchmarks.tracked_loops keras`: the same points, rows, batches and epochs, each network a Keras model "
    "whose `fit` logs through `mlflow.keras.MlflowCallback`, in one process and a fresh SQLite store.",
    partial(loop, "keras"),
)
OPTUNA = Others(
    "Optuna's GridSampler, Keras and MLflow's callback",
    "`python -m benchmarks.tracked_loops optuna`: that loop, its points from `optuna.samplers.GridSampler`.",
    partial(loop, "optuna"),
    ["optuna"],
)
RAY_TUNE = Others(
    "Ray Tune with its MLflow callback, Keras",
    "`python -m benchmarks.tracked_loops ray_tune`: `tune.grid_search`, as many trials at once as there are cores, "
    "each epoch reported to Ray's `MLflowLoggerCallback`.",
    partial(loop, "ray_tune"),
    ["ray.tune"],
)
LIGHTNING = Others(
    "PyTorch Lightning with MLFlowLogger under Hydra",
    "`python -m benchmarks.lightning_loop -m`: a LightningModule, `MLFlowLogger` and checkpoints as they are by "
    "default, one point after the other by Hydra's own launcher.",
    lightning,
    ["torch", "lightning"],
)
BENCHMARKS = [
    _benchmark("grid_keras_loop", "numpy", 0.2, LOOP),
    _benchmark("grid_through_keras", "keras", 0.8, LOOP),
    _benchmark("grid_optuna", "numpy", 0.2, OPTUNA),
    _benchmark("grid_ray_tune", "numpy", 0.2, RAY_TUNE),
    _benchmark("grid_lightning", "numpy", 0.2, LIGHTNING),
]
