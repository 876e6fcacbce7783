"""The engine that Keras runs on: the environment variable KERAS_BACKEND, which every process of a command inherits."""

from __future__ import annotations

import difflib
import os
from importlib import import_module
from importlib.util import find_spec

from pipeline.system.errors import LabError
from pipeline.system.wording import counted

VARIABLE = "KERAS_BACKEND"
DEFAULT = "tensorflow"
# The variables that TensorFlow reads when it first computes: threads within an operation, and operations at a time.
THREADS = "TF_NUM_INTRAOP_THREADS"
OPERATIONS = "TF_NUM_INTEROP_THREADS"
# The number of threads that this process has chosen.
_chosen: list[int] = []
# The engines, and how to install those that this project does not bring.
ENGINES = {"tensorflow": "make .venv/.installed", "jax": "pip install jax", "torch": "pip install torch"}


def keras_engine() -> str:
    """Return the engine that Keras runs on in this process: tensorflow, jax or torch.

    Keras itself is not imported: a command that only plans must not wait for it.

    Raises:
        LabError: KERAS_BACKEND names another engine, or one that is not installed.
    """
    name = os.environ.get(VARIABLE) or DEFAULT
    if name not in ENGINES:
        near = next(iter(difflib.get_close_matches(name.lower(), ENGINES, n=1)), DEFAULT)
        raise LabError(
            "KERAS_BACKEND names an engine that Keras does not run on here.",
            expected=f"one of {', '.join(ENGINES)}, or no such variable for {DEFAULT}",
            received=name,
            fix=f"KERAS_BACKEND={near}",
        )
    if find_spec(name) is None:
        raise LabError(
            f"Keras cannot run on {name}, which is not installed.",
            expected=f"the package {name} in this environment",
            received=f"KERAS_BACKEND={name}",
            fix=f"{ENGINES[name]}, or unset KERAS_BACKEND for {DEFAULT}",
        )
    return name


def check_threads(count: int | None) -> None:
    """Refuse a number of threads where Keras runs on an engine that does not let it be set; None asks for no number.

    Raises:
        LabError: the engine is jax; or Keras has no engine.
    """
    if count is not None and keras_engine() == "jax":
        raise LabError(
            "The number of threads of jax cannot be set.",
            expected="no threads where Keras runs on jax, which chooses its own number",
            received=f"threads={count}",
            fix="leave out threads, or KERAS_BACKEND=tensorflow",
        )


def use_threads(count: int) -> None:
    """Let TensorFlow or PyTorch compute with so many threads in this process, whatever the user's shell says.

    Raises:
        LabError: this process has chosen another number, which TensorFlow cannot change; or Keras has no engine.
    """
    if keras_engine() == "torch":
        import_module("torch").set_num_threads(count)
        return
    if not _chosen:
        _chosen.append(count)
        os.environ[THREADS] = str(count)
        os.environ[OPERATIONS] = "1"
    if _chosen[0] != count:
        raise LabError(
            f"Keras computes with {counted(_chosen[0], 'thread')} in this process, and cannot change that.",
            expected=f"threads={_chosen[0]} for all its points on Keras",
            received=f"threads={count}",
            fix="train the points of one number of threads in a command of their own",
        )
