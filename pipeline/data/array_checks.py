"""Whether prepared arrays are those of a data set: rows of inputs, and for each row a class or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.system.errors import LabError


def check_arrays(
    name: str, folder: Path, arrays: Mapping[str, NDArray[Any]], expected: tuple[int, bool], fix: str
) -> None:
    """Check that the arrays fit a data set: its number of outputs, and whether each output is a class.

    Raises:
        LabError: they do not.
    """
    outputs, classes = expected
    for split in ("train", "validation", "test"):
        if f"{split}_inputs" not in arrays:
            continue
        inputs = arrays[f"{split}_inputs"]
        targets = arrays[f"{split}_targets"]
        if _inputs_fit(inputs, arrays["train_inputs"].shape[1:]) and _targets_fit(targets, inputs, outputs, classes):
            continue
        what = f"{outputs} finite numbers"
        if classes:
            what = f"a class label below {outputs}"
        raise LabError(
            f"The {split} arrays in {folder} do not fit {name}.",
            expected=f"bytes or floats (rows, features), and for each row {what}",
            received=f"inputs {inputs.dtype} {inputs.shape}, targets {targets.dtype} {targets.shape}",
            fix=fix,
        )


def _inputs_fit(inputs: NDArray[Any], features: tuple[int, ...]) -> bool:
    """Return whether inputs are rows of this shape, (features,), of bytes or finite floats."""
    if inputs.ndim != 2 or inputs.shape[1:] != features or inputs.size == 0:
        return False
    if inputs.dtype == np.uint8:
        return True
    return bool(np.issubdtype(inputs.dtype, np.floating) and np.isfinite(inputs).all())


def _targets_fit(targets: NDArray[Any], inputs: NDArray[Any], outputs: int, classes: bool) -> bool:
    """Return whether targets are, for each row of the inputs, a class below `outputs`, or `outputs` finite numbers."""
    if not classes:
        numbers = np.issubdtype(targets.dtype, np.floating) and targets.shape == (len(inputs), outputs)
        return bool(numbers and np.isfinite(targets).all())
    labels = np.issubdtype(targets.dtype, np.integer) and targets.shape == (len(inputs),)
    return bool(labels and targets.min() >= 0 and targets.max() < outputs)
