"""The Makefile in a folder whose name needs quoting, after the project has moved, and where something fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.system.project import PROJECT

# Writes down what it is asked to do; `python -m venv FOLDER` copies it to where the real one would be. What FAILS names
# goes wrong, and a data set that DVC is asked for is there then.
STAND_IN = """#!/bin/sh
if [ "$2" = venv ]; then
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
fi
echo "$0 $*" >> "$LOG"
case "$0 $*" in *"$FAILS"*) exit 1 ;; esac
case "$*" in *prepare@mnist) mkdir -p data/prepared/mnist ;; esac
"""
LOCKS = ("requirements.lock", "requirements-cluster.lock")
BY_UV = "pip install --python .venv/bin/python --require-hashes -r"
BY_PIP = "-m pip install --disable-pip-version-check --require-hashes -r"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A project of a Makefile alone, in a folder with a hostile name, whose Python and uv are stand-ins."""
    project = tmp_path / "it's a lab? %20 #1 $HOME ü"
    shutil.copytree(PROJECT / "conf" / "profile", project / "conf" / "profile")
    shutil.copy(PROJECT / "Makefile", project)
    (project / "conf" / "pipeline.yaml").write_text("profile: full # a comment\nfetched: []\n")
    for name in LOCKS:
        (project / name).touch()
    (tmp_path / "bin").mkdir()
    for name in ("python", "uv"):
        (tmp_path / "bin" / name).write_text(STAND_IN)
        (tmp_path / "bin" / name).chmod(0o755)
    return project


def make(project: Path, *target: str, fails: str = "nothing") -> tuple[bool, list[str]]:
    """Run a target; return whether it went well, and what Python and uv were asked for.

    Commands that contain `fails` fail.
    """
    log = project.parent / "log"
    log.write_text("")
    programs = project.parent / "bin"
    done = subprocess.run(
        ["make", *target, f"PYTHON={programs / 'python'}"],
        cwd=project,
        env=os.environ | {"LOG": str(log), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "FAILS": fails},
        capture_output=True,
    )
    asked = re.findall(r"^.*?/(?:python|uv) (.*)$", log.read_text(), re.MULTILINE)
    return done.returncode == 0, [arguments for arguments in asked if arguments.startswith(("-m ", "pip "))]


def test_the_environment_is_installed_in_a_folder_whose_name_needs_quoting(made: Path) -> None:
    assert make(made, "cluster") == (True, ["-m venv .venv", *(f"{BY_UV} {lock}" for lock in LOCKS)])
    assert {path.name for path in made.parent.iterdir()} == {"log", "bin", made.name}
    assert make(made, "ui") == (True, ["-m pipeline.ui --port 5000"])


def test_pip_installs_where_uv_fails(made: Path) -> None:
    well, asked = make(made, "cluster", fails="/uv pip install")
    assert well
    assert [line for line in asked if line.startswith("-m pip ")] == [f"{BY_PIP} {lock}" for lock in LOCKS]


def test_what_neither_installs_is_installed_the_next_time(made: Path) -> None:
    assert make(made, "ui", fails="pip install") == (
        False,
        ["-m venv .venv", f"{BY_UV} {LOCKS[0]}", f"{BY_PIP} {LOCKS[0]}"],
    )
    assert make(made, "ui") == (True, ["-m venv .venv", f"{BY_UV} {LOCKS[0]}", "-m pipeline.ui --port 5000"])


def test_a_project_that_has_moved_with_its_environment_does_not_run_the_scripts_of_the_old_place(made: Path) -> None:
    """The scripts of an environment name the Python of the folder in which it was made."""
    make(made, "ui")
    for name in ("dvc", "pytest", "ruff", "mypy"):
        script = made / ".venv" / "bin" / name
        script.write_text("#!/a/folder/that/is/gone/python\n")
        script.chmod(0o755)
    assert make(made, "reproduce") == (
        True,
        [
            "-m dvc config --local core.no_scm true",
            "-m dvc repro page@line_y3x",
            "-m dvc repro --keep-going",
            "-m pipeline.rebuild",
            "-m pipeline.compare committed=true",
        ],
    )
    assert make(made, "test")[1][-1].startswith("-m pytest ")


def test_everything_is_trained_though_the_first_study_fails(made: Path) -> None:
    well, asked = make(made, "reproduce", fails="page@line_y3x")
    assert well
    assert asked[-3:] == ["-m dvc repro --keep-going", "-m pipeline.rebuild", "-m pipeline.compare committed=true"]


def test_the_profile_is_written_where_dvc_reads_it_if_one_is_asked_for(made: Path) -> None:
    lists = made / "conf" / "pipeline.yaml"
    # The second time it stays as it is, as does one that was typed into the file.
    for setting, profile in (["PROFILE=small"], "small"), ([], "small"), (["PROFILE=full"], "full"), ([], "full"):
        assert make(made, "reproduce", *setting)[0]
        assert lists.read_text() == f"profile: {profile} # a comment\nfetched: []\n"
    assert {path.name for path in (made / "conf").iterdir()} == {"pipeline.yaml", "profile"}
    assert make(made, "reproduce", "PROFILE=large") == (False, [])


@pytest.mark.parametrize(("fails", "studies"), [("nothing", 3), ("prepare@mnist", 2)])
def test_a_first_look_goes_without_what_cannot_be_downloaded_and_says_so(made: Path, fails: str, studies: int) -> None:
    well, asked = make(made, "try", fails=fails)
    assert well == (fails == "nothing")
    trained = [line for line in asked if line.startswith("-m pipeline.train ")]
    assert len(trained) == studies
    assert asked[-1] == "-m pipeline.compare results=first_look/results reports=first_look/report by_hand=false"


def test_a_first_look_does_not_take_the_place_of_a_whole_study(made: Path) -> None:
    """What is cut short is a study of its own: the newest sweep of a study is what MLflow's view of it shows."""
    whole = {path.stem for path in (PROJECT / "conf" / "experiment").glob("*.yaml")}
    trained = [line.split() for line in make(made, "try")[1] if line.startswith("-m pipeline.train ")]
    for _, _, *overrides in trained:
        settings = dict(override.split("=") for override in overrides)
        study = settings.get("study", settings["experiment"])
        assert settings["results"] == f"first_look/results/{study}/numpy"
        assert (study in whole) == (set(settings) == {"results", "experiment"})
