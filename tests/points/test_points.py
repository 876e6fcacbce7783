"""The names of trained points."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.shared.history import History, Metric
from pipeline.points.point import folder_name, outcome_of, point_name
from pipeline.tracking.pages.labels import labels
from tests.points.test_reading import ONE
from tests.support.trained import config

# --- names


def test_a_name_tells_what_varies() -> None:
    three_bits = config("experiment=three_bits", "optimizer.learning_rate=10", "model.hidden_size=4")
    overrides = ["optimizer.learning_rate=10", "model.hidden_size=4"]
    assert point_name(three_bits, overrides) == "learning_rate=10 hidden_size=4"
    assert point_name(
        three_bits, ["experiment=three_bits", "backend=numpy", "profile=small", "results=a", "force=true"]
    ) == ("learning_rate=10 hidden_size=4")
    assert point_name(three_bits, [*overrides, "seed=2", "tracking.uri=x", "hydra/launcher=basic"]) == (
        "learning_rate=10 hidden_size=4 seed=2"
    )
    assert point_name(three_bits, ["optimizer=sgd", "+model.bias=true"]) == (
        "learning_rate=10 hidden_size=4 optimizer=sgd bias=true"
    )
    assert point_name(config("experiment=line_y2x", "optimizer.learning_rate=1e-05"), []) == "learning_rate=1e-05"


@pytest.mark.parametrize("typed", [["+model.arguments.seed=3", "seed=2"], ["seed=2", "+model.arguments.seed=3"]])
def test_no_other_key_takes_the_name_of_the_seed(typed: list[str]) -> None:
    names = [point_name(ONE, [one.replace("seed=2", f"seed={seed}") for one in typed]) for seed in (1, 2)]
    settings = [sorted(name.split()[-2:]) for name in names]
    assert settings == [["model_arguments_seed=3", "seed=1"], ["model_arguments_seed=3", "seed=2"]]
    # As MLflow's list of runs shows them; tables have a column for each setting.
    shown = [labels(names).name(name) for name in names]
    assert all(name.endswith(f"s {seed}") for seed, name in enumerate(shown, 1))
    assert point_name(ONE, ["+model.arguments.seed=3"]).split()[-1] == "model_arguments_seed=3"


def test_an_interpolation_is_named_by_its_value() -> None:
    overrides = ["training.l2='${optimizer.learning_rate}'", "training.rows=${seed}", "model.bias=${dry_run}"]
    overrides += ["training.clip_norm=${results}", "optimizer=${oc.env:X}"]
    point = config("experiment=three_bits", "optimizer.learning_rate=10", "training.l2=10")
    point = point.model_copy(update={"training": point.training.model_copy(update={"rows": 4})})
    assert point_name(point, overrides) == (
        "learning_rate=10 hidden_size=128 l2=10.0 rows=4 bias=false clip_norm=null optimizer=sgd"
    )


@given(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300))
def test_other_rates_have_other_names(one: float, other: float) -> None:
    def named(rate: float) -> str:
        return point_name(
            ONE.model_copy(update={"optimizer": ONE.optimizer.model_copy(update={"learning_rate": rate})}), []
        )

    assert (named(one) == named(other)) == (one == other)
    assert (named(one) == named(np.nextafter(one, 1e301).item())) is False


@given(st.text(max_size=200))
def test_a_folder_name_is_safe_whatever_the_name(name: str) -> None:
    safe = folder_name(name)
    assert re.fullmatch(r"[A-Za-z0-9=_.,-]*", safe)
    assert len(safe) <= 100
    assert len(Path("results", safe).parts) <= 2


@given(st.lists(st.text(max_size=120), unique=True, max_size=8))
def test_other_names_have_other_folders(names: list[str]) -> None:
    assert len({folder_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "name",
    ["learning_rate=10 hidden_size=4", "größe=ü", "../../etc/passwd", "a/b", "", ".", "..", "x" * 300, "a\nb", "\0"],
)
def test_a_folder_of_that_name_can_be_made_below_its_parent(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "points" / folder_name(name)
    folder.mkdir(parents=True)
    assert folder.resolve().parent == tmp_path / "points"


def test_a_plain_name_stays_readable() -> None:
    assert folder_name("learning_rate=0.001 hidden_size=4") == "learning_rate=0.001,hidden_size=4"


# --- the loss that judges a point


@pytest.mark.parametrize(
    ("final", "diverged_step", "score"),
    [
        ({"train/loss": 0.1, "validation/loss": 0.3, "test/loss": 0.2}, None, 0.3),
        ({"train/loss": 0.1, "test/loss": 0.2, "test/accuracy": 0.9}, None, 0.2),
        ({"train/loss": 0.1, "train/accuracy": 0.9}, None, 0.1),
        ({"map/best_loss": 0.3, "map/converged_share": 0.5}, None, 0.3),
        ({"train/loss": 0.1, "test/loss": 0.2}, 7, math.inf),
        ({}, None, math.nan),
    ],
    ids=["validation rows", "test rows", "no test rows", "map", "diverged", "nothing recorded"],
)
def test_the_score_is_the_loss_that_judges(final: dict[str, float], diverged_step: int | None, score: float) -> None:
    metrics = [Metric(1, 0, name, value) for name, value in final.items()]
    found = outcome_of(History(metrics=metrics, diverged_step=diverged_step)).score
    assert found == score or (math.isnan(found) and math.isnan(score))
