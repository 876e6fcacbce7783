"""The results folder is checked before anything is trained, and the check leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.points import destination
from pipeline.points.destination import results_folder
from pipeline.system.errors import LabError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "lab"
    (folder / "pipeline").mkdir(parents=True)
    (folder / "README.md").write_text("read me")
    (folder / "results" / "earlier").mkdir(parents=True)
    (folder / "results" / "earlier" / "sweep.json").write_text("{}")
    return folder


def tree(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("results", ["r", "results/new/numpy", "results/earlier", "x y/é", "./~"])
def test_a_folder_of_its_own_is_taken_and_not_made_yet(project: Path, results: str) -> None:
    before = tree(project.parent)
    assert results_folder(results, project) == project / results
    assert tree(project.parent) == before


@pytest.mark.parametrize(
    ("results", "received"),
    [
        ("README.md", "README.md, which is a file"),
        ("README.md/results", "README.md, which is a file"),
        ("pipeline/results", "a folder in {project}/pipeline, which belongs to the project"),
        ("conf", "a folder in {project}/conf, which belongs to the project"),
        (".points/x", "a folder in {project}/.points, which belongs to the project"),
        (".git", "a folder in {project}/.git, which belongs to the project"),
        ("mlruns/artifacts/x", "a folder in {project}/mlruns, which belongs to the project"),
        ("link/x", "a folder in {project}/pipeline, which belongs to the project"),
        ("{project}", "the project folder, or a folder that contains it"),
        ("/", "the project folder, or a folder that contains it"),
        ("results/earlier/mine", "a folder in the results folder {project}/results/earlier, which every command"),
    ],
)
def test_a_file_and_a_folder_of_something_else_are_refused(project: Path, results: str, received: str) -> None:
    (project / "link").symlink_to(project / "pipeline")
    before = tree(project.parent)
    with pytest.raises(LabError, match="cannot be a results folder") as caught:
        results_folder(results.format(project=project), project)
    assert received.format(project=project) in caught.value.received
    assert "to do:    name another folder: results=results/STUDY/BACKEND" in str(caught.value)
    assert tree(project.parent) == before


def test_a_folder_with_other_files_is_refused(project: Path) -> None:
    (project / "thesis").mkdir()
    (project / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(LabError, match="thesis is not a results folder"):
        results_folder("thesis", project)


@pytest.mark.parametrize("name", ["x" * 250, "x" * 300 + "/y", "y/" + "x" * 300])
def test_a_name_that_is_too_long_once_it_is_written_is_refused(project: Path, name: str) -> None:
    with pytest.raises(LabError, match=r"cannot be written(.|\n)*File name too long"):
        results_folder(name, project)


def test_a_folder_that_cannot_be_written_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(destination, "scratch_beside", refuse)
    with pytest.raises(LabError, match=r"cannot be written(.|\n)*Permission denied"):
        results_folder("results/new", project)


def test_a_tilde_is_the_home_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = project.parent / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    assert results_folder("~/out", project) == home / "out"
    assert not (project / "~").exists()
    with pytest.raises(LabError, match=r"results begins with ~, but that home folder does not exist"):
        results_folder("~no-such-user/out", project)


def test_a_temporary_copy_by_dvc_has_its_own_results(project: Path) -> None:
    copy = project / ".dvc" / "tmp" / "exps" / "abc"
    copy.mkdir(parents=True)
    assert results_folder("results/three_bits/numpy", copy) == copy / "results/three_bits/numpy"
    with pytest.raises(LabError, match="which belongs to the project"):
        results_folder(str(project / ".points"), copy)
