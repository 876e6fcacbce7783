"""Results that come through DVC: which of them are not here, and how to get back what cannot be read.

DVC writes down in dvc.lock which results belong to a commit, and brings them from its cache or from a remote. A pull
that was cut short, or that named some stages only, leaves the others out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from pipeline.system.errors import LabError
from pipeline.system.wording import some

LOCK = "dvc.lock"
SOME = 5
"""How many folders that are not here are named."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it


def locked_results(project: Path, results: Path) -> list[Path]:
    """The folders STUDY/BACKEND below a results folder that dvc.lock names.

    Args:
        project: folder that holds dvc.lock.
        results: the results folder.

    Returns:
        Empty where there is no dvc.lock, or one that cannot be read, as in a merge: DVC says so itself.
    """
    try:
        stages = yaml.load((project / LOCK).read_bytes(), LOADER)["stages"].values()  # noqa: S506 - a safe one
        outs = {project / str(out["path"]) for stage in stages for out in stage.get("outs", [])}
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return sorted(out for out in outs if out.parent.parent == results)


def tell_missing(project: Path, results: Path) -> None:
    """Say which results dvc.lock names that are not here, if there are any."""
    locked = locked_results(project, results)
    missing = [folder.relative_to(project).as_posix() for folder in locked if not (folder / "sweep.json").exists()]
    if missing:
        names = some(missing, SOME)
        told = LabError(
            f"left out: {len(missing)} of {len(locked)} results folders that {LOCK} names are not here: {names}",
            fix="dvc pull, where a remote has them; dvc repro trains what none has",
        )
        print(told, file=sys.stderr, flush=True)


@contextmanager
def or_pulled() -> Iterator[None]:
    """Add to the message about results that cannot be read, which ends in what to do, that a remote may have them."""
    try:
        yield
    except LabError as error:
        raise LabError(f"{error}, or bring it back with dvc pull (deploy/remote.md)") from None
