"""The files of studies: what the report takes from them, and what it says of one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.studies.experiments import ordered, question_of, read_experiment, read_experiments
from pipeline.system.errors import DamagedError, LabError
from pipeline.system.project import CONF
from tests.support.damage import MACHINE, check_machine_error, fail_at


def write(conf: Path, name: str, text: str) -> None:
    (conf / "experiment").mkdir(exist_ok=True)
    (conf / "experiment" / f"{name}.yaml").write_text(text)


def test_every_study_of_this_repository_has_a_question_and_a_place_of_its_own() -> None:
    found = read_experiments()
    assert all(experiment.question and experiment.question.endswith("?") for experiment in found.values())
    places = [experiment.report.order for experiment in found.values()]
    assert len(set(places)) == len(places)
    assert set(found) == {file.stem for file in (CONF / "experiment").glob("*.yaml")}


def test_studies_have_the_order_of_their_files_and_then_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, "late", "study: late\nreport: {order: 20}\n")
    write(tmp_path, "soon", "study: soon\nreport: {order: 5}\n")
    write(tmp_path, "plain", "study: plain\nquestion: And now?\n")
    assert ordered({}, ["ant", "soon"], conf=tmp_path) == ["soon", "late", "ant", "plain"]
    assert question_of("plain", {}, conf=tmp_path) == "And now?"
    assert question_of("late", {}, conf=tmp_path) is None


def test_a_variation_of_another_study_is_no_study(tmp_path: Path) -> None:
    write(tmp_path, "longer", "study: plain\nquestion: And for longer?\n")
    write(tmp_path, "nameless", "question: Whose?\n")
    assert read_experiments(tmp_path) == {}
    assert read_experiment("missing", tmp_path) is None


@pytest.mark.parametrize(
    "text",
    ["", "- a\n", "study: [broken\n", "study: broken\nquestion: [a, b]\n", "study: broken\nreport: {order: first}\n"],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str) -> None:
    write(tmp_path, "broken", text)
    with pytest.raises(DamagedError, match=r"conf/experiment/broken\.yaml cannot be read"):
        read_experiments(tmp_path)


@pytest.mark.parametrize("error", MACHINE, ids=str)
def test_a_file_that_this_machine_cannot_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | MemoryError
) -> None:
    write(tmp_path, "plain", "study: plain\n")
    fail_at(monkeypatch, tmp_path / "experiment" / "plain.yaml", error)
    with pytest.raises(LabError) as raised:
        read_experiment("plain", tmp_path)
    check_machine_error(raised.value, error, Path("conf/experiment/plain.yaml"))


def test_the_lists_for_dvc_name_each_study_once_with_the_data_that_it_reads() -> None:
    lists = yaml.safe_load((CONF / "pipeline.yaml").read_text())
    by_backend = [study for name in ("numpy_and_keras", "only_numpy", "only_keras") for study in lists[name]]
    assert len(set(by_backend)) == len(by_backend)
    assert set(lists["pages"]) == {*by_backend, "lr_range_check"} == set(read_experiments())
    for study, read in lists["pages"].items():
        content = yaml.safe_load((CONF / "experiment" / f"{study}.yaml").read_text())
        chosen = [entry["override /data"] for entry in content.get("defaults", []) if "override /data" in entry]
        data = next(iter(chosen), "mnist")
        assert read == (f"data/prepared/{data}" if data in lists["prepared"] else f"conf/data/{data}.yaml")
