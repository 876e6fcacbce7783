"""The place of a results folder, which is checked before training and replaced as a whole afterwards."""

from __future__ import annotations

from pathlib import Path

from pipeline.system.errors import LabError
from pipeline.system.files import explained, scratch_beside
from pipeline.system.project import expanded, store_root

# Folders of the project in which a results folder would lie among code, data or what commands keep.
PROJECT_FOLDERS = (
    "benchmarks",
    "conf",
    "data",
    "deploy",
    "docs",
    "hydra_plugins",
    "mlruns",
    "pipeline",
    "published",
    "reports",
    "tests",
)


def results_folder(results: str, project: Path) -> Path:
    """Return the results folder that a config names, after checking that the points can be copied to it.

    Args:
        results: the value of the key; a relative path is resolved against the project folder.
        project: the project folder.

    Raises:
        LabError: the path is that of a file or of something else, or cannot be written. Nothing has changed on disk.
    """
    destination = project / expanded(results, "results")
    with explained(destination):
        received = _obstacle(destination) or _taken(destination.resolve(), project)
        if received:
            raise LabError(
                f"{destination} cannot be a results folder.",
                expected="a folder that contains nothing else, such as results/STUDY/BACKEND",
                received=received,
                fix="name another folder: results=results/STUDY/BACKEND",
            )
        check_replaceable(destination)
        # Not the missing folders above it: they are made after training, which may fail.
        parent = next(folder for folder in destination.parents if folder.exists())
        with scratch_beside(parent / destination.name):
            pass
    return destination


def _obstacle(destination: Path) -> str:
    """Describe a file or a results folder that is in the way of a results folder; empty if there is none."""
    for folder in (destination, *destination.parents):
        if folder.exists() and not folder.is_dir():
            return f"{folder}, which is a file"
        if folder != destination and (folder / "sweep.json").exists():
            return f"a folder in the results folder {folder}, which every command replaces as a whole"
    return ""


def _taken(destination: Path, project: Path) -> str:
    """Describe what a results folder would replace of the project; empty if nothing."""
    # A temporary copy by DVC lies in .dvc/ of the original, so the project comes first.
    for root in (project.resolve(), store_root(project).resolve()):
        if root.is_relative_to(destination):
            return "the project folder, or a folder that contains it"
        if destination.is_relative_to(root):
            top = destination.relative_to(root).parts[0]
            if top.startswith(".") or top in PROJECT_FOLDERS:
                return f"a folder in {root / top}, which belongs to the project"
            return ""
    return ""


def check_replaceable(destination: Path) -> None:
    """Check that a folder may be replaced: it is missing, empty or a results folder.

    Raises:
        LabError: it contains something else.
    """
    # The whole destination is replaced, so a mistyped path must not delete another folder of the user.
    if destination.exists() and any(destination.iterdir()) and not (destination / "sweep.json").exists():
        raise LabError(
            f"{destination} is not a results folder.",
            expected="a folder that an earlier sweep wrote, or one that does not exist",
            received="a folder with other files in it",
            fix="name another folder: results=results/STUDY/BACKEND",
        )
