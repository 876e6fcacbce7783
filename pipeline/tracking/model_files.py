"""Writes the files of an MLflow model.

A NumPy model contains its weights and a copy of the forward pass, and needs only NumPy (with gelu, also SciPy); a Keras
model is a .keras file. Both take the inputs of the network. Where the data has a description, such a model is part of
another one, which takes raw rows, contains a copy of the conversion, and also needs pandas.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.data import TableData
from pipeline.config.own_code import write_sources
from pipeline.config.schema import Config
from pipeline.data.convert import convert
from pipeline.data.description import DataDescription
from pipeline.system.files import file_sha256, short_hash
from pipeline.tracking.raw_rows import example, signature

if TYPE_CHECKING:
    from mlflow.models import Model

PACKAGE = Path(__file__).resolve().parent.parent
OWN_LOADER = PACKAGE / "backends" / "keras" / "own_loader.py"
# The modules of PACKAGE that are copied into a NumPy model, and into one that takes raw rows; the loader comes first.
FORWARD_PASS = ("backends/numpy/model_loader.py", "backends/numpy/network.py")
CONVERSION = ("tracking/raw_loader.py", "data/convert.py")


def write_model(
    folder: Path,
    config: Config,
    weights: Weights,
    mlmodel: Model | None = None,
    data: DataDescription | None = None,
    architecture: str = "",
) -> None:
    """Write a network as an MLflow model.

    Args:
        folder: the target folder; must be missing or empty.
        config: the config of the point.
        weights: the arrays of one network, by name.
        mlmodel: MLflow's metadata to complete and write to the file MLmodel; None for new metadata.
        data: what the network was trained on. The model then takes raw rows; without it, it takes the inputs of the
            network, (rows, features).
        architecture: the layers of a Keras model of one's own, from `History.architecture`.

    Example:
        >>> write_model(Path("model"), point.config, point.history.snapshots[100])
        >>> mlflow.pyfunc.load_model("model").predict(inputs)
    """
    if data is not None:
        _write_raw(folder, config, weights, mlmodel, data, architecture)
        return
    features, _ = _widths(weights, architecture)
    example_inputs = input_example(config, features)
    _write_network(folder, config, weights, architecture, input_example=example_inputs, mlflow_model=mlmodel)


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


def _write_raw(
    folder: Path, config: Config, weights: Weights, mlmodel: Model | None, data: DataDescription, architecture: str
) -> None:
    """Write a model that takes raw rows, and has one that takes the network's inputs in a folder of its own."""
    import mlflow.pyfunc

    folder.mkdir(exist_ok=True)
    with TemporaryDirectory() as scratch:
        content = Path(scratch) / "raw"
        content.mkdir()
        rows = example(data)
        inputs = convert(data.model_dump(), rows).astype(config.dtype)
        _write_network(content / "network", config, weights, architecture, input_example=inputs)
        (content / "data.json").write_text(data.model_dump_json(indent=2) + "\n", encoding="utf-8")
        package = _copied(Path(scratch), "raw", CONVERSION)
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=_module(package, CONVERSION),
            data_path=str(content),
            code_paths=[str(package)],
            pip_requirements=_pinned([*_needed(config), "pandas"]),
            signature=signature(data, config.dtype),
            input_example=rows,
            mlflow_model=mlmodel,
        )


def _write_network(folder: Path, config: Config, weights: Weights, architecture: str, **options: Any) -> None:
    """Write a model that takes the inputs of a network; `options` are further arguments of MLflow's `save_model`."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    features, outputs = _widths(weights, architecture)
    dtype = np.dtype(config.dtype)
    # Inputs are (rows, features), outputs (rows, outputs); -1 stands for any number of rows.
    options["signature"] = ModelSignature(
        Schema([TensorSpec(dtype, (-1, features))]),
        Schema([TensorSpec(dtype, (-1, outputs))]),
    )
    folder.mkdir(exist_ok=True)
    if config.backend.name == "keras":
        _write_keras(folder, config, weights, architecture, options)
    else:
        _write_numpy(folder, config, weights, options)


def _write_numpy(folder: Path, config: Config, weights: Weights, options: dict[str, Any]) -> None:
    import mlflow.pyfunc

    with TemporaryDirectory() as scratch:
        package = _copied(Path(scratch), "forward", FORWARD_PASS)
        network = Path(scratch) / "network"
        network.mkdir()
        architecture = config.model.model_dump(include={"hidden_activation", "output_activation", "bias"})
        (network / "network.json").write_text(json.dumps(architecture, indent=2) + "\n")
        np.savez(network / "weights.npz", allow_pickle=False, **weights)
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=_module(package, FORWARD_PASS),
            data_path=str(network),
            code_paths=[str(package)],
            pip_requirements=_pinned(_needed(config)),
            **options,
        )


def _write_keras(folder: Path, config: Config, weights: Weights, architecture: str, options: dict[str, Any]) -> None:
    from pipeline.backends.keras.own_description import modules_of
    from pipeline.backends.keras.saving import plain_model

    needed = _pinned(_needed(config))
    # After our package, which configures keras: this imports keras.
    import mlflow.keras

    model = plain_model(config, weights, architecture)
    options["pip_requirements"] = needed
    if architecture and modules_of(architecture):
        _write_with_code(folder, model, architecture, options)
    else:
        # A model of Keras' own layers is complete in itself.
        mlflow.keras.save_model(model, str(folder), **options)


def _write_with_code(folder: Path, model: Any, architecture: str, options: dict[str, Any]) -> None:
    """Write a Keras model with the code of the layers that Keras does not have."""
    import mlflow.pyfunc

    from pipeline.backends.keras.own_description import modules_of, sources_of
    from pipeline.backends.keras.saving import engine

    with TemporaryDirectory() as scratch:
        # Named after its content, as the forward pass of a NumPy model is.
        loader = f"own_loader_{file_sha256(OWN_LOADER)[:16]}"
        copy = Path(scratch) / f"{loader}.py"
        shutil.copyfile(OWN_LOADER, copy)
        network = Path(scratch) / "network"
        write_sources(sources_of(architecture), network / "code")
        model.save(network / "model.keras")
        content = {"engine": engine(), "classes": modules_of(architecture)}
        (network / "classes.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        mlflow.pyfunc.save_model(
            str(folder), loader_module=loader, data_path=str(network), code_paths=[str(copy)], **options
        )


def _copied(scratch: Path, name: str, modules: Sequence[str]) -> Path:
    """Copy modules of PACKAGE, each in a folder of the same name, to a new package."""
    # Named after its content hash: Python keeps one module per name, so a process that loads models of two versions
    # would otherwise use the first forward pass for both.
    sums = "".join(file_sha256(PACKAGE / module) for module in modules)
    package = scratch / f"{name}_{short_hash(sums.encode())}"
    for module in modules:
        copy = package / module
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACKAGE / module, copy)
    return package


def _module(package: Path, modules: Sequence[str]) -> str:
    """Return the full name of the loader in a package of copied modules."""
    loader = Path(modules[0]).with_suffix("")
    return ".".join([package.name, *loader.parts])


def _needed(config: Config) -> list[str]:
    """Return the names of the packages that a network needs to predict."""
    if config.backend.name == "keras":
        from pipeline.backends.keras.saving import engine

        return ["keras", engine(), "numpy"]
    # The forward pass imports SciPy only for gelu.
    if config.dense.hidden_activation == "gelu":
        return ["numpy", "scipy"]
    return ["numpy"]


def _pinned(packages: Sequence[str]) -> list[str]:
    """Return requirements for the installed versions of packages."""
    return [f"{name}=={version(name)}" for name in packages]
