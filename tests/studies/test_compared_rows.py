"""On which rows points were compared, and on which rows they were measured, is said."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from pipeline.backends.shared.history import History, Metric
from pipeline.config.schema import Config
from pipeline.points.point import Point, outcome_of
from pipeline.studies.compared_rows import compared_rows
from tests.support.described import config_of, prepared
from tests.support.trained import config

HELD_BACK = "validation rows, which no point was trained on; test rows only tell"
IN_THE_TEXT = "Chosen and told on the test rows, as in the text: the best"


def measured(config: Config, *rows: str, validation_rows: int = 0) -> list[Point]:
    """Two points whose loss and accuracy were measured on some rows."""
    history = History([Metric(1, 0, f"{kind}/{name}", 0.5) for kind in rows for name in ("loss", "accuracy")])
    data = None
    if validation_rows:
        data = prepared("iris").description.model_copy(update={"validation_rows": validation_rows})
    return [Point("a", Path(), config, history, outcome_of(history), data)] * 2


def iris(validation_share: float, test_share: float = 0.2) -> Config:
    found = config_of("iris", test_share=test_share)
    return found.model_copy(update={"data": found.data.model_copy(update={"validation_share": validation_share})})


@pytest.mark.parametrize(
    ("points", "said"),
    [
        # With training.rows=16384, these are no sixth of the rows that are trained on.
        (
            measured(config("experiment=mnist_grid"), "train", "validation", "test"),
            f"Points are compared on 10,000 {HELD_BACK}",
        ),
        (measured(config("experiment=mnist"), "train", "test"), IN_THE_TEXT),
        (measured(iris(validation_share=0.0), "train", "test"), "Chosen and told on the test rows: the best"),
        # A split column's validation rows are no share.
        (
            measured(iris(validation_share=0.2), "train", "validation", validation_rows=7),
            "Points are compared on 7 validation rows, which no point was trained on; no test rows tell",
        ),
        (measured(iris(validation_share=0.2), "validation", "test"), f"Points are compared on {HELD_BACK}"),
        (measured(iris(validation_share=0.0, test_share=0.0), "train"), ""),
        (measured(config("experiment=three_bits"), "train"), ""),
        (
            measured(config("report.metric=train/loss"), "train", "validation", "test"),
            "Points are compared on the rows that they were trained on, by the training loss; validation rows and test "
            "rows choose nothing",
        ),
        # All diverged before anything was measured.
        (measured(config("experiment=mnist_grid")), ""),
    ],
)
def test_the_rows_that_compare_and_tell_are_named(points: list[Point], said: str) -> None:
    sentence = compared_rows(points)
    assert sentence.startswith(said)
    assert bool(sentence) == bool(said)
    assert compared_rows(points[:1]) == ""


@pytest.mark.parametrize("study", ["width_transfer", "lr_range_test"])
def test_a_study_that_compares_training_losses_says_nothing_of_other_rows(study: str) -> None:
    points = []
    for parametrization in ("standard", "maximal_update"):
        for size, rate in product((64, 256), (0.1, 0.2, 0.3)):
            more = (
                f"model.parametrization={parametrization}",
                f"model.hidden_size={size}",
                f"optimizer.learning_rate={rate}",
            )
            one = config(f"experiment={study}", "model.initializer=lecun_normal", *more)
            points.append(Point("a", Path(), one, History(), outcome_of(History())))
    assert compared_rows(points) == ""


@pytest.mark.parametrize(
    "study",
    [
        "methods_mnist",
        "features_mnist",
        "width_transfer",
        "batch_transfer",
        "warm_up",
        "depth_transfer",
        "lr_range_test",
        "lr_range_check",
        "convnet",
    ],
)
def test_our_own_studies_on_images_are_chosen_on_validation_rows(study: str) -> None:
    assert config(f"experiment={study}").data.model_dump()["validation_share"] == 1 / 6
