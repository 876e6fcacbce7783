"""Simulated annealing: it leaves a minimum in which descent gets stuck, and the seed determines its steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize

from pipeline.backends.numpy.methods import annealing
from pipeline.backends.numpy.methods.annealing import train
from pipeline.backends.shared.history import History
from pipeline.data.arrays import load
from pipeline.diagnosis.networks import diagnose
from tests.backends.test_numpy_training import Keeper, assert_same
from tests.support.trained import config, trained

BITS = ("experiment=three_bits", "optimizer=annealing", "model.hidden_size=4")
SHORT = (*BITS, "training.epochs=12", "recording.metrics_every=1")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_solves_xor_from_any_start_within_two_hundred_iterations(seed: int) -> None:
    """At seeds 1 and 2 BFGS ends in a minimum at 0.125."""
    point = config(*BITS, f"seed={seed}", "training.epochs=200", "recording.metrics_every=10")
    (history,) = trained(point)
    assert history.final()["train/mean_absolute_error"] < 0.02
    assert history.final()["train/accuracy"] == 1
    losses = history.series("train/loss")[1]
    assert np.all(np.diff(losses) <= 0)
    assert diagnose(point, history).label == "converged"


def test_the_seed_decides_everything() -> None:
    (first,), (again,), (other,) = (trained(config(*SHORT, f"seed={seed}")) for seed in (1, 1, 2))
    assert_same(first, again)
    assert other.final()["train/loss"] != first.final()["train/loss"]


@pytest.mark.parametrize("search", [False, True])
@pytest.mark.parametrize("ratio", [0.00002, 0.5])
def test_an_epoch_is_an_iteration_of_scipys(ratio: float, search: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart looks at one place more."""
    found: list[Any] = []

    def dual_annealing(*arguments: Any, **options: Any) -> Any:
        found.append(scipy.optimize.dual_annealing(*arguments, **options))
        return found[0]

    monkeypatch.setattr(annealing, "dual_annealing", dual_annealing)
    study = (*SHORT, f"optimizer.restart_temp_ratio={ratio}", f"optimizer.local_search={str(search).lower()}")
    (history,) = trained(config(*study))
    assert (found[0].nit, found[0].nfev) == (12, 1 + 12 * 2 * 16 + (11 if ratio == 0.5 else 0))
    if ratio < 0.5:
        assert found[0].fun == pytest.approx(history.final()["train/loss"], rel=1e-12)
    assert history.epochs == 12
    evaluations = history.series("loss_evaluations")[1]
    steps = 1 + 32 * np.arange(1, 13)
    assert np.all(evaluations >= steps) if search else np.array_equal(evaluations, steps)


def test_weights_stay_in_the_box_around_the_start() -> None:
    (history,) = trained(config(*SHORT, "optimizer.learning_rate=0.5", "optimizer.bound=0.1", "training.epochs=40"))
    start, *others = history.snapshots.values()
    away = [float(np.abs(weights[name] - start[name]).max()) for weights in others for name in start]
    assert 0.04 < max(away) <= 0.05 * (1 + 1e-12)


def test_the_record_is_of_the_best_so_far() -> None:
    (history,) = trained(config(*SHORT, "recording.snapshots=100"))
    losses = history.series("train/loss")[1]
    assert np.all(np.diff(losses) <= 0)
    assert losses[-1] < losses[0]
    assert history.best()["train/loss"] == history.final()["train/loss"]


def test_losses_that_are_no_numbers_are_passed_by() -> None:
    study = (*SHORT, "model.output_activation=identity", "model.hidden_activation=relu", "optimizer.bound=1e100")
    (history,) = trained(config(*study, "optimizer.learning_rate=1e100"))
    assert (history.diverged_step, history.epochs) == (None, 12)
    assert math.isfinite(history.final()["train/loss"])


def test_a_loss_that_is_infinite_from_the_start_has_diverged() -> None:
    study = ("experiment=line_y2x", "gradient=backpropagation", "model.initial_weight=1e30", "optimizer=annealing")
    (history,) = trained(config(*study))
    assert (history.diverged_step, history.epochs) == (0, 1)


def test_stopped_and_continued_is_never_stopped() -> None:
    point = config(*SHORT, "recording.metrics_every=5")
    (undisturbed,) = trained(point)
    arrays, history, keeper = load(point.data, point.dtype, Path()), History(), Keeper()
    for keeper.stop in (2, 7):
        with pytest.raises(KeyboardInterrupt):
            train([point], arrays, [history], lambda epoch, loss: None, keeper)
    keeper.stop = math.inf
    train([point], arrays, [history], lambda epoch, loss: None, keeper)
    assert_same(history, undisturbed)


def test_another_optimizer_is_refused() -> None:
    point = config("experiment=three_bits")
    with pytest.raises(ValueError, match="expected annealing, received sgd"):
        train([point], load(point.data, point.dtype, Path()), [History()], lambda epoch, loss: None)
