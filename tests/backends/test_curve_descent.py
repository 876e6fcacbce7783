"""Training balls on a curve: its records, stopping and resuming, the content of its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.backends.numpy.curves.descent import POSITIONS, starts
from pipeline.backends.numpy.curves.rolling import DIVERGED, SETTLED
from pipeline.backends.shared.history import History
from pipeline.data.arrays import load
from pipeline.points.identity import signature
from pipeline.points.point import Point, outcome_of
from pipeline.points.reading import read_point
from pipeline.sweep import grouping as stacking
from pipeline.sweep import sweep as sweep_module
from pipeline.tracking.models import chosen_epochs
from tests.backends.test_numpy_training import Keeper
from tests.support.curves import ball_point, rolled
from tests.support.hostile import NoSync
from tests.support.swept import swept
from tests.support.trained import config, write_results

BOWL = "experiment=curve_divergence"


def test_the_metrics_are_those_of_the_balls() -> None:
    one = config(BOWL, "optimizer.learning_rate=0.25", "training.epochs=12")
    history = rolled(one)
    first = np.array([-4.0, 1.0, 3.0])
    for step in (0, 1, 5, 12):
        at, values = first * 0.5**step, {m.name: m.value for m in history.metrics if m.step == step}
        assert values["train/loss"] == pytest.approx(np.mean(at**2))
        assert values["gradient_norm"] == pytest.approx(np.mean(np.abs(2 * at)))
        assert values["balls/largest_x"] == pytest.approx(4 * 0.5**step)
        assert [values[f"balls/x_{ball}"] for ball in range(3)] == pytest.approx(at)
        assert [values[f"balls/height_{ball}"] for ball in range(3)] == pytest.approx(at**2)
        assert history.snapshots[step][POSITIONS] == pytest.approx(at)
    assert history.final()["balls/settled_share"] == history.final()["balls/minima_found"] == 1
    assert (history.epochs, history.diverged_step, history.points_in_stack) == (12, None, 1)


def test_a_schedule_multiplies_every_step() -> None:
    """On x^2 the ball is at start * product of (1 - 2 * rate * factor) after the updates."""
    history = rolled(config(BOWL, "optimizer.learning_rate=1.05", "schedule=exponential", "training.epochs=40"))
    last = config(BOWL, "schedule=exponential").schedule.model_dump()["final"]
    factors = last ** (np.arange(40) / 40)
    at = np.array([-4.0, 1.0, 3.0])[:, None] * np.cumprod(1 - 2 * 1.05 * factors)
    steps, rates = history.series("learning_rate")
    assert rates == pytest.approx(1.05 * factors[steps - 1])
    for step in (1, 7, 40):
        assert [row.value for row in history.metrics if row.step == step and row.name.startswith("balls/x_")] == (
            pytest.approx(at[:, step - 1], rel=1e-6)
        )
    assert abs(at[0, 0]) > 4  # the first step overshoots, and the falling rate brings the balls back
    assert history.final()["balls/settled_share"] == 1
    constant = rolled(config(BOWL, "optimizer.learning_rate=1.05", "training.epochs=40"))
    assert "learning_rate" not in constant.names()
    assert constant.final()["balls/settled_share"] == 0


def test_the_table_has_a_row_for_each_ball() -> None:
    rows = rolled(config(BOWL, "optimizer.learning_rate=0.25", "training.epochs=12")).tables["balls"]
    assert [row["start"] for row in rows] == [-4, 1, 3]
    assert [row["end"] for row in rows] == pytest.approx([start * 0.5**12 for start in (-4, 1, 3)])
    assert {(row["outcome"], row["minimum"]) for row in rows} == {(SETTLED, 0)}
    assert [row["updates"] for row in rows] == [9, 7, 9]  # first within 0.01 of the minimum


def test_a_run_has_diverged_when_no_ball_is_left() -> None:
    history = rolled(config(BOWL, "optimizer.learning_rate=1.2"))
    rows = history.tables["balls"]
    assert {row["outcome"] for row in rows} == {DIVERGED}
    assert history.diverged_step == history.epochs == max(row["updates"] for row in rows) < 200
    assert history.last_finite_loss == history.series("train/loss")[1][-1]
    assert max(history.snapshots) == history.epochs
    assert all(np.isfinite(metric.value) for metric in history.metrics)


def test_one_ball_that_is_left_is_no_divergence() -> None:
    one = config(
        "experiment=curve_local_minimum", "optimizer.learning_rate=0.2", "optimizer.momentum=0.9",
        "balls.starts=[3,1.93429788]",
    )  # fmt: skip
    history = rolled(one)
    assert [row["outcome"] for row in history.tables["balls"]] == [DIVERGED, SETTLED]
    assert history.diverged_step is None
    assert history.final()["balls/diverged_share"] == 0.5
    assert "balls/x_0" not in {metric.name for metric in history.metrics if metric.step == 300}


def test_random_starts_are_drawn_from_the_domain_by_the_seed() -> None:
    drawn = [starts(config("experiment=curve_restarts", f"seed={seed}", "balls.random=500")) for seed in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert -8 <= drawn[0].min() < -7.5 < 7.5 < drawn[0].max() <= 8


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam"])
def test_every_optimizer_rolls_balls_and_a_stop_changes_no_bit(optimizer: str) -> None:
    one = config("experiment=curve_restarts", f"optimizer={optimizer}", "optimizer.learning_rate=0.05",
                 "training.epochs=40", "dtype=float32")  # fmt: skip
    whole, history, keeper = rolled(one), History(), Keeper(stop=17)
    with pytest.raises(KeyboardInterrupt):
        rolled(one, keeper, history)
    assert history.epochs == 0
    keeper.stop = 10**6
    rolled(one, keeper, history)
    assert [metric[0::2] for metric in history.metrics] == [metric[0::2] for metric in whole.metrics]
    assert [metric[3] for metric in history.metrics] == [metric[3] for metric in whole.metrics]
    assert history.tables == whole.tables
    assert {s: a[POSITIONS].tobytes() for s, a in history.snapshots.items()} == {
        s: a[POSITIONS].tobytes() for s, a in whole.snapshots.items()
    }
    assert history.snapshots[40][POSITIONS].dtype == np.float32
    first, last = (history.snapshots[step][POSITIONS] for step in (0, 40))
    assert np.abs(first - last).min() > 0


def test_a_point_is_written_and_read_back(tmp_path: Path) -> None:
    point = ball_point(BOWL, "training.epochs=20", "optimizer.learning_rate=1")
    (read,) = write_results(tmp_path / "results", "curve_divergence", "numpy", [point])
    assert read.config == point.config
    assert read.history.tables == point.history.tables
    assert read.history.snapshots[20][POSITIONS].tolist() == point.history.snapshots[20][POSITIONS].tolist()
    assert chosen_epochs(read) == {}


def test_a_command_trains_each_rate_in_a_pass_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "SyncThread", NoSync)
    monkeypatch.setattr(sweep_module, "code_state", lambda project: {})
    points = [config(BOWL, f"optimizer.learning_rate={rate}", "training.epochs=5") for rate in ("0.1", "0.5")]
    loaded = [(one, load(one.data, one.dtype, Path())) for one in points]
    assert stacking.stacks(loaded) == [[0], [1]]
    swept(tmp_path, [(one, []) for one in points])
    folders = {file.parent for file in (tmp_path / ".points").glob("*/outcome.json")}
    assert {folder.name for folder in folders} == {signature(one, data.checksums) for one, data in loaded}
    for folder in folders:
        point = read_point(folder, "balls")
        again = rolled(point.config)
        assert isinstance(point, Point)
        assert point.outcome.final == outcome_of(again).final
        assert (folder / "plots" / "balls.png").exists()


def test_a_knob_of_a_curve_counts_for_the_signature() -> None:
    changes = ["data.expression=x**2+x", "data.highest=6", "balls.starts=[1]", "optimizer.learning_rate=0.3", "seed=7"]
    found = set()
    for change in [None, *changes]:
        one = config(BOWL, *([change] if change else []))
        found.add(signature(one, load(one.data, one.dtype, Path()).checksums))
    assert len(found) == len(changes) + 1
