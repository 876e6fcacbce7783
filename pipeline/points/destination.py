"""The places of results and reports, which are checked before training.

A results folder is replaced as a whole; in the folder of a report, its tables and its folder of pages are.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.system.errors import LabError
from pipeline.system.files import explained, scratch_beside
from pipeline.system.project import expanded, store_root

# Folders of the project in which a folder to write would lie among code, data or what commands keep.
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
# The project's own report.
REPORTS = "reports"
# By these the folder of a report is known. It lacks points.csv if that was deleted to write the report anew;
# `pipeline.rounding` may have written its table first; and stored runs lie in `recorded`.
MARKS = ("points.csv", "reproduction.csv", "rounding.csv", "recorded")
# The folder of the report that has a page for each study.
PAGES = "studies"
# What the report has when only pages of single studies were written to it.
OF_PAGES = {PAGES, "curves", "metrics"}


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


def check_reports(destination: Path, project: Path) -> None:
    """Check that a report can be written to a folder.

    Args:
        destination: the folder.
        project: the project folder.

    Raises:
        LabError: the folder belongs to something else, or cannot be written. Nothing has changed on disk.
    """
    with explained(destination):
        resolved = destination.resolve()
        received = _obstacle(destination) or _taken(resolved, project, allowed=REPORTS)
        received = received or _pages_around(resolved) or _other_files(resolved, project.resolve() / REPORTS)
        if received:
            raise LabError(
                f"{destination} cannot be the folder of a report.",
                expected="a folder with an earlier report, or one that is empty or does not exist",
                received=received,
                fix="name another folder, reports=DIR, or omit reports",
            )
        existing = next(folder for folder in (destination, *destination.parents) if folder.exists())
        with scratch_beside(existing / "report"):
            pass


def _pages_around(destination: Path) -> str:
    """Describe the folder of pages in which the folder of a report would lie; empty if there is none."""
    for folder in (destination, *destination.parents):
        if folder.name == PAGES and _is_report(folder.parent):
            return f"a folder in {folder}, which the report in {folder.parent} replaces as a whole"
    return ""


def _other_files(destination: Path, own: Path) -> str:
    """Describe a folder that a report would write over; empty if it is new, or a report's. `own`: the project's own."""
    # DVC deletes the files of the project's own report before the report is written again.
    if destination == own or not destination.exists():
        return ""
    # What a killed command leaves is hidden, and no report replaces a hidden file.
    visible = any(not path.name.startswith(".") for path in destination.iterdir())
    if visible and not _is_report(destination):
        return "a folder with other files in it, and no points.csv"
    return ""


def _is_report(folder: Path) -> bool:
    """Whether a folder has an earlier report, or pages of single studies and nothing else."""
    if any((folder / mark).exists() for mark in MARKS):
        return True
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    # The whole report replaces the folder of pages, so that it must not hold anything else.
    return names == OF_PAGES and all(page.suffix in (".md", ".png") for page in (folder / PAGES).iterdir())


def _obstacle(destination: Path) -> str:
    """Describe a file or a results folder that is in the way of a folder to write; empty if there is none."""
    for folder in (destination, *destination.parents):
        if folder.exists() and not folder.is_dir():
            return f"{folder}, which is a file"
        if folder != destination and (folder / "sweep.json").exists():
            return f"a folder in the results folder {folder}, which every command replaces as a whole"
    return ""


def _taken(destination: Path, project: Path, allowed: str = "") -> str:
    """Describe the part of the project in which a folder to write lies; empty if it may be written.

    Args:
        destination: the folder, without symbolic links.
        project: the project folder.
        allowed: the folder of the project in which it may lie.
    """
    # A temporary copy by DVC lies in .dvc/ of the original, so the project comes first.
    for root in (project.resolve(), store_root(project).resolve()):
        if root.is_relative_to(destination):
            return "the project folder, or a folder that contains it"
        if destination.is_relative_to(root):
            top = destination.relative_to(root).parts[0]
            if top != allowed and (top.startswith(".") or top in PROJECT_FOLDERS):
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
