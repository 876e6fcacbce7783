"""Copies of this project, and folders that several tests read: made once for all workers of pytest-xdist."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.system.project import PROJECT

PROGRAM = ("conf", "examples", "pipeline", "hydra_plugins")
"""The folders that `python -m pipeline.train` needs."""


def copy_of_the_project(folder: Path, *more: str) -> Path:
    """Make a new project that commands can run in, with compiled modules: compiling would take a second."""
    for name in (*PROGRAM, *more):
        # A second suffix marks a compiled file that another worker is still writing.
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc.*"))
    return folder


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder `name` that all workers of this run share; `make` fills it once.

    A module's fixture is created again in every worker that runs one of the module's tests. Folders that take long to
    make come from here: other workers wait for the first one, and read its folder.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / f"once-{name}"
    made = base / f"once-{name}.made"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # left behind by a worker that failed
            folder.mkdir()
            make(folder)
            made.touch()
    return folder
