"""The array module of the NumPy backend: NumPy for arrays in memory, or CuPy for arrays on a GPU.

NumPy's functions and ufuncs compute on the GPU when they are called with CuPy arrays. The module matters in two places
only: where an array is created, and where an array in memory is copied to the GPU. `to_host` copies an array back
before it is recorded or written to a file.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.schema import Config, NumpyBackend
from pipeline.data.arrays import Arrays
from pipeline.system.errors import LabError

INSTALL = "`uv pip install -r pyproject.toml --extra cuda`, or use backend.array_module=numpy"


def on_gpu(config: Config) -> bool:
    """Return whether the config selects arrays on a GPU."""
    return isinstance(config.backend, NumpyBackend) and config.backend.array_module == "cupy"


def array_module(config: Config) -> ModuleType:
    """Return NumPy, or CuPy if the config selects it. CuPy is imported only then.

    Raises:
        LabError: CuPy, a library that it needs, or a GPU is missing.
    """
    if not on_gpu(config):
        return np
    asked = "backend.array_module=cupy trains on a GPU"
    try:
        import cupy

        # CuPy loads driver, compiler and BLAS at their first use. A small product loads all of them here, so that a
        # missing one is reported before training and not in the middle of it.
        ones = cupy.ones((2, 2))
        float((ones @ ones).sum())
    except ImportError as error:
        raise LabError(
            f"{asked}, but CuPy or a library that it needs cannot be imported.",
            expected="the extra `cuda` of pyproject.toml, the package cupy-cuda12x",
            received=str(error),
            fix=INSTALL,
        ) from None
    # CuPy's errors have no common base class: no driver, no device, no free memory, no compiler.
    except Exception as error:  # noqa: BLE001 - see above
        raise LabError(
            f"{asked}, but CuPy finds no GPU that it can use.",
            expected="an NVIDIA GPU with free memory, and a driver for CUDA 12 or later",
            received=f"{type(error).__name__}: {error}",
            fix="train on a machine that has one, or use backend.array_module=numpy",
        ) from None
    module: ModuleType = cupy
    return module


def to_host(array: Any) -> NDArray[Any]:
    """Return an array in memory: the array itself or, after waiting for its computation, a copy of one on a GPU."""
    if isinstance(array, np.ndarray):
        return array
    copy: NDArray[Any] = array.get()
    return copy


def uploaded(arrays: Arrays, module: ModuleType) -> Arrays:
    """Return the data set as arrays of a module. For a GPU it is scaled and copied once, for all batches.

    Args:
        arrays: the data set in memory.
        module: NumPy, which leaves the data set as it is, or CuPy.
    """
    if module is np:
        return arrays
    copies = {
        "train_inputs": module.asarray(arrays.scaled(arrays.train_inputs)),
        "train_targets": module.asarray(arrays.train_targets),
    }
    for split, inputs, targets in arrays.evaluated(last=True):
        copies[f"{split}_inputs"] = module.asarray(arrays.scaled(inputs))
        copies[f"{split}_targets"] = module.asarray(targets)
    return replace(arrays, **copies)
