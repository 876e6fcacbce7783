"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipeline.system.processes import cores

PACKAGES = (
    "numpy",
    "cupy-cuda12x",
    "tensorflow",
    "keras",
    "torch",
    "jax",
    "scikit-learn",
    "optuna",
    "ray",
    "lightning",
    "hydra-core",
    "dvc",
    "mlflow",
)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


def described() -> dict[str, str]:
    """The machine: what it is called here, and what it is."""
    blas: Any = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    limits = ", ".join(f"{name}={os.environ[name]}" for name in THREADS if name in os.environ)
    return {
        "CPU": _cpu(),
        "GPU": _gpu(),
        "cores": f"{cores()}" + (f" ({limits})" if limits else ""),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "OS": platform.platform(),
        "BLAS of NumPy": f"{blas['name']} {blas['version']}",
    }


def versions() -> dict[str, str]:
    """Python and the packages: their versions, or that they are not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _gpu() -> str:
    try:
        import cupy

        return str(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())
    except (ImportError, RuntimeError):
        return "none that CuPy finds"
