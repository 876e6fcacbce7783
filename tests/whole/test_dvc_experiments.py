"""`dvc exp run` as docs/comparing.md prints it, in a clone in which nothing was ever trained."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.points.results import read_study
from pipeline.system.project import PROJECT
from tests.support.team import team_environment, typed

GRID = re.search(
    r"^dvc exp run .*hydra.sweeper.params=.*$", (PROJECT / "docs" / "comparing.md").read_text(), re.MULTILINE
)
# Few epochs, and neither figures nor models in MLflow: they take seconds.
LITTLE = " ".join(
    f"-S conf/experiment/three_bits.yaml:{key}"
    for key in ("training.epochs=30", "+recording.figures=none", "+recording.models=none", "recording.snapshots=2")
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that git tracks, in a repository of their own."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0"):
        if (PROJECT / name).is_file():
            (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, tmp_path / "clone" / name)
    return tmp_path / "clone"


@pytest.mark.slow
def test_another_grid_trains_in_a_clone_without_the_results_of_other_studies(clone: Path) -> None:
    assert GRID is not None
    environment = team_environment(clone.parent)
    typed("git init --quiet; git add .; git commit --quiet -m 'All files'", clone, environment)
    # At the end DVC looks at all files that dvc.yaml names, also at those of stages that have never run here.
    typed(f"{GRID[0]} {LITTLE}", clone, environment)
    points = read_study(clone / "results" / "three_bits" / "numpy")
    assert [(point.learning_rate, point.hidden_size) for point in points] == [(1, 4), (10, 4)]
    listed = typed("dvc exp list --name-only", clone, environment).stdout.split()
    assert len(listed) == 1
