"""A key or an option that does not exist: the one that was meant is named, and the same command accepts it."""

from __future__ import annotations

import re
from collections import Counter
from typing import get_args

import pytest
from hydra.errors import MissingConfigException
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from pipeline.config.model import Model
from pipeline.config.schema import Config, flatten
from pipeline.system.errors import LabError
from pipeline.system.hints import OPTION_SYNONYMS, SYNONYMS, nearest_key, nearest_option
from pipeline.system.project import CONF
from pipeline.system.unknown import unknown_key, unknown_option
from tests.support.trained import composed_by_hydra, config

ADAM = [key for key, _ in flatten(config())]
OPTIONS = {folder.name: [file.stem for file in folder.glob("*.yaml")] for folder in CONF.iterdir() if folder.is_dir()}


def hint(error: LabError) -> str | None:
    found = re.search(r"did you mean (\S+)\?", str(error))
    return found.group(1) if found else None


# The command, the key that it does not have, and the hint.
TYPED: list[tuple[tuple[str, ...], str, str | None]] = [
    ((), "optimizer.lr", "optimizer.learning_rate"),
    ((), "eta", "optimizer.learning_rate"),
    ((), "units", "model.hidden_size"),
    ((), "training.batch", "training.batch_size"),
    ((), "optimizer.Learning-Rate", "optimizer.learning_rate"),
    ((), "optimizer.learning_rate.initial", "optimizer.learning_rate"),
    ((), "hydra.run.dirs", "hydra.run.dir"),
    ((), "model.conv_filters", None),
    ((), "optim", "optimizer"),
    ((), "experimint", "experiment"),
    ((), "exp", "experiment"),
    (("optimizer=adam",), "optimizer.eps", "optimizer.epsilon"),
    (("optimizer=sgd",), "optimizer.eps", None),
    (("optimizer=sgd",), "optimizer.rh", None),
    (("-m", "optimizer=rmsprop,adadelta"), "optimizer.roh", None),
    (("-m", "optimizer=rmsprop,adadelta"), "optimizer.rho_", "optimizer.rho"),
    (("-m", "optimizer=rmsprop,sgd"), "optimizer.rho_", None),
    (("experiment=three_bits",), "optimizer.alpha", "optimizer.learning_rate"),
    (("experiment=methods_three_bits",), "optimizer.eps", None),
    (("experiment=methods_three_bits", "optimizer=adam"), "optimizer.eps", "optimizer.epsilon"),
    (("schedule=cosine",), "schedule.warmup", "schedule.warm_up"),
    (("optimizer=no_such",), "optimizer.lr", None),
]


@pytest.mark.parametrize(("command", "key", "meant"), TYPED)
def test_a_hint_names_a_key_that_the_same_command_accepts(
    command: tuple[str, ...], key: str, meant: str | None
) -> None:
    error = unknown_key(key, "config", [*command, f"{key}=1"])
    assert hint(error) == meant
    assert f"Unknown key: {key}." in str(error)
    if meant is not None and "." in meant and not meant.startswith("hydra"):
        choices = [argument.partition(",")[0] for argument in command if argument != "-m"]
        value = OmegaConf.select(composed_by_hydra(CONF, choices), meant)
        composed_by_hydra(CONF, [*choices, f"{meant}={'null' if value is None else value}"])


def test_a_key_of_another_choice_is_named_with_that_choice() -> None:
    text = str(unknown_key("optimizer.mu", "config", ["optimizer=sgd", "optimizer.mu=0.9"]))
    assert "to do:    optimizer.momentum is available only with optimizer=momentum or nesterov or rmsprop" in text
    text = str(unknown_key("optimizer.momentum", "config", ["optimizer=sgd"]))
    assert "The key optimizer.momentum is available only with optimizer=momentum or nesterov or rmsprop." in text
    assert "to do:    choose optimizer=momentum" in text


@pytest.mark.parametrize("command", ["rebuild", "compare", "data_stages"])
def test_a_command_has_only_its_own_keys(command: str) -> None:
    for key in ("optimizer.lr", "optimizer.momentum", "optimizer", "hidden"):
        text = str(unknown_key(key, command, [f"{key}=1"]))
        assert f"expected: a key of conf/{command}.yaml or of its groups" in text
        assert "to do:    `--cfg job` prints every key" in text


def test_a_file_that_changes_other_groups_has_no_keys_of_its_own() -> None:
    assert "available only with" not in str(unknown_key("feature.model", "config", []))


@pytest.mark.parametrize("word", SYNONYMS)
def test_every_synonym_leads_to_a_key_of_some_command(word: str) -> None:
    keys = {
        *ADAM,
        *OPTIONS,
        *(key for study in ("optimizer=adamw", "optimizer=rmsprop") for key, _ in flatten(config(study))),
    }
    keys |= {"schedule.warm_up"}
    # `report.size` is the name of the key that "the size" is.
    names = Counter(key.rpartition(".")[2] for key in keys if not key.startswith("report."))
    assert names[word] != 1
    assert nearest_key(word, keys) in keys


def test_a_synonym_is_first_looked_for_in_its_section() -> None:
    keys = [key for key, _ in flatten(config())]
    assert nearest_key("model.size", keys) == "model.hidden_size"
    assert nearest_key("size", keys) == "model.hidden_size"
    # Where there is a key of that very name, no synonym is meant.
    assert nearest_key("size", [*keys, "report.size"]) == "report.size"


@given(st.sampled_from(sorted(SYNONYMS)) | st.text("abcdefghijklmnopqrstuvwxyz_.", max_size=14), st.sampled_from(ADAM))
def test_a_hint_is_one_of_the_keys(word: str, key: str) -> None:
    section = key.rpartition(".")[0]
    for unknown in (word, f"{section}.{word}"):
        assert nearest_key(unknown, ADAM) in {None, *ADAM}


@pytest.mark.parametrize("group", sorted(OPTIONS))
def test_every_option_is_found_however_it_is_written(group: str) -> None:
    for option in OPTIONS[group]:
        for written in (option.upper(), option.title(), option.replace("_", "-"), option.replace("_", "")):
            assert nearest_option(written, OPTIONS[group]) == option


def test_synonyms_of_options_are_options() -> None:
    values = {*get_args(Config.model_fields["loss"].annotation), *get_args(Config.model_fields["dtype"].annotation)}
    values |= set(get_args(Config.model_fields["gradient"].annotation))
    for name in ("hidden_activation", "output_activation", "initializer", "parametrization"):
        values |= set(get_args(Model.model_fields[name].annotation))
    assert set(OPTION_SYNONYMS.values()) <= {option for options in OPTIONS.values() for option in options} | values
    assert nearest_option("tensorflow", OPTIONS["backend"]) == "keras"
    assert nearest_option("torch", OPTIONS["backend"]) is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("model.hidden_activation=ReLU", "relu"),
        ("model.initializer=xavier", "glorot_uniform"),
        ("model.output_activation=linear", "identity"),
        ("loss=mse", "mean_squared_error"),
        ("loss=bce", "binary_cross_entropy"),
        ("loss=MAE", "mean_absolute_error"),
        ("dtype=double", "float64"),
        ("dtype=complex", None),
        ("model.hidden_activation=3", None),
    ],
)
def test_a_value_that_a_key_cannot_have_is_named_with_one_that_it_can(typed: str, meant: str | None) -> None:
    key = typed.partition("=")[0]
    with pytest.raises(LabError, match=rf"{key}: input should be '") as caught:
        config(typed)
    found = re.search(r"did you mean (\S+)\?", str(caught.value))
    if meant is None:
        assert found is None
    else:
        assert found is not None
        assert found.group(1) == f"{key}={meant}"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("optimizer=SGD", "did you mean optimizer=sgd?"),
        ("data=FashionMNIST", "did you mean data=fashion_mnist?"),
        ("hydra/launcher=Ray", "did you mean hydra/launcher=ray?"),
        ("data=/my/file.csv", "or write conf/data/NAME.yaml, and type data=NAME: docs/your-own.md shows it"),
        ("backend=torch", "use one of these, or create conf/backend/torch.yaml"),
        ("experiment=../../x", "use one of these\n"),
    ],
)
def test_an_option_that_is_not_there_is_named_with_its_group(typed: str, words: str) -> None:
    with pytest.raises(MissingConfigException) as caught:
        composed_by_hydra(CONF, [typed])
    text = str(unknown_option(caught.value)) + "\n"
    assert text.startswith(f"Unknown option: {typed}.\n  expected: one of ")
    assert words in text
