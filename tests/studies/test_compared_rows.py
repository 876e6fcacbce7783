"""On which rows points were compared, and on which rows they were measured, is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.points.point import Point, outcome_of
from pipeline.studies.compared_rows import compared_rows
from tests.support.described import config_of
from tests.support.trained import config

HELD_BACK = "Points are compared on validation rows, 17% of the training rows, which no point was trained on"


def held_back(point: Config, share: float) -> Config:
    return point.model_copy(update={"data": point.data.model_copy(update={"validation_share": share})})


@pytest.mark.parametrize(
    ("point", "said"),
    [
        (config("experiment=mnist_grid"), f"{HELD_BACK}; test rows only tell"),
        (config("experiment=mnist"), "Chosen and told on the test rows, as in the text:"),
        (config_of("iris"), "Chosen and told on the test rows: the best"),
        (held_back(config_of("iris", test_share=0.0), 1 / 6), f"{HELD_BACK}; there are no test rows"),
        (config_of("iris", test_share=0.0), ""),
        (config("experiment=three_bits"), ""),
    ],
)
def test_the_rows_that_compare_and_tell_are_named(point: Config, said: str) -> None:
    one = Point("a", Path(), point, History(), outcome_of(History()))
    sentence = compared_rows([one, one])
    assert sentence.startswith(said)
    assert bool(sentence) == bool(said)
    assert compared_rows([one]) == ""


@pytest.mark.parametrize("study", ["width_transfer", "lr_range_test"])
def test_a_study_that_compares_training_losses_says_nothing_of_other_rows(study: str) -> None:
    points = []
    for parametrization in ("standard", "maximal_update"):
        for rate in (0.1, 0.2, 0.3):
            more = (f"model.parametrization={parametrization}", f"optimizer.learning_rate={rate}")
            one = config(f"experiment={study}", "model.initializer=lecun_normal", *more)
            points.append(Point("a", Path(), one, History(), outcome_of(History())))
    assert compared_rows(points) == ""


@pytest.mark.parametrize(
    "study", ["methods_mnist", "features_mnist", "width_transfer", "lr_range_test", "lr_range_check", "convnet"]
)
def test_our_own_studies_on_images_are_chosen_on_validation_rows(study: str) -> None:
    assert config(f"experiment={study}").data.model_dump()["validation_share"] == 1 / 6
