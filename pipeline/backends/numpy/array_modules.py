"""Where the arrays of the NumPy backend are: NumPy's in memory, or CuPy's on a GPU.

NumPy's functions and ufuncs called with a CuPy array compute on the GPU. Only what makes an array out of nothing, or
out of an array in memory, has to be told where; and what is recorded, or kept in a file, is brought back by `to_host`.
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
    """Whether the config asks for arrays on a GPU."""
    return isinstance(config.backend, NumpyBackend) and config.backend.array_module == "cupy"


def array_module(config: Config) -> ModuleType:
    """NumPy, or CuPy where the config asks for it, which is imported only then.

    Raises:
        LabError: CuPy, a library that it needs, or a GPU is missing.
    """
    if not on_gpu(config):
        return np
    asked = "backend.array_module=cupy trains on a GPU"
    try:
        import cupy

        ones = cupy.ones((2, 2))
        float((ones @ ones).sum())  # driver, compiler and BLAS are loaded when they are first needed: now
    except ImportError as error:
        raise LabError(
            f"{asked}, and CuPy, or what it needs, cannot be imported.",
            expected="the extra `cuda` of pyproject.toml, the package cupy-cuda12x",
            received=str(error),
            fix=INSTALL,
        ) from None
    # CuPy's errors have no class in common: no driver, no device, a full one, nothing to compile with.
    except Exception as error:  # noqa: BLE001
        raise LabError(
            f"{asked}, and CuPy finds none that it can use.",
            expected="an NVIDIA GPU with free memory, and a driver for CUDA 12 or later",
            received=f"{type(error).__name__}: {error}",
            fix="train on a machine that has one, or use backend.array_module=numpy",
        ) from None
    module: ModuleType = cupy
    return module


def to_host(array: NDArray[Any]) -> NDArray[Any]:
    """The array in memory: itself, or a copy of one on a GPU, which waits until that is computed."""
    if isinstance(array, np.ndarray):
        return array
    copy: NDArray[Any] = array.get()
    return copy


def uploaded(arrays: Arrays, module: ModuleType) -> Arrays:
    """The data set where the arrays of a module are: itself for NumPy, else scaled and copied, once for all batches."""
    if module is np:
        return arrays
    return replace(
        arrays,
        train_inputs=module.asarray(arrays.scaled(arrays.train_inputs)),
        train_targets=module.asarray(arrays.train_targets),
        test_inputs=module.asarray(arrays.scaled(arrays.test_inputs)) if arrays.test_inputs is not None else None,
        test_targets=module.asarray(arrays.test_targets) if arrays.test_targets is not None else None,
    )
