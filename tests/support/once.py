"""Copies of this project, and what several tests read and none changes: made once for all workers of pytest-xdist."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.system.project import PROJECT

PROGRAM = ("conf", "pipeline", "hydra_plugins")
"""All that `python -m pipeline.train` needs."""


def copy_of_the_project(folder: Path, *more: str) -> Path:
    """A project that commands run in, and nothing has run in, with what Python compiled: that takes a second."""
    for name in (*PROGRAM, *more):
        # a name with a second suffix is of a compiled file that another worker is writing
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc.*"))
    return folder


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name` that all workers of this run share; `make` fills it, once.

    A module's fixture is made again in every worker that runs one of the module's tests. What takes long to make comes
    from here: the worker that comes second waits for the first one, and reads what that one made.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / f"once-{name}"
    made = base / f"once-{name}.made"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a worker that failed left
            folder.mkdir()
            make(folder)
            made.touch()
    return folder
