"""The section of a Keras model of one's own, what it is refused with, and which code counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.config.own_code import code_folders, folder_of, located, sources
from pipeline.config.own_model import KerasModel
from pipeline.config.reading import read_config
from pipeline.config.schema import Config, flatten
from pipeline.points.identity import signature
from pipeline.points.point import point_name
from pipeline.sweep.jobs import JobMaker
from pipeline.sweep.training import StackTraining
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT
from tests.support.prepared_images import write_prepared
from tests.support.trained import config

CONVNET = ("experiment=convnet",)
SUMS = {"table": "0" * 64}


def own(config: Config) -> KerasModel:
    assert isinstance(config.model, KerasModel)
    return config.model


def in_folder(place: Path, **knobs: object) -> KerasModel:
    return KerasModel.model_validate({"_target_": "net.build", "_folder_": str(place), **knobs})


# --- the section


def test_every_other_key_is_a_knob_that_is_swept_named_and_written() -> None:
    one = config(*CONVNET, "model.filters=5", "optimizer.learning_rate=0.1")
    assert own(one).knobs == {"filters": 5, "kernel_size": 3, "dropout": 0.0}
    assert {"model._target_": "examples.convnet.build", "model.filters": 5}.items() <= dict(flatten(one)).items()
    assert point_name(one, ["model.filters=5"]) == "learning_rate=0.1 filters=5"
    assert one.model.hidden_size is None
    assert (one.output_activation, one.report.size) == ("softmax", "model.filters")


def test_a_config_is_read_back_as_it_was_written() -> None:
    one = config(*CONVNET, "+model.widths=[3,[4,null]]", "+model.name=a", "+model.output_activation=auto")
    written = json.loads(json.dumps(one.model_dump(mode="json")))
    assert read_config(written) == one
    assert own(one).knobs["widths"] == [3, [4, None]]
    assert own(one).knobs["output_activation"] == "auto"  # a knob, which nothing resolves


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model._target_=build"], "model._target_: string should match pattern"),
        (["model._target_=null"], "model._target_: input should be a valid string"),
        (["+model.width={a: 3}"], "model.width: expected a number, a text, true, false, null, or a list of them"),
        (["+model._partial_=true"], "model: expected knobs with the names of parameters, received _partial_"),
        (["backend=numpy"], "model: examples.convnet.build makes a Keras model; use backend=keras; received"),
        (["optimizer=bfgs"], "optimizer: a Keras model of one's own needs an optimizer that follows the gradient"),
        (["training.l2=0.1"], "training.l2: a Keras model of one's own has its penalties in its layers"),
        (
            ["recording.weight_metrics=true"],
            "recording.weight_metrics: a Keras model of one's own has too many weights",
        ),
        (["gradient=finite_difference"], "gradient: the Keras backend uses automatic differentiation"),
        (["data=curve_bowl"], "data: a Keras model of one's own needs rows to train on"),
        (["loss=mean_squared_error"], "loss: data=mnist, whose task is classification"),
    ],
)
def test_what_such_a_model_cannot_have_is_said_once(overrides: list[str], words: str) -> None:
    with pytest.raises(LabError) as caught:
        config(*CONVNET, *overrides)
    lines = str(caught.value).splitlines()
    assert sum(words in line for line in lines) == 1, lines
    if "curve" not in str(overrides) and "mean" not in str(overrides):
        assert len(lines) == 3, lines


def test_a_table_with_numbers_that_are_no_probabilities_has_no_cross_entropy() -> None:
    small = ("data=line_y3x", "report.metric=null", "training.rows=null", "training.batch_size=null")
    config(*CONVNET, *small, "loss=mean_squared_error")
    with pytest.raises(LabError, match="loss: binary_cross_entropy needs targets from 0 to 1; data=line_y3x has "):
        config(*CONVNET, *small, "loss=binary_cross_entropy")


def test_a_misspelled_key_of_a_dense_network_still_names_the_one_that_was_meant() -> None:
    with pytest.raises(LabError, match=r"model\.hiden_size: no such key; did you mean model\.hidden_size\?"):
        config("+model.hiden_size=3")


# --- where the code is


def test_code_is_looked_for_beside_the_configs_and_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name of its own: a module that another test of this process has imported would be found.
    (tmp_path / "mine" / "conf").mkdir(parents=True)
    (tmp_path / "mine" / "unimported.py").write_text("def build(input_shape, outputs): ...\n")
    monkeypatch.chdir(tmp_path)
    model = KerasModel.model_validate({"_target_": "unimported.build"})
    assert folder_of(located(model, code_folders([tmp_path / "mine" / "conf"]))) == tmp_path / "mine"
    missing = (
        r"the module unimported\.inner was not found\.\n  expected: unimported/inner\.py in one of .*conf, .*mine, "
    )
    with pytest.raises(LabError, match=missing):
        located(
            KerasModel.model_validate({"_target_": "unimported.inner.build"}),
            code_folders([tmp_path / "mine" / "conf"]),
        )
    with pytest.raises(LabError, match="the module unimported was not found"):
        located(model, code_folders([]))
    monkeypatch.chdir(tmp_path / "mine")
    assert folder_of(located(model, code_folders([]))) == tmp_path / "mine"


def test_the_projects_own_modules_come_first_and_need_no_folder(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "convnet.py").write_text("")
    model = own(config(*CONVNET))
    assert located(model, [tmp_path]) == model
    assert folder_of(model) == PROJECT
    assert list(sources(model)) == ["examples/convnet.py"]


def test_the_code_of_an_installed_package_ends_with_the_package() -> None:
    found = sources(KerasModel.model_validate({"_target_": "pydantic.main.create_model"}))
    assert "pydantic/main.py" in found
    assert all(name.startswith("pydantic/") for name in found)


# --- which code counts


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_what_the_module_imports_of_its_folder_counts_and_nothing_else(tmp_path: Path) -> None:
    write(
        tmp_path,
        net="import math, keras\nimport layers\nfrom package.inner import deep\n",
        layers="from package import top\n",
        package__init="",
        package__inner="from . import beside\nfrom .. import nothing\ndef deep(): import late\n",
        package__beside="",
        late="",
        unused="",
    )
    (tmp_path / "package" / "init.py").rename(tmp_path / "package" / "__init__.py")
    assert sorted(sources(in_folder(tmp_path))) == [
        "late.py",
        "layers.py",
        "net.py",
        "package/__init__.py",
        "package/beside.py",
        "package/inner.py",
    ]


def test_a_change_of_the_code_is_another_point_and_a_comment_or_another_folder_is_none(tmp_path: Path) -> None:
    one = config(*CONVNET)

    def signed(place: Path, **knobs: object) -> str:
        return signature(one.model_copy(update={"model": in_folder(place, **knobs)}), SUMS)

    write(tmp_path / "a", net="import layers\ndef build(): return 1\n", layers="SIZE = 3\n")
    first = signed(tmp_path / "a", width=3)
    assert signed(tmp_path / "a", width=4) != first
    assert signed(tmp_path / "a", folder=3, width=3) != first
    write(tmp_path / "b", net='"""Said."""\nimport layers\ndef build():\n    return 1  # so\n', layers="SIZE = 3\n")
    assert signed(tmp_path / "b", width=3) == first
    write(tmp_path / "a", layers="SIZE = 4\n")
    assert signed(tmp_path / "a", width=3) != first


def test_images_that_were_prepared_without_their_shape_make_another_point(tmp_path: Path) -> None:
    """The function gets the shape, and the arrays are the same with it and without."""
    write_prepared(tmp_path, "mnist")
    file = tmp_path / "data" / "prepared" / "mnist" / "data.json"
    content = json.loads(file.read_text())
    own_model, dense = config(*CONVNET), config("experiment=mnist")

    def signed() -> list[str]:
        training = StackTraining(JobMaker(tmp_path, own_model), {}, lambda jobs: "a stack", lambda: None)
        return [training.job(one, []).signature for one in (own_model, dense)]

    signatures = []
    for shape in ([28, 28, 1], None):
        file.write_text(json.dumps({**content, "row_shape": shape}))
        signatures.append(signed())
    assert signatures[0][0] != signatures[1][0]
    assert signatures[0][1] == signatures[1][1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"def build(:\n", "net.py, line 1, is not valid Python"),
        (b"x = '\xff'\n", "net.py cannot be read"),
        (b"x = 1\0\n", "is not valid Python"),
    ],
)
def test_code_that_python_cannot_read_is_one_message(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / "net.py").write_bytes(text)
    one = config(*CONVNET)
    with pytest.raises(LabError, match=words):
        signature(one.model_copy(update={"model": in_folder(tmp_path)}), SUMS)
