"""The diagnosis of runs: on runs with a known outcome, and on histories written by hand."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.backends.shared.history import History, Metric
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.diagnosis.baseline import baseline_loss
from pipeline.diagnosis.networks import diagnose
from pipeline.diagnosis.stalled import saturation
from pipeline.diagnosis.trends import epochs_needed, first_below, reversals, roughness, second_half
from pipeline.diagnosis.verdicts import PROBLEMS
from tests.support.described import config_of
from tests.support.trained import config, trained

LINE = ("experiment=line_y3x", "recording.snapshots=2")
NO_HIDDEN = ("experiment=three_bits", "model=linear", "model.output_activation=sigmoid", "recording.snapshots=2")


@functools.cache
def line() -> Config:
    return config(*LINE)


def written(
    losses: Sequence[float], others: Mapping[str, Sequence[float]] | None = None, steps: Sequence[int] | None = None
) -> History:
    """A history of these losses, at epochs 0, 1, ... unless `steps` are given."""
    at = steps or range(len(losses))
    history = History([Metric(step, 0, "train/loss", loss) for step, loss in zip(at, losses, strict=True)])
    history.metrics += [
        Metric(step, 0, n, v) for n, values in (others or {}).items() for step, v in zip(at, values, strict=True)
    ]
    history.epochs = max(at, default=0)
    return history


# --- runs that are known to end so


@pytest.mark.parametrize(
    ("overrides", "label", "evidence"),
    [
        (["optimizer.learning_rate=0.1", "training.epochs=300"],
         "converged", "2% of the baseline first reached at epoch 8"),
        (["optimizer.learning_rate=0.00001", "training.epochs=300"], "too slow", "(300 trained)"),
        (["optimizer.learning_rate=0.1195", "training.epochs=200", "gradient=backpropagation"],
         "oscillating", "one weight changes direction in 100% of its updates"),
        (["optimizer.learning_rate=1", "training.epochs=40"],
         "stalled (rounding)", "in float32 12,755 + 0.0001 rounds to 12,755"),
        (["optimizer.learning_rate=1", "training.epochs=40", "dtype=float64"],
         "stalled (rounding)", "in float64 84,944,384,060,442 + 0.0001 rounds to 84,944,384,060,442"),
        (["optimizer.learning_rate=1", "training.epochs=8", "dtype=float64"],
         "diverged", "times the initial loss and still growing"),
        (["optimizer.learning_rate=1", "training.epochs=40", "gradient=backpropagation"],
         "diverged", "the loss was not a finite number after 16 updates, last finite loss 5.08e+37"),
    ],
)  # fmt: skip
def test_a_line(overrides: list[str], label: str, evidence: str) -> None:
    own = config(*LINE, *overrides)
    found = diagnose(own, trained(own)[0])
    assert found.label == label
    assert evidence in found.evidence


@pytest.mark.parametrize(("rate", "size"), [(100, 4), (100, 32), (1000, 4), (1000, 32)])
def test_sigmoids_that_are_saturated(rate: int, size: int) -> None:
    own = config("experiment=three_bits", f"optimizer.learning_rate={rate}", f"model.hidden_size={size}",
                 "training.epochs=6000", "recording.snapshots=2")  # fmt: skip
    found = diagnose(own, trained(own)[0])
    assert found.label == "stalled (saturation)"
    assert found.values["saturated"] >= 0.9


def test_a_network_that_cannot_do_better_is_stalled_without_saturation() -> None:
    own = config(*NO_HIDDEN, "optimizer.learning_rate=1", "training.epochs=3000")
    (history,) = trained(own)
    found = diagnose(own, history)
    assert found.label == "stalled (flat)"
    assert found.values["loss_over_baseline"] == pytest.approx(1)  # all outputs 1/2
    assert found.values["saturated"] == 0


def test_a_tiny_rate_is_too_slow_though_nothing_moves() -> None:
    own = config(*LINE, "optimizer.learning_rate=0.000000001", "training.epochs=50")
    found = diagnose(own, trained(own)[0])
    assert found.verdict == "too slow"
    assert "would take more than 5,000 epochs" in found.evidence


def test_two_updates_are_no_trend() -> None:
    own = config("experiment=three_bits", "optimizer.learning_rate=1", "model.hidden_size=4", "training.epochs=2")
    found = diagnose(own, trained(own)[0])
    assert found.verdict == "too slow"  # not oscillating, though a weight turned round in one of two updates
    assert "reversals" not in found.values


def test_too_few_records_are_reported() -> None:
    found = diagnose(line(), written([60.0, 50.0], steps=[0, 1]))
    assert "after 1 epoch, too few data points for a trend" in found.evidence


def test_images(tiny_images: Arrays) -> None:
    own = [config("training.epochs=6", "training.batch_size=10", "model.hidden_size=8", f"optimizer.learning_rate={r}")
           for r in (0.00001, 0.05)]  # fmt: skip
    slow, good = (diagnose(one, trained(one, arrays=tiny_images)[0]) for one in own)
    assert slow.verdict == "too slow"
    assert slow.values["loss_over_baseline"] > 0.3
    assert good.values["loss_over_baseline"] < slow.values["loss_over_baseline"]


# --- histories written by hand


LOW = 0.01 * 11.25


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([60, 30, LOW, LOW], "converged"),
        ([60, LOW, 2 * LOW, LOW, 2 * LOW], "converged"),  # it swings, but low
        ([60, 30, *([28, 30] * 5)], "oscillating"),
        ([60, 30, 28, 30, 28, 30], "too slow"),  # too few to say more
        ([60, 50, 40, 30, 20, 12], "too slow"),  # no better than the baseline yet
        ([60, 50, 40, 30, 20, 10], "improving"),
        ([60, 30, *[9.0] * 10], "converged"),  # as low as anything that it is compared with
        ([60, 100, 1000, 1e4, 1e5], "diverged"),
        ([60], "too slow"),
        ([], "too slow"),
    ],
)
def test_the_shape_of_a_curve(losses: list[float], verdict: str) -> None:
    assert diagnose(line(), written(losses)).verdict == verdict


def test_a_loss_that_stands_still_is_stalled_only_where_the_gradient_is_nearly_zero() -> None:
    own = config(*LINE)
    flat = {"weights/norm": [2.0] * 8, "gradient_norm": [1e-5] * 8}
    steep = flat | {"gradient_norm": [10.0] * 8}
    assert diagnose(own, written([20.0] * 8, flat)).label == "stalled (flat)"
    assert diagnose(own, written([20.0] * 8, steep)).verdict == "too slow"


def test_a_start_that_overshot_is_reported() -> None:
    own = config()
    # The loss before the first step is that of the test rows.
    before = Metric(0, 0, "test/loss", 2.4)
    overshot = written([4.9, 2.5, 2.3], steps=[1, 2, 3])
    overshot.metrics.insert(0, before)
    found = diagnose(own, overshot)
    assert found.label == "stalled (rate too large)"
    assert "the loss after the first epoch, 4.9, is above the baseline" in found.evidence
    harmless = written([2.6, 2.5, 2.3], steps=[1, 2, 3])
    harmless.metrics.insert(0, before)
    assert diagnose(own, harmless).label == "too slow"
    # What was that high before the first step has not overshot; without test rows, nobody knows.
    high = written([4.9, 2.5, 2.3], steps=[1, 2, 3])
    assert diagnose(own, high).label == "too slow"
    high.metrics.insert(0, before._replace(value=30.0))
    assert diagnose(own, high).label == "too slow"


def test_a_baseline_of_0_is_said_in_words() -> None:
    same = written([0.3, 0.2, 0.1])
    same.metrics.insert(0, Metric(0, 0, "train/baseline_loss", 0.0))
    evidence = diagnose(config_of("iris"), same).evidence
    assert "the baseline is 0: all training targets are the same" in evidence
    assert "inf" not in evidence


def test_the_first_epoch_with_a_low_loss_is_reported() -> None:
    found = diagnose(config(*LINE), written([60, 30, LOW, 1, LOW], steps=[0, 10, 20, 30, 40]))
    assert found.values["epochs_to_low_loss"] == 20


def test_every_verdict_is_one_of_the_texts_problems() -> None:
    assert set(PROBLEMS.values()) == {"none", "slopes too small", "slopes too big", "stuck in a minimum"}


@example(losses=[0.0, 0.0, 113.0], gradient=1.0, norm=0.0, diverged=None)
@example(losses=[0.0, 0.0, 113.0], gradient=0.0, norm=0.0, diverged=None)
@given(
    losses=st.lists(st.floats(0, 1e300), max_size=12),
    gradient=st.floats(0, 1e200),
    norm=st.floats(0, 1e200),
    diverged=st.none() | st.integers(1, 99),
)
def test_any_history_has_a_diagnosis_of_finite_numbers(
    losses: list[float], gradient: float, norm: float, diverged: int | None
) -> None:
    there = {"gradient_norm": [gradient] * len(losses), "weights/norm": [norm] * len(losses)}
    history = written(losses, there)
    history.diverged_step = diverged
    found = diagnose(line(), history)
    assert found.verdict in PROBLEMS
    assert found.evidence
    assert all(map(math.isfinite, found.values.values()))
    # Alone, a loss is low, or it stands still below the baseline.
    assert (found.verdict == "converged") <= bool(losses and losses[-1] < 11.25)


# --- the parts


def test_the_baseline_is_the_loss_of_the_best_constant_answer() -> None:
    own = config(*LINE)
    constants = np.linspace(0, 15, 3001)
    losses = np.mean((constants[:, None] - np.array([3.0, 6.0, 9.0, 12.0])) ** 2, axis=1)
    assert baseline_loss(own, History()) == pytest.approx(losses.min())
    assert baseline_loss(config("experiment=three_bits"), History()) == pytest.approx(4 * 0.5**2 / 2)
    assert baseline_loss(config(), History()) == pytest.approx(-math.log(1 / 10))


@given(start=st.floats(1, 100), half_life=st.floats(5, 500))
def test_exponential_decay_goes_on(start: float, half_life: float) -> None:
    steps = np.arange(0, 200, 5)
    needed = epochs_needed(steps, start * 0.5 ** (steps / half_life), start / 1024)
    assert needed == pytest.approx(10 * half_life, rel=1e-3)


@given(start=st.floats(1, 100), power=st.floats(0.3, 3))
def test_a_power_law_goes_on(start: float, power: float) -> None:
    steps = np.arange(1, 200, 3)
    needed = epochs_needed(steps, start * steps**-power, start * 1000.0**-power)
    assert needed == pytest.approx(1000, rel=1e-3)


def test_a_loss_that_does_not_fall_never_gets_there() -> None:
    steps = np.arange(1, 20)
    assert epochs_needed(steps, np.full(19, 3.0), 1.0) == math.inf
    assert epochs_needed(steps, np.linspace(3, 4, 19), 1.0) == math.inf
    assert epochs_needed(steps[:1], np.array([3.0]), 1.0) is None


def test_roughness_is_the_share_of_the_way_up() -> None:
    assert roughness(np.array([3.0, 2.0, 1.0])) == 0
    assert roughness(np.array([1.0, 2.0])) == 1
    assert roughness(np.array([4.0, 1.0, 2.0])) == pytest.approx(0.25)
    assert roughness(np.array([1.0, 1.0])) == 0
    assert roughness(np.array([1e308, -1e308, 1e308])) == pytest.approx(0.5)


def test_the_first_low_loss() -> None:
    assert first_below(np.array([3.0, 1.0, 2.0, 0.5]), 1.0) == 1
    assert first_below(np.array([3.0, 2.0]), 1.0) == 2


def test_reversals_that_were_counted() -> None:
    history = written([1.0] * 11)
    assert reversals(history) is None
    history.tables["direction_changes"] = [{"layer": 0, "row": 0, "column": c, "count": c} for c in range(4)]
    assert reversals(history) == pytest.approx(3 / 9)
    few = written([1.0] * 6)
    few.tables = history.tables
    assert reversals(few) is None


def test_turns_of_a_weight_are_seen_although_not_every_epoch_is_recorded() -> None:
    """The weight swings around 3 by less and less: (1 - 15 rate)^n."""
    study = ("experiment=line_y3x", "gradient=backpropagation", "training.epochs=1000", "recording.metrics_every=auto")
    (history,) = trained(config(*study, "optimizer.learning_rate=0.119", "recording.table_epochs=0"))
    assert len(history.series("weights/weight")[0]) == 301
    assert diagnose(config(*study), history).values["reversals"] > 0.9


def test_the_second_half_is_half_of_the_epochs_and_not_of_the_records() -> None:
    dense_at_first = [*range(100), *range(110, 1001, 10)]
    assert dense_at_first[second_half(np.array(dense_at_first))] == 500
    assert second_half(np.arange(5)) == second_half(np.arange(1, 5)) == 2


def test_a_model_of_ones_own_has_no_saturation() -> None:
    own = config("data=three_bits", "model=convnet", "backend=keras", "training.batch_size=null")
    assert saturation(own, {"layer_0/weights": np.array([[0.0], [0.0], [50.0]])}) is None


def test_saturation_counts_the_rows_that_are_wrong() -> None:
    own = config(*NO_HIDDEN)  # inputs 001, 011, 101, 111; targets 0, 1, 1, 0
    share = saturation(own, {"layer_0/weights": np.array([[0.0], [0.0], [50.0]])})
    assert share == 1  # all outputs 1: two rows are wrong, both saturated
    assert saturation(own, {"layer_0/weights": np.zeros((3, 1))}) == 0
    assert saturation(config(), {}) is None
