"""The map of a curve: each ball gives the same results in any block as on its own."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from pipeline.backends.numpy.curves import basins
from pipeline.backends.numpy.curves.rolling import DIVERGED
from pipeline.backends.numpy.maps import rate_map
from pipeline.backends.shared.history import History
from pipeline.data.arrays import load
from pipeline.points.point import Point, outcome_of
from pipeline.sweep import grouping as stacking
from tests.backends.test_numpy_training import Keeper
from tests.backends.test_rate_map import same
from tests.support.curves import BASINS, rolled
from tests.support.trained import config, write_results


def test_each_ball_ends_where_it_ends_alone() -> None:
    one = config(*BASINS, "grid.x.linspace=null", "grid.x.list=[0.1,0.5,0.8,12]")
    arrays = rolled(one).map_arrays
    seen = set()
    for column, rate in enumerate(arrays["x"]):
        alone = config(
            "experiment=curve_restarts", "training.epochs=60", f"optimizer.learning_rate={rate:g}",
            f"balls.starts={arrays['y'].tolist()}", "balls.random=null",
        )  # fmt: skip
        for row, ball in enumerate(rolled(alone).tables["balls"]):
            expected = -2 if ball["outcome"] == DIVERGED else ball["minimum"]
            assert arrays["minimum"][row, column] == expected
            assert arrays["end"][row, column] == ball["end"]
            assert arrays["updates"][row, column] == ball["updates"]
            seen.add(expected)
    assert seen == {-2, -1, 0, 1, 2, 3, 4}


def test_blocks_and_stops_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    one, history, keeper = config(*BASINS), History(), Keeper(stop=3)
    whole = rolled(one)
    monkeypatch.setattr(basins, "BLOCK_BALLS", 16)
    total, unit = stacking.steps(one, load(one.data, one.dtype, Path()))
    assert (total, unit) == (6, "block")
    with pytest.raises(KeyboardInterrupt):
        rolled(one, keeper, history)
    assert np.isnan(history.map_arrays["end"]).any()
    keeper.stop = 10**6
    rolled(one, keeper, history)
    assert same(history.map_arrays, whole.map_arrays)
    assert history.final() == whole.final()


def test_the_metrics_are_shares_of_the_balls() -> None:
    history = rolled(config(*BASINS))
    minimum, final = history.map_arrays["minimum"], history.final()
    assert final["map/points"] == 90
    assert final["map/converged_share"] == np.mean(minimum >= 0)
    assert final["map/diverged_share"] == np.mean(minimum == -2)
    assert final["map/minima_found"] == 5


def test_a_map_of_a_curve_is_read_back_and_a_damaged_one_refused(tmp_path: Path) -> None:
    one = config(*BASINS)
    history = rolled(one)
    (read,) = write_results(
        tmp_path, "curve_basins", "numpy", [Point("map", Path(), one, history, outcome_of(history))]
    )  # fmt: skip
    assert same(read.history.map_arrays, history.map_arrays)
    assert one.grid is not None
    with pytest.raises(ValueError, match="expected the arrays of a map of 15 rows and 6 columns, received"):
        basins.check_basins(history.map_arrays | {"end": np.zeros(3)}, one.grid)


def test_a_block_that_is_no_longer_needed_ends_at_once() -> None:
    one, stop = config(*BASINS, "training.epochs=100000"), threading.Event()
    stop.set()
    found = rate_map.train_block(one, load(one.data, one.dtype, Path()), np.arange(4), stop)
    assert found["updates"].tolist() == [1] * 4
