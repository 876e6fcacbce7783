"""The typed config: every experiment composes; a config that cannot be trained is refused with its key and value."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pydantic import ValidationError

from pipeline.config import rules
from pipeline.config.reading import read_config, read_tracking
from pipeline.config.schema import Config, flatten
from pipeline.system.errors import LabError
from pipeline.system.project import CONF
from tests.support.trained import composed_by_hydra, config

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
BASE = config().model_dump(mode="json")
TABLE = config("experiment=three_bits").model_dump(mode="json")


def changed(plain: dict[str, Any], **values: Any) -> dict[str, Any]:
    """A copy with keys replaced, for instance by `changed(BASE, optimizer__learning_rate=1)`."""
    result = copy.deepcopy(plain)
    for path, value in values.items():
        *sections, key = path.split("__")
        inner = result
        for section in sections:
            inner = inner[section]
        inner[key] = value
    return result


def refusal(plain: Any) -> str:
    with pytest.raises(LabError) as caught:
        read_config(plain)
    return str(caught.value)


# --- what composes


def test_the_experiments_of_the_texts_are_there() -> None:
    assert {"three_bits", "two_bits", "thirteen_lines", "line_y2x", "line_y3x", "mnist", "mnist_grid"} <= set(
        EXPERIMENTS
    )


@pytest.mark.parametrize("backend", ["numpy", "keras"])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_valid_on_both_backends_but_maps_on_keras_and_keras_models_on_numpy(
    experiment: str, backend: str
) -> None:
    if experiment.startswith("curve_") and backend == "keras":
        with pytest.raises(LabError, match="backend"):
            config(f"experiment={experiment}", f"backend={backend}")
        return
    if (experiment, backend) == ("trainability_map", "keras"):
        with pytest.raises(LabError, match=r"a map \(grid.x, grid.y\) needs backend=numpy; received keras"):
            config(f"experiment={experiment}", f"backend={backend}")
        return
    if (experiment, backend) == ("convnet", "numpy"):
        with pytest.raises(LabError, match=r"model: examples\.convnet\.build makes a Keras model; use backend=keras"):
            config(f"experiment={experiment}", f"backend={backend}")
        return
    composed = config(f"experiment={experiment}", f"backend={backend}")
    assert composed.study == experiment
    assert composed.backend.name == backend
    if backend == "keras":
        assert composed.gradient == "backpropagation"


@pytest.mark.parametrize(
    "typed",
    [
        ("seed=3", "experiment=three_bits", "optimizer=adam", "optimizer.learning_rate=2", "model.hidden_size=null"),
        ("backend=keras", "experiment=line_y2x", "training.batch_size=2"),
        ("experiment=curve_restarts", "balls={starts: [1], random: null}", 'data.expression="sin(3 * x)"'),
        ("experiment=features_mnist", "feature=two_hidden_layers", "model.further_hidden_sizes=[4,3]"),
    ],
    ids=" ".join,
)
def test_the_configs_of_the_tests_are_those_that_hydra_composes(typed: tuple[str, ...]) -> None:
    by_hydra = OmegaConf.to_container(composed_by_hydra(CONF, typed), resolve=True)
    assert config(*typed).model_dump(mode="json") == read_config(cast(dict[str, Any], by_hydra)).model_dump(mode="json")


@pytest.mark.parametrize("group", ["data", "optimizer", "schedule", "backend"])
def test_every_option_of_a_group_is_valid_and_named_like_its_file(group: str) -> None:
    for option in (path.stem for path in (CONF / group).glob("*.yaml")):
        table = group == "data" and option.endswith(("bits", "x"))
        fitting = ("experiment=three_bits",) if table or option in ("bfgs", "lbfgs", "annealing") else ()
        fitting = ("experiment=curve_restarts",) if option.startswith("curve_") else fitting
        assert getattr(config(*fitting, f"{group}={option}"), group).name == option


@pytest.mark.parametrize("feature", sorted(path.stem for path in (CONF / "feature").glob("*.yaml")))
def test_every_feature_is_valid_named_like_its_file_and_in_the_study(feature: str) -> None:
    composed = config("experiment=features_mnist", f"feature={feature}")
    assert composed.feature == feature
    same = composed.model_copy(update={"feature": "plain"}) == config("experiment=features_mnist", "feature=plain")
    assert same == (feature == "plain")
    swept = (CONF / "experiment" / "features_mnist.yaml").read_text().partition("feature: >-")[2]
    assert feature in swept.partition("optimizer.learning_rate")[0].replace(" ", "").replace("\n", "").split(",")


def test_the_small_profile_cuts_every_study_to_two_epochs() -> None:
    for experiment in EXPERIMENTS:
        assert config(f"experiment={experiment}", "profile=small").training.epochs == 2
        assert config(f"experiment={experiment}", "profile=small").training.rows == 4096


def test_a_table_is_used_whole() -> None:
    message = r"training\.rows: a table is always used in full, and three_bits has 4 rows; received 3"
    with pytest.raises(LabError, match=message):
        config("experiment=three_bits", "training.rows=3")
    assert config("experiment=three_bits", "training.rows=4").training.rows == 4


def test_an_experiment_wins_over_the_groups_and_the_command_line_over_the_experiment() -> None:
    assert config("experiment=thirteen_lines").optimizer.learning_rate == 0.5
    assert config("experiment=thirteen_lines", "optimizer.learning_rate=2").optimizer.learning_rate == 2


def test_a_config_read_back_from_json_is_the_same() -> None:
    for experiment in EXPERIMENTS:
        first = config(f"experiment={experiment}")
        assert read_config(first.model_dump(mode="json")) == first


def test_one_and_one_point_nought_are_the_same_config() -> None:
    whole, real = config("optimizer.learning_rate=1"), config("optimizer.learning_rate=1.0")
    assert whole == real
    assert type(whole.optimizer.learning_rate) is type(real.optimizer.learning_rate) is float
    assert config("model.hidden_size=4.0") == config("model.hidden_size=4")


def test_a_config_cannot_be_changed() -> None:
    composed = config()
    with pytest.raises(ValidationError, match="frozen"):
        composed.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        composed.optimizer.learning_rate = 3.0  # type: ignore[misc]


# --- what is refused


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", -1),
        ("seed", 2**32),
        ("seed", "one"),
        ("seed", 1.5),
        ("seed", True),
        ("study", ""),
        ("study", "a/b"),
        ("study", "../up"),
        ("study", "x" * 101),
        ("dtype", "float16"),
        ("loss", "hinge"),
        ("gradient", "central"),
        ("finite_difference_step", 0),
        ("results", 3),
        ("dry_run", "perhaps"),
        ("force", None),
        ("model.hidden_size", 0),
        ("model.hidden_size", -4),
        ("model.hidden_size", 2.5),
        ("model.hidden_size", True),
        ("model.hidden_size", "wide"),
        ("model.hidden_activation", "swish"),
        ("model.further_hidden_sizes", "wide"),
        ("model.dropout", 1),
        ("model.dropout", -0.1),
        ("model.drop_connect", 1.0),
        ("model.batch_normalization", 3),
        ("training.l1", -1),
        ("training.l2", float("inf")),
        ("training.clip_value", 0),
        ("training.clip_norm", -1),
        ("feature", "a b"),
        ("model.initializer", "he"),
        ("model.bias", 3),
        ("model.initial_weight", float("nan")),
        ("model.initial_bias", float("inf")),
        ("optimizer.learning_rate", 0),
        ("optimizer.learning_rate", -0.1),
        ("optimizer.learning_rate", float("inf")),
        ("optimizer.learning_rate", float("nan")),
        ("optimizer.learning_rate", "fast"),
        ("optimizer.learning_rate", True),
        ("optimizer.learning_rate", None),
        ("optimizer.learning_rate", [0.1]),
        ("optimizer.beta_1", 1),
        ("optimizer.beta_2", -0.1),
        ("optimizer.epsilon", 0),
        ("optimizer.name", "adamax"),
        ("optimizer.name", None),
        ("training.epochs", 0),
        ("training.batch_size", 0),
        ("training.batch_size", "all"),
        ("training.epochs", 2**53),
        ("training.epochs", 10**400),
        ("training.batch_size", 10**400),
        ("model.hidden_size", 10**400),
        ("recording.metrics_every", 10**400),
        ("recording.metrics_every", 0),
        ("recording.snapshots", 1),
        ("recording.table_epochs", -1),
        ("data.classes", 0),
        ("data.kind", "csv"),
        ("data.files.train_images.sha256", "abc"),
        ("tracking.name", "wandb"),
        ("backend.name", "torch"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_itself(path: str, value: Any) -> None:
    message = refusal(changed(BASE, **{path.replace(".", "__"): value}))
    lines = [line for line in message.splitlines() if line.startswith("  ") and "to do" not in line]
    assert len(lines) == 1
    assert lines[0].strip().startswith(f"{path}: ")
    assert repr(value) in lines[0]
    assert message.startswith("The config is invalid.")


def keys_refused(message: str) -> list[str]:
    """The key of each line that tells a problem."""
    return [line.partition(": ")[0].strip() for line in message.splitlines()[1:-1]]


def test_all_wrong_values_are_reported_together() -> None:
    message = refusal(changed(BASE, seed=-1, model__hidden_size=0, optimizer__learning_rate=-1))
    assert keys_refused(message) == ["seed", "model.hidden_size", "optimizer.learning_rate"]


def test_all_values_that_do_not_go_together_are_reported_together() -> None:
    plain = changed(TABLE, loss="cross_entropy", training__rows=3, model__hidden_size=None, model__dropout=0.5)
    assert keys_refused(refusal(plain)) == ["model.output_activation", "loss", "training.rows", "model.dropout"]


def test_wrong_sections_are_reported_with_the_problems_of_the_others() -> None:
    wrong = changed(TABLE, seed=-1, optimizer__learning_rate=-1)
    message = refusal(changed(wrong, training__rows=3, gradient="finite_difference", model__dropout=0.5))
    assert keys_refused(message) == ["seed", "optimizer.learning_rate", "training.rows", "model.dropout"]


@pytest.mark.parametrize("experiment", ["three_bits", "mnist", "trainability_map", "curve_restarts", "curve_basins"])
@pytest.mark.parametrize("wrong", sorted(Config.model_fields))
def test_any_section_may_be_the_one_that_is_wrong(experiment: str, wrong: str) -> None:
    plain = config(f"experiment={experiment}").model_dump(mode="json")
    message = refusal(changed(plain, **{wrong: []}))
    assert {key.partition(".")[0] for key in keys_refused(message)} == {wrong}


def test_a_mistake_in_a_rule_is_not_taken_for_a_section_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "RULES", [lambda one: iter([one.model.hidden_sizes])])
    with pytest.raises(AttributeError, match="hidden_sizes"):
        read_config(changed(BASE, seed=-1))


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("optimizer.learnin_rate", "optimizer.learning_rate"),
        ("model.hiden_size", "model.hidden_size"),
        ("model.biass", "model.bias"),
        ("training.epoch", "training.epochs"),
        ("recording.snapshot", "recording.snapshots"),
        ("seeed", "seed"),
        ("los", "loss"),
        ("model.epochs", "training.epochs"),
        ("model.learning_rat", "optimizer.learning_rate"),
        ("learning_rate", "optimizer.learning_rate"),
        ("hidden_siz", "model.hidden_size"),
        ("schedule.seed", "seed"),
        ("recording.epochs", "training.epochs"),
        ("data.local_dirs", "data.local_dir"),
        ("tracking.adress", None),
        ("tracking.local", None),
        ("optimizer.initial_accumulator", None),
        ("training.name", None),
        ("data.inputs", None),
    ],
)
def test_an_unknown_key_is_reported_with_a_similar_one_that_exists(path: str, near: str | None) -> None:
    message = refusal(changed(BASE, **{path.replace(".", "__"): 1}))
    guess = f"; did you mean {near}?" if near else ""
    assert f"  {path}: no such key{guess}\n" in message
    assert near is None or near in dict(flatten(config()))


def test_a_key_that_belongs_to_another_choice_is_not_its_own_guess() -> None:
    message = refusal(changed(BASE, optimizer__momentum=0.9))
    assert "optimizer.momentum: no such key" in message
    assert "did you mean optimizer.momentum" not in message


def test_an_unknown_key_like_no_other_is_reported_without_a_guess() -> None:
    message = refusal(changed(BASE, zzzz=1))
    assert "zzzz: no such key" in message
    assert "did you mean" not in message


@pytest.mark.parametrize("path", ["seed", "optimizer.learning_rate", "model", "data.files.test_labels.name"])
def test_a_missing_key_is_reported(path: str) -> None:
    plain = copy.deepcopy(BASE)
    *sections, key = path.split(".")
    inner = plain
    for section in sections:
        inner = inner[section]
    del inner[key]
    assert f"{path}: field required, received nothing" in refusal(plain)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("backend=keras", "gradient=finite_difference"), ("gradient", "Keras", "backend=numpy")),
        (
            ("loss=mean_squared_error",),
            ("loss: data=mnist, whose task is classification, needs loss=cross_entropy; received mean_squared_error",),
        ),
        (
            ("loss=mean_squared_error", "model.output_activation=sigmoid"),
            ("needs loss=cross_entropy; received mean_squared_error; loss=auto fits every data set",),
        ),
        (
            ("data=three_bits", "loss=cross_entropy"),
            ("loss: data=three_bits, a table, needs loss=mean_squared_error, or half_summed_squared_error, or ",),
        ),
        (
            ("experiment=three_bits", "loss=cross_entropy"),
            ("loss=cross_entropy needs model.output_activation=softmax; received sigmoid",),
        ),
        (
            ("experiment=three_bits", "loss=huber", "model.output_activation=softmax"),
            ("loss=huber needs model.output_activation=identity, or sigmoid; received softmax",),
        ),
        (("experiment=three_bits", "data.targets=[[0],[1]]"), ("data", "4 rows of inputs and 2 rows of targets")),
        (("experiment=three_bits", "data.inputs=[[0],[1,2],[3],[4]]"), ("data", "rows of different length")),
        (("tracking=server", "tracking.uri=null"), ("tracking", "tracking.uri=http")),
        (("tracking=server", "tracking.uri=''"), ("tracking", "tracking.uri=http")),
        (("~data.files.test_labels",), ("data", "files must name", "test_labels")),
        (("model.hidden_size=null", "model.further_hidden_sizes=[3]"), ("model.further_hidden_sizes", "received [3]")),
        (("model.hidden_size=null", "model.dropout=0.5"), ("model.dropout: there is no hidden layer", "received 0.5")),
        (
            ("model=linear", "model.output_activation=softmax", "model.batch_normalization=true"),
            ("model.batch_normalization: there is no hidden layer", "use model.batch_normalization=false"),
        ),
        (("experiment=line_y3x", "model.drop_connect=0.5"), ("model.drop_connect: forward differences", "backprop")),
        (
            ("training.epochs=100001", "recording.metrics_every=1"),
            ("recording.metrics_every", "training.epochs=100001 recorded every 1", "at least 2"),
        ),
    ],
)
def test_values_that_do_not_go_together(overrides: tuple[str, ...], words: tuple[str, ...]) -> None:
    with pytest.raises(LabError) as caught:
        config(*overrides)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("plain", [None, [], "text", 3, {}])
def test_something_that_is_not_a_config_is_refused(plain: Any) -> None:
    assert "The config is invalid." in refusal(plain)


def leaves(plain: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in plain.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@given(st.sampled_from(sorted(leaves(BASE))), ANYTHING)
def test_any_value_anywhere_gives_a_config_or_one_message(path: tuple[str, ...], value: Any) -> None:
    try:
        composed = read_config(changed(BASE, **{"__".join(path): value}))
    except LabError as error:
        assert path[0] in str(error)  # noqa: PT017 - either outcome is right, this one with a message
    else:
        assert isinstance(composed, Config)


@given(st.floats(), st.integers())
def test_rates_and_sizes_are_taken_exactly_where_they_make_sense(rate: float, size: int) -> None:
    plain = changed(BASE, dtype="float64", optimizer__learning_rate=rate, model__hidden_size=size)
    if 0 < rate < float("inf") and 0 < size < 2**53:
        composed = read_config(plain)
        assert (composed.optimizer.learning_rate, composed.model.hidden_size) == (rate, size)
    else:
        message = refusal(plain)
        assert ("optimizer.learning_rate" in message) == (not 0 < rate < float("inf"))
        assert ("model.hidden_size" in message) == (not 0 < size < 2**53)


@given(st.text(min_size=1, max_size=12), st.sampled_from(["", "model__", "optimizer__", "training__", "data__"]))
def test_any_unknown_key_is_refused(name: str, section: str) -> None:
    known = {path[-1] for path in leaves(BASE)} | set(BASE) | set(BASE["data"])
    if name in known or "__" in name:
        return
    assert "no such key" in refusal(changed(BASE, **{section + name: 1}))


# --- names


def test_flatten_gives_every_leaf_its_hydra_name() -> None:
    flat = dict(flatten(config("experiment=three_bits", "optimizer=momentum", "optimizer.learning_rate=10")))
    assert flat["optimizer.learning_rate"] == 10
    assert flat["optimizer.name"] == "momentum"
    assert flat["model.hidden_size"] == 128
    assert flat["study"] == "three_bits"
    assert flat["data.inputs"] == [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert flat["results"] is None


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_flat_name_can_be_overridden(experiment: str) -> None:
    """What MLflow shows as a parameter can be typed as an override."""
    composed = config(f"experiment={experiment}")
    typed = [f"{key}={value}" for key, value in flatten(composed) if isinstance(value, int | float | bool)]
    assert len(typed) > 8
    assert config(f"experiment={experiment}", *typed) == composed


@given(st.integers(1, 2**53 - 1), st.integers(1, 2**53 - 1))
def test_how_often_a_run_is_recorded_has_a_limit_and_the_message_names_an_interval_that_keeps_it(
    epochs: int, every: int
) -> None:
    plain = changed(BASE, training__epochs=epochs, recording__metrics_every=every)
    if epochs > 100_000 * every:
        (enough,) = re.findall(r"use at least (\d+)", refusal(plain))
        every = int(enough)
        if every > 1:
            refusal(changed(plain, recording__metrics_every=every - 1))
    assert read_config(changed(plain, recording__metrics_every=every)).training.epochs == epochs


def test_dry_run_and_force_are_off_by_default() -> None:
    assert (config().dry_run, config().force) == (False, False)
    assert (config("dry_run=true").dry_run, config("force=yes").force) == (True, True)


def test_an_address_without_a_server_is_refused() -> None:
    with pytest.raises(LabError, match=r"tracking=server tracking\.uri=http://127\.0\.0\.1:5000"):
        config("tracking.uri=http://127.0.0.1:5000")


@pytest.mark.parametrize(
    "uri",
    ["sqlite:///SHARED.db", "ftp://host/x", "file:///tmp/x", "postgresql://host/lab", "databricks://x", "http://", "x",
     "http:///runs", "https://host:port", "http://a b", "https:/host", "http://host\n"],
)  # fmt: skip
@pytest.mark.parametrize("store", ["local", "server"])
def test_an_address_that_is_not_one_of_a_server_is_refused(store: str, uri: str) -> None:
    with pytest.raises(LabError, match=r"expected the address of an MLflow server, such as http://") as refused:
        config(f"tracking={store}", f"tracking.uri='{uri}'")
    assert f"received {uri}; python -m pipeline.server starts one" in str(refused.value)
    tracking = OmegaConf.create({"tracking": {"name": store, "uri": uri}})
    with pytest.raises(LabError, match=r"expected the address of an MLflow server, such as http://"):
        read_tracking(tracking)


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:5000", "https://lab.example.org/mlflow/", "HTTP://[::1]:80", "http://h"]
)
def test_an_address_of_a_server_is_taken(uri: str) -> None:
    assert config("tracking=server", f"tracking.uri='{uri}'").tracking.uri == uri


@pytest.mark.parametrize(
    "uri", ["http://anna:sesame@127.0.0.1:5000", "https://anna:ses/ame@host", "anna:sesame@host", "https://sesame@host"]
)
@pytest.mark.parametrize("store", ["local", "server"])
def test_a_password_in_an_address_is_refused_and_not_repeated(store: str, uri: str) -> None:
    with pytest.raises(LabError, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD") as refusal:
        config(f"tracking={store}", f"tracking.uri='{uri}'")
    assert "ses" not in str(refusal.value)


def test_a_password_where_no_address_belongs_is_not_repeated() -> None:
    with pytest.raises(LabError, match=r"tracking(.|\n)*received 'http://\.\.\.@host'") as refusal:
        read_config({"tracking": "http://anna:sesame@host"})
    assert "sesame" not in str(refusal.value)
