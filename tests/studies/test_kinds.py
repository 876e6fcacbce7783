"""Each kind of study has an entry, a diagnosis function and a trainer, and is recognized from its points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from pipeline.backends.choose import TRAINERS
from pipeline.backends.shared.history import History
from pipeline.config.schema import Kind
from pipeline.diagnosis.networks import DIAGNOSERS
from pipeline.points.point import Point, outcome_of
from pipeline.studies.kinds import BY_NAME, KINDS, answers, headline, kind_of, parts, study_kind
from tests.support.maps import map_point
from tests.support.trained import config, sweep


def asked(*overrides: str) -> Point:
    """A point that was asked for and not trained."""
    history = History()
    return Point(" ".join(overrides[1:]), Path(), config(*overrides), history, outcome_of(history))


def test_every_kind_of_point_has_an_entry_a_diagnosis_function_and_a_trainer() -> None:
    names = set(get_args(Kind))
    assert names == set(DIAGNOSERS) == set(TRAINERS)
    assert names <= set(BY_NAME)
    assert len(BY_NAME) == len(KINDS)


@pytest.mark.parametrize(
    ("experiment", "kind"),
    [
        ("three_bits", "network"),
        ("mnist", "network"),
        ("features_mnist", "network"),
        ("lr_range_check", "network"),
        ("lr_range_test", "range_test"),
        ("trainability_map", "map"),
        ("curve_restarts", "balls"),
        ("curve_basins", "basins"),
    ],
)
def test_a_config_says_what_it_is(experiment: str, kind: str) -> None:
    point = asked(f"experiment={experiment}")
    assert point.config.kind == kind
    assert kind_of(point.config).name == study_kind([point]).name == kind


def test_a_falling_rate_and_a_rising_one_without_losses_are_not_a_range_test() -> None:
    assert config("experiment=lr_range_test", "schedule.final=0.1").kind == "network"
    assert config("experiment=lr_range_test", "recording.update_losses=false").kind == "network"


def test_methods_features_and_parametrizations_show_in_several_points() -> None:
    rates = [f"optimizer.learning_rate={rate}" for rate in (0.01, 0.1, 1)]
    methods = [asked("experiment=methods_three_bits", f"optimizer={name}") for name in ("sgd", "adam")]
    features = [asked("experiment=features_mnist", f"feature={name}") for name in ("plain", "dropout")]
    sizes = [f"model.hidden_size={size}" for size in (64, 256)]
    layers = [f"model.further_hidden_sizes={sizes}" for sizes in ("[]", "[128]")]
    batches = [f"training.batch_size={size}" for size in (16, 64)]

    def transfer(groups: str, of: str, along: Sequence[str]) -> list[Point]:
        names = of.split(",")
        grid = product([f"{groups}={name}" for name in names], along, rates)
        return [asked("experiment=width_transfer", *chosen) for chosen in grid]

    widths = transfer("model.parametrization", "standard,maximal_update", sizes)
    depths = transfer("model.parametrization", "standard,maximal_update", layers)
    of_batches = transfer("optimizer", "sgd,adam", batches)
    assert study_kind(methods).name == study_kind(features).name == "variants"
    assert [study_kind(found).name for found in (widths, depths, of_batches)] == ["widths", "depths", "batches"]
    assert study_kind(methods[:1]).name == study_kind(widths[:6]).name == "network"
    # One size or one batch size: there is nothing along which a rate is transferred.
    assert study_kind([*widths[:3], *widths[6:9]]).name == "network"
    assert study_kind([*of_batches[:3], *of_batches[6:9]]).name == "variants"


def test_methods_and_widths_whose_config_names_a_metric_are_compared_by_it() -> None:
    """The pages of methods and of widths compare losses alone."""

    def study(metric: str) -> str:
        methods = [asked("experiment=methods_three_bits", f"optimizer={name}", metric) for name in ("sgd", "adam")]
        ways = [f"model.parametrization={name}" for name in ("standard", "maximal_update")]
        rates = [f"optimizer.learning_rate={rate}" for rate in (0.01, 0.1, 1)]
        sizes = ("model.hidden_size=64", "model.hidden_size=256")
        widths = [asked("experiment=width_transfer", *chosen, metric) for chosen in product(ways, sizes, rates)]
        return f"{study_kind(methods).name}, {study_kind(widths).name}"

    assert study("report.metric=train/accuracy") == "network, network"
    assert study("report.metric=train/loss") == "variants, widths"


def test_maps_among_networks_are_described_on_their_own() -> None:
    networks = sweep(["experiment=three_bits", "training.epochs=10"], [[], ["optimizer.learning_rate=0.1"]])
    study = [networks[0], map_point(), networks[1]]
    assert [(kind.name, len(members)) for kind, members in parts(study)] == [("map", 1), ("network", 2)]
    assert list(answers(study)) == [*answers(study[1:2]), *answers(networks)]
    assert headline(study) == f"{headline(study[1:2])}; {headline(networks)}"
