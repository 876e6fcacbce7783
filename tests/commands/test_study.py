"""A new study: its file, its line for DVC, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from dvc.parsing import DataResolver
from dvc.repo import Repo
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from pydantic import Field, TypeAdapter

from pipeline.config.reading import read_any_data, read_config
from pipeline.config.schema import Data
from pipeline.studies.experiments import read_experiment
from pipeline.study import Entry, entries, make_study, with_entries
from pipeline.system.errors import LabError
from pipeline.system.project import CONF, PROJECT
from tests.support.damage import MACHINE, check_machine_error, fail_at
from tests.support.trained import composed_by_hydra

PIPELINE = (CONF / "pipeline.yaml").read_text()
DATA: TypeAdapter[Data] = TypeAdapter(Annotated[Data, Field(discriminator="kind")])


def file_data(**keys: object) -> Data:
    return DATA.validate_python({"kind": "file", "name": "churn", "target": "left", "task": "binary", **keys})


CHURN = file_data(path="my data/churn: new.csv")


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CONF, tmp_path / "conf"))


def section(name: str) -> Data:
    loaded = composed_by_hydra(CONF, [f"data={name}"])
    return read_any_data(loaded)


def listed(given: Data) -> dict[str, Any]:
    """The lists for DVC with a study of this data."""
    text, left = with_entries(PIPELINE, entries("mine", given.name, given))
    assert left == []
    lists: dict[str, Any] = yaml.safe_load(text)
    assert lists["pages"]["mine"] == f"data/prepared/{given.name}"
    return lists


@pytest.mark.parametrize("data", ["three_bits", "mnist"])
def test_the_file_is_a_config_of_that_data_with_a_grid_and_a_question(conf: Path, data: str) -> None:
    assert make_study("mine", data, section(data), conf) == []
    composed = composed_by_hydra(conf, ["experiment=mine"])
    plain = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(plain, dict)
    read = read_config({str(key): value for key, value in plain.items()})
    assert (read.study, read.data.name, read.report.order) == ("mine", data, 1000)
    assert read.question == f"What do the learning rate and the hidden size do to {data}?"
    experiment = read_experiment("mine", conf)
    assert experiment is not None
    assert experiment.question == read.question
    written = yaml.safe_load((conf / "experiment" / "mine.yaml").read_text())
    assert set(written["hydra"]["sweeper"]["params"]) == {"optimizer.learning_rate", "model.hidden_size"}


def test_what_is_commented_out_can_be_used(conf: Path) -> None:
    make_study("mine", "mnist", section("mnist"), conf)
    file = conf / "experiment" / "mine.yaml"
    lines = [line.replace("# - ", "- ").replace("# metric:", "metric:").replace("# size:", "size:") for line in
             file.read_text().splitlines()]  # fmt: skip
    file.write_text("\n".join(lines))
    composed = composed_by_hydra(conf, ["experiment=mine"])
    assert composed.optimizer.name == "sgd"
    assert composed.model.hidden_size is None
    assert (composed.report.metric, composed.report.size) == ("validation/accuracy", "model.hidden_size")


def test_dvc_gets_one_line_and_everything_else_stays(conf: Path) -> None:
    make_study("mine", "three_bits", section("three_bits"), conf)
    after = (conf / "pipeline.yaml").read_text()
    added = [line for line in after.splitlines() if line not in PIPELINE.splitlines()]
    assert added == ["  mine: conf/data/three_bits.yaml"]
    assert after.replace(f"{added[0]}\n", "") == PIPELINE
    lists = yaml.safe_load(after)
    for name in ("on_numpy", "on_keras", "pages"):
        assert lists[name] == yaml.safe_load(PIPELINE)[name] | {"mine": "conf/data/three_bits.yaml"}


@pytest.mark.parametrize(
    ("given", "prepared"),
    [
        (CHURN, "my data/churn: new.csv"),
        (DATA.validate_python({"kind": "images", "name": "churn", "path": "pictures"}), "pictures"),
        (file_data(path="~/churn.csv"), f"{Path.home()}/churn.csv"),
        (DATA.validate_python({"kind": "library", "name": "churn", "source": "sklearn:iris"}), "conf/data/churn.yaml"),
    ],
)
def test_data_that_has_to_be_prepared_gets_a_line_too(given: Data, prepared: str) -> None:
    text, left = with_entries(PIPELINE, entries("mine", "churn", given))
    assert left == []
    lists = yaml.safe_load(text)
    assert lists["prepared"] == {"mnist": "data/raw/mnist", "churn": prepared}
    assert lists["pages"]["mine"] == "data/prepared/churn"
    assert lists["fetched"] == ["mnist"]
    again, _ = with_entries(text, entries("second", "churn", given))
    assert yaml.safe_load(again)["prepared"] == lists["prepared"]


def test_what_keras_downloads_is_fetched_before_it_is_prepared() -> None:
    lists = listed(DATA.validate_python({"kind": "library", "name": "cifar", "source": "keras:cifar10"}))
    assert lists["fetched"] == ["mnist", "cifar"]
    assert lists["prepared"]["cifar"] == "data/raw/cifar"


def test_dvc_depends_on_a_file_of_test_rows(lab: Path) -> None:
    given = file_data(path="rows.csv", test_path="tests: new.csv")
    lists = listed(given)
    assert lists["prepared"] == {"mnist": "data/raw/mnist"}
    assert lists["prepared_with_test_rows"] == {"churn": {"rows": "rows.csv", "test_rows": "tests: new.csv"}}
    other = given.model_copy(update={"name": "other"})
    text, left = with_entries(PIPELINE, entries("mine", "churn", given))
    assert left == []
    text, left = with_entries(text, entries("second", "other", other))
    assert left == []
    assert set(yaml.safe_load(text)["prepared_with_test_rows"]) == {"churn", "other"}
    dependencies = stages(lab, text)["prepare_with_test_rows@churn"]["deps"]
    assert {"rows.csv", "tests: new.csv", "pipeline/prepare.py"} <= set(dependencies)


def test_dvc_depends_on_the_code_of_models_elsewhere_in_the_project(lab: Path) -> None:
    found = stages(lab, PIPELINE.replace("  examples: examples\n", "  examples: examples\n  mine: networks.py\n"))
    outs = {stage["outs"][0]: stage["deps"] for name, stage in found.items() if name.startswith("code@")}
    assert outs == {"data/code/examples.txt": ["examples"], "data/code/mine.txt": ["networks.py"]}
    assert "data/code" in found["shared"]["deps"]
    (lab / "networks.py").write_text("one = 1\n")
    first = shared_checksums(lab, found)
    (lab / "networks.py").write_text("one = 2\n")
    assert shared_checksums(lab, found) != first


def stages(lab: Path, lists: str) -> dict[str, dict[str, Any]]:
    """The stages that DVC makes of its file and these lists."""
    (lab / "conf" / "pipeline.yaml").write_text(lists)
    content = yaml.safe_load((PROJECT / "dvc.yaml").read_text())
    with Repo.init(str(lab), no_scm=True) as repo:
        found: dict[str, dict[str, Any]] = DataResolver(repo, str(lab), content).resolve()["stages"]
    return found


def shared_checksums(lab: Path, found: dict[str, dict[str, Any]]) -> str:
    """What the stages write that training depends on."""
    for name in ("code@mine", "shared"):
        subprocess.run(found[name]["cmd"], shell=True, cwd=lab, check=True)
    return (lab / "data" / "shared.txt").read_text()


def test_a_folder_of_ones_own_gets_the_study_and_dvc_nothing(lab: Path, tmp_path: Path) -> None:
    own = tmp_path / "my folder"
    (own / "data").mkdir(parents=True)
    text = (CONF / "data" / "three_bits.yaml").read_text()
    (own / "data" / "bits.yaml").write_text(text.replace("name: three_bits", "name: bits"))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", arguments[0], "--config-dir", str(own), *arguments[1:]]
        return subprocess.run(command, cwd=lab, capture_output=True, text=True, check=False)

    done = run("pipeline.study", "name=mine", "data=bits")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"train it: python -m pipeline.train --config-dir '{own}' experiment=mine;" in done.stdout
    assert (lab / "conf" / "pipeline.yaml").read_text() == PIPELINE
    assert not (lab / "conf" / "experiment" / "mine.yaml").exists()
    assert f"data: bits # the data set, {own}/data/bits.yaml" in (own / "experiment" / "mine.yaml").read_text()
    done = run("pipeline.train", "experiment=mine", "dry_run=true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("to run") == 18
    again = run("pipeline.study", "name=mine", "data=bits")
    assert f"{own}/experiment/mine.yaml" in again.stderr
    taken = run("pipeline.study", "name=three_bits", "data=bits")
    assert "conf/experiment/three_bits.yaml" in taken.stderr


@pytest.mark.parametrize(
    ("data", "metric"), [("three_bits", "train/mean_absolute_error"), ("churn", "validation/accuracy"),
                         ("diabetes", "validation/mean_absolute_error")]
)  # fmt: skip
def test_the_metric_to_start_from_fits_the_data(conf: Path, data: str, metric: str) -> None:
    make_study("mine", data, section(data), conf)
    assert f"  # metric: {metric} #" in (conf / "experiment" / "mine.yaml").read_text()


def test_data_with_sources_is_fetched_once() -> None:
    text, left = with_entries(PIPELINE, entries("mine", "fashion_mnist", section("fashion_mnist")))
    assert left == []
    lists = yaml.safe_load(text)
    assert lists["fetched"] == ["mnist", "fashion_mnist"]
    assert lists["prepared"]["fashion_mnist"] == "data/raw/fashion_mnist"
    assert with_entries(text, entries("mine", "fashion_mnist", section("fashion_mnist"))) == (text, [])


@pytest.mark.parametrize(
    "text",
    [
        "profile: full\n",
        "numpy_and_keras: {three_bits: conf/data/three_bits.yaml}\n",
        "numpy_and_keras: &both {\n  three_bits: a }\n",
    ],
)
def test_lists_of_another_form_stay_and_the_line_is_said(text: str) -> None:
    wanted = entries("mine", "three_bits", section("three_bits"))
    assert with_entries(text, wanted) == (text, wanted)
    assert wanted == [Entry("numpy_and_keras", "mine: conf/data/three_bits.yaml")]


def test_an_existing_study_is_kept(conf: Path) -> None:
    before = (conf / "experiment" / "mnist.yaml").read_bytes()
    with pytest.raises(LabError, match=r"The study mnist exists already(.|\n)*conf/experiment/mnist\.yaml"):
        make_study("mnist", "mnist", section("mnist"), conf)
    assert (conf / "experiment" / "mnist.yaml").read_bytes() == before
    assert (conf / "pipeline.yaml").read_text() == PIPELINE


@pytest.mark.parametrize("name", ["", "no", "null", "1e3", "../up", "a/b", "a.b", "mine?", "a" * 101, "mine\n"])
def test_a_name_that_is_no_name_is_refused(conf: Path, name: str) -> None:
    with pytest.raises(LabError, match="A study cannot have this name"):
        make_study(name, "three_bits", section("three_bits"), conf)
    assert {file.name for file in (conf / "experiment").iterdir()} == {
        file.name for file in (CONF / "experiment").iterdir()
    }


def test_data_without_a_network_or_of_another_name_is_refused(conf: Path) -> None:
    with pytest.raises(LabError, match=r"curve_bowl is a curve(.|\n)*curve_restarts"):
        make_study("mine", "curve_bowl", section("curve_bowl"), conf)
    with pytest.raises(LabError, match=r"conf/data/other\.yaml has another name(.|\n)*name: other"):
        make_study("mine", "other", CHURN, conf)
    assert not (conf / "experiment" / "mine.yaml").exists()


@pytest.mark.parametrize("text", ["", "- a\n", "a: [\n"])
def test_lists_that_are_damaged_are_named_and_nothing_is_written(conf: Path, text: str) -> None:
    (conf / "pipeline.yaml").write_text(text)
    with pytest.raises(LabError, match=r"conf/pipeline\.yaml cannot be read"):
        make_study("mine", "three_bits", section("three_bits"), conf)
    assert not (conf / "experiment" / "mine.yaml").exists()


def test_lists_that_this_machine_cannot_read_are_not_called_damaged(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, conf / "pipeline.yaml", MACHINE[0])
    with pytest.raises(LabError) as raised:
        make_study("mine", "three_bits", section("three_bits"), conf)
    check_machine_error(raised.value, MACHINE[0], Path("conf/pipeline.yaml"))


def test_the_command_writes_a_study_that_trains(lab: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", *arguments], cwd=lab, capture_output=True, text=True, check=False)

    done = run("pipeline.study", "name=bits", "data=three_bits")
    assert (done.returncode, done.stderr) == (0, "")
    assert "study: conf/experiment/bits.yaml" in done.stdout
    file = lab / "conf" / "experiment" / "bits.yaml"
    grid = yaml.safe_load(file.read_text())["hydra"]["sweeper"]["params"]
    parsed = OverridesParser.create().parse_override(f"model.hidden_size={grid['model.hidden_size']}")
    assert parsed.is_discrete_sweep()
    # A short grid, for the time that it takes.
    file.write_text(file.read_text().replace("logspace(0.0001,1,9)", "0.1,1"))
    done = run("pipeline.train", "experiment=bits", "training.epochs=2", "dry_run=true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("to run") == 4
    refused = run("pipeline.study", "name=second", "data=three_bit")
    assert refused.returncode == 1
    assert "did you mean data=three_bits?" in refused.stderr
    refused = run("pipeline.study", "name=second")
    assert "Name the data set of the study." in refused.stderr
    assert "Traceback" not in refused.stderr
