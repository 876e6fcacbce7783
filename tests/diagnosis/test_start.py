"""Whether a loss rose above its start, and how a rate compares with what the curvature there allows."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pipeline.backends.shared.history import History
from pipeline.data.arrays import Arrays
from pipeline.diagnosis.start import loss_rose, losses_from_start, recorded_rate, with_allowed_rate
from pipeline.diagnosis.verdicts import TOO_LARGE, Diagnosis, Verdict
from tests.support.trained import config, trained


def history(series: Mapping[str, Mapping[int, float]], diverged: int | None = None) -> History:
    made = History(diverged_step=diverged)
    for name, values in series.items():
        for step, value in values.items():
            made.record(step, {name: value})
    return made


@pytest.mark.parametrize(
    ("losses", "rose"),
    [
        ({0: 1.0, 1: 0.5, 2: 0.4}, False),
        ({0: 1.0, 1: 1.009, 2: 0.4}, False),  # rounding, and the noise of minibatches
        ({0: 1.0, 1: 1.011, 2: 0.4}, True),  # it recovers, but it rose
        ({0: 0.0, 1: 1e-9}, True),
        ({1: 2.0, 2: 1.0}, False),  # nothing was recorded before the first update
        ({}, False),
    ],
)
def test_a_loss_rose_if_it_was_more_than_a_percent_above_its_start(losses: dict[int, float], rose: bool) -> None:
    assert loss_rose(history({"train/loss": losses})) is rose


def test_a_loss_that_is_not_finite_rose() -> None:
    assert loss_rose(history({"train/loss": {0: 1.0}}, diverged=3))


def test_with_minibatches_the_losses_are_those_of_held_out_rows_throughout() -> None:
    """The training loss is a mean over an epoch, with dropout: it may be above the loss that no update has changed."""
    losses = {"train/loss": {1: 5.0, 2: 4.0}, "validation/loss": {0: 2.3, 1: 2.2}}
    assert losses_from_start(history(losses)).tolist() == [2.3, 2.2]
    assert not loss_rose(history(losses))
    losses["validation/loss"][1] = 2.4
    assert loss_rose(history(losses))
    assert losses_from_start(history({"test/loss": {0: 2.0}, "train/loss": {1: 5.0}})).tolist() == [2.0]


@pytest.mark.parametrize("feature", ["dropout", "batch_normalization"])
def test_a_tiny_rate_does_not_break_a_network_whose_training_loss_is_of_another_kind(
    feature: str, tiny_images: Arrays
) -> None:
    one = config("data=mnist", f"feature={feature}", "optimizer=sgd", "optimizer.learning_rate=1e-6",
                 "training.epochs=2", "model.hidden_size=8", "training.batch_size=32")  # fmt: skip
    (trained_history,) = trained(one, arrays=tiny_images)
    assert not loss_rose(trained_history)


def test_a_breaking_rate_counts_as_recorded_only_before_the_first_update() -> None:
    assert recorded_rate(history({"curvature/breaking_rate": {0: 0.12, 1: 9.0}})) == 0.12
    assert recorded_rate(history({"curvature/breaking_rate": {1: 9.0}})) is None
    assert recorded_rate(history({})) is None


@pytest.mark.parametrize(
    ("verdict", "cause", "rate", "said"),
    [
        ("diverged", "", 0.216, "it grew; the rate was 1.8 times what the curvature at the start allows"),
        ("diverged", "", 0.06, "it grew; the curvature at the start allows rates up to 0.12"),
        ("stalled", "saturation", 1.2, "it grew; the rate was 10 times what the curvature at the start allows"),
        ("stalled", "flat", 0.06, "it grew"),  # the rate is not why
        ("too slow", TOO_LARGE, 0.24, "it grew; the rate was 2 times what the curvature at the start allows"),
        ("too slow", "", 0.24, "it grew"),
        ("converged", "", 0.24, "it grew"),
    ],
)
def test_steps_that_were_too_large_are_compared_with_the_curvature(
    verdict: Verdict, cause: str, rate: float, said: str
) -> None:
    found = Diagnosis(verdict, cause, "it grew", {"roughness": 0.5})
    told = with_allowed_rate(found, rate, 0.12)
    assert told == Diagnosis(verdict, cause, said, {"roughness": 0.5})
    assert with_allowed_rate(found, rate, None) is found
    assert with_allowed_rate(found, rate, 0.0) is found
