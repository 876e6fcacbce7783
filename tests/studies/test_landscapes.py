"""The loss on planes through weights: their coordinates, the filter norm, and a loss that is known in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.backends.shared.history import History
from pipeline.drawing.layout import save_png
from pipeline.points.point import Point, outcome_of
from pipeline.studies import landscapes
from pipeline.studies.kinds import answers, headline, study_kind
from pipeline.studies.landscape_picture import MOST_PANELS, landscape_study
from pipeline.studies.landscape_sentences import cut_of, landscape_sections
from pipeline.studies.landscapes import LossOnRows, filter_normalised, plane_of, random_direction
from pipeline.system.errors import LabError
from tests.support.prepared_images import write_prepared
from tests.support.trained import config, sweep

ASKED = "report.picture=loss_landscape"
# One weight and no bias: the loss is the mean of (weight x - y)^2 over the two rows.
LINE = (
    "experiment=line_y3x", "model.bias=false", "loss=mean_squared_error", "dtype=float64", "data.inputs=[[1],[2]]",
    "data.targets=[[3],[4]]", ASKED,
)  # fmt: skip
NETWORK = ("experiment=loss_landscape", "model.hidden_size=4", "model.further_hidden_sizes=[]", "training.epochs=30")


def point(snapshots: Mapping[int, Mapping[str, Any]], *overrides: str) -> Point:
    history = History(epochs=max(snapshots))
    for step, weights in snapshots.items():
        history.snapshot(step, {name: np.asarray(array, np.float64) for name, array in weights.items()})
    return Point(" ".join(overrides), Path(), config(*overrides), history, outcome_of(history))


def line(*weights: float) -> Point:
    """Return a network of one weight with these snapshots."""
    return point({step: {"layer_0/weights": [[weight]]} for step, weight in enumerate(weights)}, *LINE)


def trained(*overrides: str) -> Point:
    return sweep([*NETWORK, *overrides], [[]])[0]


def test_the_start_and_the_end_are_where_they_should_be() -> None:
    one = trained()
    plane = plane_of(one)
    assert plane is not None
    steps = sorted(one.history.snapshots)
    for place, step in (((0.0, 0.0), steps[0]), ((1.0, 0.0), steps[-1])):
        weights = plane.at(*place)
        for name, array in one.history.snapshots[step].items():
            np.testing.assert_allclose(weights[name], array, rtol=1e-12)
    assert plane.path.shape == (len(steps), 2)
    assert plane.path[0].tolist() == [0, 0]
    assert plane.path[-1].tolist() == [1, 0]
    assert 0 < plane.share <= 1


def test_the_projection_leaves_what_is_perpendicular_to_the_plane() -> None:
    one = trained()
    plane = plane_of(one)
    assert plane is not None
    axes = [np.concatenate([array.ravel() for array in axis.values()]) for axis in (plane.along, plane.across)]
    for (a, b), step in zip(plane.path, sorted(one.history.snapshots), strict=True):
        projected = plane.at(a, b)
        left = np.concatenate([(one.history.snapshots[step][name] - projected[name]).ravel() for name in projected])
        np.testing.assert_allclose([left @ axis for axis in axes], 0, atol=1e-10)


def test_each_unit_has_its_norm_in_the_random_direction() -> None:
    weights = trained().history.snapshots[30]
    weights["layer_0/weights"][:, 0] = 0
    direction = filter_normalised(random_direction(weights, 3), weights)
    for name, array in weights.items():
        if name.endswith("weights"):
            np.testing.assert_allclose(np.linalg.norm(direction[name], axis=0), np.linalg.norm(array, axis=0))
        else:
            assert not direction[name].any()


def test_the_loss_of_a_line_is_the_closed_form_everywhere_on_the_plane() -> None:
    one = line(0.5, 4.0)
    plane = plane_of(one)
    assert plane is not None
    sign = float(np.sign(plane.across["layer_0/weights"][0, 0]))
    places = np.array([[a, b] for a in (-0.5, 0, 0.3, 1) for b in (-1, 0, 0.7)])
    weights = 0.5 + 3.5 * places[:, 0] + sign * 4 * places[:, 1]
    expected = ((weights - 3) ** 2 + (2 * weights - 4) ** 2) / 2
    np.testing.assert_allclose(LossOnRows(one.config, 12, Path()).on(plane, places), expected, rtol=1e-12)


def test_the_loss_at_the_start_and_the_end_is_the_recorded_one() -> None:
    one = trained("training.l2=0.01")
    plane = plane_of(one)
    assert plane is not None
    losses = LossOnRows(one.config, 2, Path()).on(plane, np.array([[0.0, 0.0], [1.0, 0.0]]))
    _, recorded = one.history.series("train/loss")
    np.testing.assert_allclose(losses, recorded[[0, -1]], rtol=1e-12)


def test_fewer_rows_are_measured_where_all_would_take_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_prepared(tmp_path, "mnist")
    one = config("experiment=mnist", "model.hidden_size=4", "training.rows=50", ASKED)
    loss = LossOnRows(one, 10, tmp_path)
    assert (loss.rows, loss.of) == (50, 50)
    # A forward pass of a row multiplies and adds 784 x 4 + 4 x 10 times.
    monkeypatch.setattr(landscapes, "MOST_OPERATIONS", 2 * (784 * 4 + 4 * 10) * 10 * 7)
    assert LossOnRows(one, 10, tmp_path).rows == 7


def test_the_sentences_say_where_the_loss_is_highest() -> None:
    # From 0.5 to 3: the loss (w - 3)^2 / 2 + (2 w - 4)^2 / 2 is lowest at 2.2, and nowhere above its ends.
    over = line(0.5, 3.0)
    assert study_kind([over]).name == "landscape"
    first, *_ = answers([over])
    assert first == (
        "rate 0.1: on the straight line from the start to the end the loss goes from 7.62 to 2 and is nowhere higher; "
        "100% of the path is in the plane."
    )
    assert headline([over]).startswith(
        "on 0 of 1 straight lines from the start to the end the loss rises above both ends; "
    )
    cut = cut_of(over)
    assert cut is not None
    # Half of the direction is 1.5 to both sides.
    assert cut.aside == pytest.approx(((1.5 - 3) ** 2 + (3 - 4) ** 2 + (4.5 - 3) ** 2 + (9 - 4) ** 2) / 4)
    ((heading, table), *_) = landscape_sections([over])
    assert heading == "The loss on each plane"
    assert table[2].startswith("| rate 0.1 | 7.62 | 2 | 7.62 | 0% of the way |")


def test_a_network_that_has_not_moved_has_no_plane() -> None:
    for still in (line(0.5, 0.5), line(0.5), line(np.nan, 1.0), line(0.5, np.inf), line(1e300, -1e300)):
        assert plane_of(still) is None
        assert "the weights have not moved" in "".join(landscape_sections([still])[0][1])
        save_png(landscape_study("study", {"numpy": [still]}), Path("/dev/null"))


def test_a_training_that_diverged_ends_at_its_last_finite_weights() -> None:
    plane = plane_of(line(0.5, 4.0, np.inf))
    assert plane is not None
    np.testing.assert_allclose(plane.at(1, 0)["layer_0/weights"], [[4.0]])


def test_without_its_data_the_path_is_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    snapshots = {
        step: {"layer_0/weights": np.full((784, 2), step), "layer_1/weights": np.full((2, 10), step)} for step in (1, 2)
    }
    one = point(snapshots, "experiment=mnist", "model.hidden_size=2", "model.bias=false", ASKED)
    assert cut_of(one) is None
    (ax,) = landscape_study("study", {"numpy": [one]}).axes
    assert "the data is not prepared here" in [text.get_text() for text in ax.texts]


def test_the_picture_has_a_panel_for_each_rate_and_one_scale() -> None:
    points = sweep(list(NETWORK), [[f"optimizer.learning_rate={rate}"] for rate in (0.01, 0.1, 0.3)])
    axes = landscape_study("study", {"numpy": points}).axes
    assert [ax.get_title(loc="left").partition(":")[0] for ax in axes] == ["rate 0.01", "rate 0.1", "rate 0.3"]
    assert len({ax.collections[0].norm.vmax for ax in axes}) == 1
    many = sweep(list(NETWORK), [[f"seed={seed}", f"optimizer.learning_rate={seed}e-3"] for seed in range(1, 9)])
    assert len(landscape_study("study", {"numpy": many}).axes) == MOST_PANELS


def test_a_map_and_a_model_of_ones_own_have_no_landscape() -> None:
    message = "report.picture: loss_landscape needs a dense network; received "
    for other, received in (("experiment=trainability_map", "a map"), ("experiment=convnet", "model=examples.convnet")):
        with pytest.raises(LabError) as error:
            config(other, ASKED)
        assert message + received in str(error.value)


def test_only_dense_networks_whose_config_asks_for_it_are_landscapes() -> None:
    assert study_kind([trained()]).name == "landscape"
    assert study_kind([trained("report.picture=null")]).name == "network"
