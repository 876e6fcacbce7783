"""Messages about results that DVC has and that are missing from the results folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.points.results import SOME, locked_results, read_study, warn_about_missing
from pipeline.system.errors import DamagedError, LabError
from pipeline.system.project import PROJECT
from tests.support.damage import MACHINE, check_machine_error, fail_at


def lock(project: Path, *outs: str) -> Path:
    """Write a dvc.lock in which each output is of a stage of its own. Returns the results folder."""
    stages = {f"stage_{number}": {"cmd": "c", "outs": [{"path": out}]} for number, out in enumerate(outs)}
    (project / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    return project / "results"


def test_the_results_of_this_repository_are_those_of_its_lock() -> None:
    folders = locked_results(PROJECT, PROJECT / "results")
    named = {folder.relative_to(PROJECT / "results").as_posix() for folder in folders}
    assert {"three_bits/numpy", "three_bits/keras", "mnist/numpy", "curve_basins/numpy"} <= named
    # dvc.lock keeps the outputs of stages that were renamed, so some are in it twice.
    assert len(folders) == len(named) > 30


def test_only_what_lies_in_the_results_folder_counts(tmp_path: Path) -> None:
    results = lock(tmp_path, "results/a/numpy", "results/a/numpy", "data/raw/a", "reports/curves", "results/a/b/c")
    assert locked_results(tmp_path, results) == [results / "a" / "numpy"]
    assert locked_results(tmp_path, tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
    "text", ["", "[]", "stages: 3", "stages: {a: 3}", "<<<<<<< HEAD\nstages: {}\n=======\n", "\x00"]
)
def test_a_lock_that_cannot_be_read_names_nothing(tmp_path: Path, text: str) -> None:
    assert locked_results(tmp_path, tmp_path / "results") == []
    (tmp_path / "dvc.lock").write_text(text)
    assert locked_results(tmp_path, tmp_path / "results") == []


def test_what_is_missing_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = lock(tmp_path, *(f"results/study_{number}/numpy" for number in range(SOME + 2)))
    for number in range(SOME + 2):
        warn_about_missing(tmp_path, results)
        message = capsys.readouterr().err
        assert message.startswith(f"skipped: {SOME + 2 - number} of {SOME + 2} results folders")
        assert message.count("results/study_") == min(SOME, SOME + 2 - number)
        assert message.count(" more") == (SOME + 2 - number > SOME)
        folder = results / f"study_{number}" / "numpy"
        folder.mkdir(parents=True)
        (folder / "sweep.json").touch()
    warn_about_missing(tmp_path, results)
    assert capsys.readouterr().err == ""


def test_a_folder_without_its_list_of_points_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = lock(tmp_path, "results/a/numpy")
    (results / "a" / "numpy" / "learning_rate=1").mkdir(parents=True)
    warn_about_missing(tmp_path, results)
    assert "1 of 1 results folders listed in dvc.lock are missing: results/a/numpy\n" in capsys.readouterr().err


def test_the_message_about_damage_names_dvc_pull_too(tmp_path: Path) -> None:
    with pytest.raises(DamagedError) as raised:
        read_study(tmp_path / "results" / "a" / "numpy")
    assert str(raised.value).splitlines()[-1] == (
        f"  to do:    delete {tmp_path}/results/a/numpy and retrain its points, "
        "or restore it with dvc pull (deploy/remote.md)"
    )


@pytest.mark.parametrize("error", MACHINE, ids=repr)
def test_a_lock_that_the_machine_does_not_let_be_read_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | MemoryError
) -> None:
    results = lock(tmp_path, "results/a/numpy")
    fail_at(monkeypatch, tmp_path / "dvc.lock", error)
    with pytest.raises(LabError) as raised:
        locked_results(tmp_path, results)
    check_machine_error(raised.value, error, tmp_path / "dvc.lock")
