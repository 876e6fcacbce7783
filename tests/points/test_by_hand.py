"""Studies that were trained without `results=`: found in .points/, and shown in the report."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml

from pipeline import compare as command
from pipeline.compare import read_trained, write_report, write_study
from pipeline.config.schema import Report
from pipeline.points.by_hand import read_sweep_points, sweeps_by_hand
from pipeline.points.point import POINTS
from pipeline.report.overview import with_studies
from pipeline.studies.experiments import as_the_file_says
from pipeline.system.project import PROJECT
from tests.support.swept import Request, rates, request, swept

OWN = ("experiment=line_y2x", "gradient=backpropagation", "training.epochs=5")
ASKED = ("study=mine", "question='How fast?'", "report.order=15")


def grid(*values: str, more: tuple[str, ...] = ASKED) -> list[Request]:
    return rates(*values, more=more, common=OWN)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, plain_runs: None) -> Path:
    """A project with two sweeps of one study, a single training, one of a study with a file, and one of DVC's."""
    root: Path = tmp_path_factory.mktemp("by_hand")
    (root / "mlruns").mkdir()
    shutil.copy(empty_store, root / "mlruns" / "mlflow.db")
    swept(root, grid("0.01", "0.1", "0.2"))
    swept(root, grid("0.1", "0.05"))
    swept(root, [request("study=line_y2x_by_hand", common=OWN)])
    swept(root, [request("study=two_bits", common=OWN)])
    swept(root, grid("0.01", "0.02", more=("study=line_y3x",)))
    return root


def test_the_newest_sweep_of_each_study_counts(trained: Path) -> None:
    found = sweeps_by_hand(trained, {"line_y3x"}, {"two_bits"})
    assert [(sweep.study, sweep.backend, len(sweep.points)) for sweep in found] == [
        ("mine", "numpy", 2),
        ("two_bits", "numpy", 1),
    ]
    points = read_sweep_points(trained, found[0])
    assert [point.learning_rate for point in points] == [0.1, 0.05]
    assert sweeps_by_hand(trained / "nowhere", set(), set()) == []


@pytest.mark.usefixtures("plain_runs")
def test_what_a_later_command_asks_of_the_same_points_is_what_the_page_asks(project: Path) -> None:
    swept(project, grid("0.01", "0.1", more=("study=other", "question=First?", "report.size=seed")))
    swept(project, grid("0.01", "0.1"))
    again = ("study=mine", "question='And now?'", "report.metric=train/loss", "report.size=training.epochs")
    swept(project, grid("0.01", "0.1", more=again))
    found = sweeps_by_hand(project, {"other"}, set())
    for point in read_sweep_points(project, found[0]):
        asked = point.config
        assert (asked.study, asked.question) == ("mine", "And now?")
        assert (asked.report.metric, asked.report.size) == ("train/loss", "training.epochs")
    # As in a record of an earlier version.
    [earlier] = [replace(sweep, report=None) for sweep in found]
    assert {point.config.study for point in read_sweep_points(project, earlier)} == {"other"}


@pytest.mark.usefixtures("plain_runs")
def test_the_file_of_a_study_says_what_judges_points_that_are_trained_already(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "PROJECT", project)
    monkeypatch.setattr(command, "as_the_file_says", partial(as_the_file_says, conf=project / "conf"))
    results = project / "results" / "mine" / "numpy"
    swept(project, grid("0.01", "0.1", more=("study=other", "question=First?")))
    swept(project, grid("0.01", "0.1", more=(*ASKED, "report.size=training.epochs", f"results={results}")))

    def reports(by_hand: bool) -> set[Report]:
        read = read_trained(project / "results", by_hand=by_hand).results["mine"]["numpy"]
        return {point.config.report for point in read}

    stored = Report(size="training.epochs", order=15)
    assert reports(by_hand=False) == {stored}
    (project / "conf" / "experiment").mkdir(parents=True, exist_ok=True)
    file = project / "conf" / "experiment" / "mine.yaml"
    file.write_text("study: mine\nreport: {metric: train/loss, order: 3}\n")
    written = Report(metric="train/loss", size="training.epochs", order=3)
    assert reports(by_hand=False) == {written}
    shutil.rmtree(project / "results")
    assert reports(by_hand=True) == {written}


def test_a_point_that_is_missing_or_damaged_is_left_out_and_said(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / POINTS, tmp_path / POINTS)
    [sweep] = sweeps_by_hand(tmp_path, {"line_y3x"}, set())
    capsys.readouterr()
    first, second = (tmp_path / POINTS / point.signature for point in sweep.points)
    (first / "metrics.csv").write_text("")
    assert [point.learning_rate for point in read_sweep_points(tmp_path, sweep)] == [0.05]
    said = capsys.readouterr().err
    assert "cannot be read" in said
    assert "mine numpy, trained by hand: 1 of 2 points are complete" in said
    shutil.rmtree(second)
    (first / "SHA256SUMS").unlink()
    # The earlier sweep has a point that is whole.
    [sweep] = sweeps_by_hand(tmp_path, {"line_y3x"}, set())
    assert len(sweep.points) == 3


def test_the_report_has_what_was_trained_by_hand_and_says_so(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "PROJECT", trained)
    found = read_trained(trained / "results", by_hand=True)
    assert set(found.results) == {"mine", "two_bits", "line_y3x"}
    assert found.by_hand == ["line_y3x", "mine", "two_bits"]
    assert read_trained(trained / "results", by_hand=False).results == {}
    assert set(read_trained(trained / "results", True, "mine").results) == {"mine"}
    write_report(found, PROJECT / "published", tmp_path)
    overview = (tmp_path / "README.md").read_text()
    assert "| [mine](studies/mine.md) | How fast? |" in overview
    # report.order puts it between line_y2x, 10, and line_y3x, 20.
    places = [overview.index(f"| [{study}](") for study in ("line_y2x", "mine", "line_y3x")]
    assert places == sorted(places)
    assert "\nTrained by hand, and not by DVC: line_y3x, mine, two_bits. Of these, " in overview
    page = (tmp_path / "studies" / "mine.md").read_text()
    assert "\nHow fast?\n\nTrained by hand: DVC has not trained this study" in page
    before = {file.name: file.read_bytes() for file in (tmp_path / "studies").iterdir()}
    write_study("mine", found, tmp_path)
    assert {file.name: file.read_bytes() for file in (tmp_path / "studies").iterdir()} == before


def test_an_overview_of_other_studies_gets_a_line_and_keeps_the_rest(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "PROJECT", trained)
    for name in ("README.md", "points.csv", "parity.csv", "reproduction.csv"):
        shutil.copy(PROJECT / "reports" / name, tmp_path / name)
    before = (tmp_path / "README.md").read_text().splitlines()
    found = read_trained(trained / "results", by_hand=True, study="mine")
    for _ in range(2):
        write_report(found, PROJECT / "published", tmp_path, pages=False)
        after = (tmp_path / "README.md").read_text().splitlines()
        added = [line for line in after if line not in before]
        assert len(added) == 2
        assert added[0].startswith("| [mine](studies/mine.md) | How fast? |")
        assert added[1].startswith("Trained by hand, and not by DVC: mine.")
        assert [line for line in after if line and line not in added] == [line for line in before if line]
    assert after.index(added[0]) == after.index("## Terminology") - 4
    # Not as this program wrote it.
    assert with_studies("# Notes\n", found.results, found.by_hand) == "# Notes\n"


def test_what_dvc_trains_wins_also_where_its_results_are_missing(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained / POINTS, tmp_path / POINTS)
    monkeypatch.setattr(command, "PROJECT", tmp_path)
    stages = {"train_keras@mine": {"cmd": "c", "outs": [{"path": "results/mine/keras"}]}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    assert read_trained(tmp_path / "results", by_hand=True).by_hand == ["line_y3x", "two_bits"]
    swept_by_dvc = tmp_path / "results" / "two_bits" / "numpy"
    [sweep] = sweeps_by_hand(tmp_path, {"line_y3x", "mine"}, {"two_bits"})
    [member] = sweep.points
    shutil.copytree(tmp_path / POINTS / member.signature, swept_by_dvc / member.folder)
    (swept_by_dvc / "sweep.json").write_text(json.dumps(sweep.to_dict() | {"command": "by dvc"}))
    found = read_trained(tmp_path / "results", by_hand=True)
    assert found.by_hand == ["line_y3x"]
    assert found.commands["two_bits", "numpy"] == "by dvc"
