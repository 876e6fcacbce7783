"""The explanations of methods, features, range tests and parametrizations agree with the code."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from pipeline.backends.shared.history import History
from pipeline.backends.shared.initial_weights import draw
from pipeline.backends.shared.parametrization import rate_scales
from pipeline.config.schema import Config
from pipeline.points.point import Point, outcome_of
from pipeline.studies.explanations import FEATURES, METHODS, Section
from pipeline.studies.kinds import study_kind
from pipeline.studies.variants.table import SEARCHES
from pipeline.system.project import CONF
from tests.support.trained import config


def points(*overrides: tuple[str, ...]) -> list[Point]:
    """Points that were asked for and not trained."""
    history = History()
    return [Point("point", Path(), config(*one), history, outcome_of(history)) for one in overrides]


def explanation(found: list[Point]) -> Section:
    """The last section of a study's page, which explains its kind."""
    *_, section = study_kind(found).sections(found)
    return section


def names(group: str) -> set[str]:
    return {file.stem for file in (CONF / group).glob("*.yaml")}


def test_every_method_has_its_formula_and_every_feature_its_line() -> None:
    assert set(METHODS) == names("optimizer")
    assert set(FEATURES) == names("feature")
    for text in (*METHODS.values(), *FEATURES.values()):
        assert text.endswith(".")
        assert "\n" not in text


@pytest.mark.parametrize("name", sorted(names("optimizer")))
def test_a_method_names_its_source_and_only_settings_that_exist(name: str) -> None:
    assert re.search(r"\([^()]*\b(19|20)\d\d\b[^()]*\)", METHODS[name])
    batch = "null" if name in SEARCHES else "2"
    one = config("experiment=three_bits", f"optimizer={name}", f"training.batch_size={batch}")
    knobs = set(re.findall(r"\b[a-z]{2,}_[a-z0-9_]+\b", METHODS[name]))  # not c_i
    assert knobs <= set(type(one.optimizer).model_fields)
    assert "learning_rate" in knobs or "Adam with" in METHODS[name]  # whose row has it


def test_methods_are_explained_in_the_order_of_the_study() -> None:
    study = ("experiment=methods_three_bits",)
    found = points(*((*study, f"optimizer={name}") for name in ("lion", "adam", "lion", "bfgs")))
    heading, lines = explanation(found)
    assert heading == "The methods"
    assert [line.split("`")[1] for line in lines if line.startswith("| `")] == ["lion", "adam", "bfgs"]
    assert METHODS["lion"] in "\n".join(lines)


def test_features_are_explained_and_one_that_a_user_added_is_left_out() -> None:
    study = ("experiment=features_mnist",)
    found = points(*((*study, f"feature={name}") for name in ("plain", "dropout")), (*study, "feature=plain"))
    own = found[0].config.model_copy(update={"feature": "mine"})
    heading, lines = explanation([*found, Point("mine", Path(), own, found[0].history, found[0].outcome)])
    assert heading == "The features"
    assert [line.split("`")[1] for line in lines if line.startswith("| `")] == ["plain", "dropout"]


def test_a_range_test_says_how_its_suggestion_is_made() -> None:
    found = points(("experiment=lr_range_test",))
    (heading, lines), (last, seeds) = study_kind(found).sections(found)
    text = " ".join(lines)
    assert heading == "How the rate is suggested"
    assert last == "The rate of several seeds"
    assert "geometric mean" in " ".join(seeds)
    assert "Smith 2017" in text
    assert "The suggested rate is a third of it" in text
    assert lines[-1] == "Here beta = 0.95, `GROWN` = 4, `CERTAIN` = 5, `FLAT` = 2."


def study_of_widths(optimizer: str) -> list[Point]:
    common = ("experiment=width_transfer", f"optimizer={optimizer}")
    names = (f"model.parametrization={name}" for name in ("standard", "maximal_update"))
    rates = (f"optimizer.learning_rate={rate}" for rate in (0.01, 0.1, 1))
    sizes = (f"model.hidden_size={size}" for size in (64, 256))
    return points(*((*common, *chosen) for chosen in product(names, sizes, rates)))


@pytest.mark.parametrize(("optimizer", "column"), [("sgd", 2), ("adam", 3)])
def test_the_table_of_scales_is_what_the_parametrization_does(optimizer: str, column: int) -> None:
    heading, lines = explanation(study_of_widths(optimizer))
    assert heading == "What the parametrizations scale"
    assert lines[-1] == f"Here base_width is 64, and the optimizer `{optimizer}`."
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("    ") and "|" in line]
    printed = {row[0]: row for row in cells[1:]}
    model = deep("maximal_update").dense
    arrays = [f"layer_{layer}/{kind}" for layer in range(3) for kind in ("weights", "bias")]
    scales = rate_scales(model, optimizer, arrays)
    scale = {"* m": 4.0, "/ m": 0.25, "unchanged": 1.0}
    for name in ("layer_0/weights", "layer_0/bias", "layer_1/bias"):
        assert scales.get(name, 1.0) == scale[printed["first, hidden biases"][column]]
    assert scales.get("layer_1/weights", 1.0) == scale[printed["hidden"][column]]
    assert scales.get("layer_2/weights", 1.0) == scale[printed["last"][column]]
    assert scales.get("layer_2/bias", 1.0) == scale[printed["last bias"][column]]
    assert printed["last"][1] == "/ m"
    standard, maximal = (draw(deep(name).dense, 5, 3, 1, "float64") for name in ("standard", "maximal_update"))
    ratio = maximal["layer_2/weights"].var() / standard["layer_2/weights"].var()
    assert ratio == pytest.approx(scale["/ m"])


def deep(parametrization: str) -> Config:
    """Two hidden layers, four times as wide as the base."""
    return config(
        "experiment=width_transfer", f"model.parametrization={parametrization}",
        "model.hidden_size=256", "model.further_hidden_sizes=[256]",
    )  # fmt: skip


def test_other_studies_have_nothing_to_explain() -> None:
    grid = (
        ("experiment=three_bits", "optimizer.learning_rate=1"),
        ("experiment=three_bits", "optimizer.learning_rate=2"),
    )
    found = points(*grid)
    assert list(study_kind(found).sections(found)) == []
