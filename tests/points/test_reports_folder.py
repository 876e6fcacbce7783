"""The folder of the report is checked before a command trains for it or writes to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from pipeline.compare import compare
from pipeline.points import destination
from pipeline.points.destination import MARKS, PAGES, check_reports
from pipeline.rounding import rounding
from pipeline.system.errors import LabError
from pipeline.system.project import CONF


@pytest.fixture
def project(tmp_path: Path) -> Path:
    lab = tmp_path / "lab"
    for file in (
        "README.md",
        "pipeline/studies/grids.py",
        "tests/studies/test_grids.py",
        "reports/recorded/mnist.csv",
        "results/three_bits/numpy/sweep.json",
        "earlier/points.csv",
        "thesis/chapter.tex",
        "killed/.points.csv.partial-1-2-.csv",
    ):
        (lab / file).parent.mkdir(parents=True, exist_ok=True)
        (lab / file).write_text(file)
    (lab / "link").symlink_to(lab / "tests")
    return lab


def tree(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("reports", ["reports", "reports/mine", "mine", "{project}/../out", "earlier", "killed"])
def test_the_report_has_a_folder_that_is_its_own_or_new(project: Path, reports: str) -> None:
    before = tree(project.parent)
    check_reports(project / reports.format(project=project), project)
    assert tree(project.parent) == before


@pytest.mark.parametrize("mark", MARKS)
def test_a_part_of_an_earlier_report_is_enough(project: Path, mark: str) -> None:
    (project / "earlier" / "points.csv").rename(project / "earlier" / mark)
    (project / "earlier" / "README.md").write_text("an overview")
    check_reports(project / "earlier", project)


def test_pages_alone_are_enough_and_other_files_among_them_are_not(project: Path) -> None:
    for file in ("studies/mine.md", "studies/mine.png", "curves/mine.csv", "metrics/mine/numpy.json"):
        (project / "pages" / file).parent.mkdir(parents=True, exist_ok=True)
        (project / "pages" / file).write_text(file)
    check_reports(project / "pages", project)
    with pytest.raises(LabError, match="which the report in"):
        check_reports(project / "pages" / PAGES, project)
    # The whole report would replace the folder.
    (project / "pages" / PAGES / "notes.txt").write_text("mine")
    with pytest.raises(LabError, match="a folder with other files in it"):
        check_reports(project / "pages", project)


REFUSED = [
    ("pipeline", "a folder in {project}/pipeline, which belongs to the project"),
    ("tests", "a folder in {project}/tests, which belongs to the project"),
    ("conf/new", "a folder in {project}/conf, which belongs to the project"),
    (".points", "a folder in {project}/.points, which belongs to the project"),
    ("link/x", "a folder in {project}/tests, which belongs to the project"),
    ("reports/../docs", "a folder in {project}/docs, which belongs to the project"),
    (".", "the project folder, or a folder that contains it"),
    ("..", "the project folder, or a folder that contains it"),
    ("README.md", "{project}/README.md, which is a file"),
    ("thesis", "a folder with other files in it, and no points.csv"),
    ("results", "a folder with other files in it, and no points.csv"),
    ("results/three_bits/numpy/new", "a folder in the results folder {project}/results/three_bits/numpy"),
    (f"reports/{PAGES}", "a folder in {project}/reports/studies, which the report in {project}/reports replaces"),
    (f"earlier/{PAGES}/mine", "a folder in {project}/earlier/studies, which the report in {project}/earlier replaces"),
]


@pytest.mark.parametrize(("reports", "received"), REFUSED)
def test_a_folder_of_something_else_is_refused(project: Path, reports: str, received: str) -> None:
    before = tree(project.parent)
    with pytest.raises(LabError, match="cannot be the folder of a report") as refused:
        check_reports(project / reports, project)
    assert received.format(project=project) in refused.value.received
    assert "to do:    name another folder, reports=DIR, or omit reports" in str(refused.value)
    assert tree(project.parent) == before


@pytest.mark.parametrize("command", [compare, rounding])
def test_a_command_refuses_it_before_it_reads_the_results(
    project: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[DictConfig], None]
) -> None:
    monkeypatch.setattr(f"{command.__module__}.PROJECT", project)
    config = OmegaConf.load(CONF / f"{command.__name__}.yaml")
    assert isinstance(config, DictConfig)
    config.reports = "pipeline"
    before = tree(project)
    with pytest.raises(LabError, match="cannot be the folder of a report"):
        command(config)
    assert tree(project) == before


def test_a_folder_that_cannot_be_written_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(destination, "scratch_beside", refuse)
    with pytest.raises(LabError, match=r"reports cannot be written(.|\n)*Permission denied"):
        check_reports(project / "reports", project)


def test_a_temporary_copy_by_dvc_has_a_report_of_its_own(project: Path) -> None:
    copy = project / ".dvc" / "tmp" / "exps" / "abc"
    (copy / "reports" / "recorded").mkdir(parents=True)
    check_reports(copy / "reports", copy)
    with pytest.raises(LabError, match="which belongs to the project"):
        check_reports(project / "pipeline", copy)
