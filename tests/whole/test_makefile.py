"""The Makefile in a folder whose name needs quoting, and after the project has moved."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.system.project import PROJECT

# Writes down what it is asked to do; `python -m venv FOLDER` copies it to where the real one would be.
STAND_IN = """#!/bin/sh
if [ "$2" = venv ]; then
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
fi
echo "$0 $*" >> "$LOG"
"""


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A project of a Makefile alone, in a folder with a hostile name, whose Python is a stand-in."""
    project = tmp_path / "it's a lab? %20 #1 $HOME ü"
    project.mkdir()
    shutil.copy(PROJECT / "Makefile", project)
    for name in ("requirements.lock", "requirements-cluster.lock"):
        (project / name).touch()
    (tmp_path / "python").write_text(STAND_IN)
    (tmp_path / "python").chmod(0o755)
    return project


def make(project: Path, target: str) -> list[str]:
    """Run a target, and return which modules Python was asked to run, with their arguments."""
    log = project.parent / "log"
    log.write_text("")
    subprocess.run(
        ["make", target, f"PYTHON={project.parent / 'python'}"],
        cwd=project,
        env=os.environ | {"LOG": str(log)},
        capture_output=True,
        check=True,
    )
    asked = [line.partition("/python ")[2] for line in log.read_text().splitlines()]
    return [arguments for arguments in asked if arguments.startswith("-m ")]


def test_the_environment_is_installed_in_a_folder_whose_name_needs_quoting(made: Path) -> None:
    asked = make(made, "cluster")
    installs = "-m pip install --quiet --disable-pip-version-check --require-hashes -r"
    assert asked == ["-m venv .venv", f"{installs} requirements.lock", f"{installs} requirements-cluster.lock"]
    assert {path.name for path in made.parent.iterdir()} == {"log", made.name, "python"}
    assert make(made, "ui") == ["-m pipeline.ui --port 5000"]


def test_a_project_that_has_moved_with_its_environment_does_not_run_the_scripts_of_the_old_place(made: Path) -> None:
    """The scripts of an environment name the Python of the folder in which it was made."""
    make(made, "ui")
    for name in ("dvc", "pytest", "ruff", "mypy"):
        script = made / ".venv" / "bin" / name
        script.write_text("#!/a/folder/that/is/gone/python\n")
        script.chmod(0o755)
    assert make(made, "reproduce") == [
        "-m dvc config --local core.no_scm true",
        "-m dvc repro --keep-going",
        "-m pipeline.rebuild",
    ]
    assert make(made, "test")[-1].startswith("-m pytest ")
