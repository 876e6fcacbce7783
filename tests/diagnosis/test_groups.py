"""A network is judged against what its group reached: histories written by hand, on noisy data above all."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.shared.history import History, Metric
from pipeline.config.schema import Config
from pipeline.diagnosis.networks import diagnose
from pipeline.diagnosis.reach import Reach
from pipeline.diagnosis.trends import trend
from pipeline.diagnosis.verdicts import TOO_BIG
from pipeline.points.point import Point, outcome_of
from pipeline.studies.reach import judged_together
from pipeline.studies.row_numbers import rows_of
from tests.support.described import config_of, prepared
from tests.support.trained import config

# log(10), the baseline of ten classes.
BASELINE = math.log(10)
EPOCHS = 20


@functools.cache
def images(*overrides: str) -> Config:
    return config(f"training.epochs={EPOCHS}", "training.batch_size=100", "data.validation_share=0", *overrides)


def falling(end: float, start: float = BASELINE, half_life: float = 1.0) -> list[float]:
    """Losses that come close to `end` within the epochs."""
    return [end + (start - end) * 0.5 ** (epoch / half_life) for epoch in range(1, EPOCHS + 1)]


def written(train: Sequence[float], test: Sequence[float] = (), accuracy: Sequence[float] = ()) -> History:
    """A history of training losses from epoch 1 on; metrics of the test rows also have one before training."""
    history = History([Metric(step, 0, "train/loss", loss) for step, loss in enumerate(train, 1)])
    for name, before, values in (("test/loss", BASELINE, test), ("test/accuracy", 0.1, accuracy)):
        if len(values):
            history.metrics += [Metric(step, 0, name, value) for step, value in enumerate([before, *values])]
    history.epochs = len(train)
    return history


def point(history: History, *overrides: str) -> Point:
    return Point(" ".join(overrides), Path(), images(*overrides), history, outcome_of(history))


def labels(*points: Point) -> list[str]:
    return [one.diagnosis.label for one in judged_together(points)]


def rate(value: float) -> str:
    return f"optimizer.learning_rate={value}"


def test_on_noisy_data_no_good_network_is_too_slow() -> None:
    """The best that can be reached is 60% of the baseline, as for customers who leave or stay."""
    best = 0.6 * BASELINE
    still = point(written(falling(best), accuracy=[0.5] * EPOCHS), rate(0.01))
    moving = point(written(falling(best, half_life=6), accuracy=[0.495] * EPOCHS), rate(0.003))
    slow = point(written(falling(best, half_life=50), accuracy=[0.2] * EPOCHS), rate(0.001))
    assert labels(still, moving, slow) == ["converged", "improving", "too slow"]
    assert labels(still) == ["converged"]
    assert labels(moving) == ["improving"]


def test_a_network_whose_accuracy_is_near_the_best_is_not_too_slow() -> None:
    best = point(written(falling(0.03), accuracy=[0.98] * EPOCHS), rate(0.01))
    good = point(written(falling(0.1, half_life=5), accuracy=[0.975] * EPOCHS), rate(0.003))
    bad = point(written(falling(0.1, half_life=5), accuracy=[0.93] * EPOCHS), rate(0.003))
    assert labels(best, good) == ["converged", "improving"]
    assert labels(best, bad) == ["converged", "too slow"]


def test_known_noise_widens_what_is_near() -> None:
    seeds = [
        point(written(falling(0.1), accuracy=[accuracy] * EPOCHS), rate(0.01), f"seed={seed}")
        for seed, accuracy in enumerate((0.9, 0.94, 0.98))
    ]
    behind = point(written(falling(0.5, half_life=6), accuracy=[0.9] * EPOCHS), rate(0.003))
    assert labels(seeds[2], behind)[-1] == "too slow"
    *_, judged = judged_together([*seeds, behind])
    assert judged.reach is not None
    assert judged.reach.noise["test/accuracy"] == pytest.approx(0.04)
    assert judged.diagnosis.label == "improving"


@pytest.mark.parametrize(("rows", "error"), [("validation", 0.0067), ("test", 0.067)])
def test_the_sample_of_rows_that_a_metric_is_measured_on_is_noise(rows: str, error: float) -> None:
    """1,000 validation rows and 10 test rows; a tenth is wrong, and half of the variance is common to all points."""
    data = prepared("iris").description.model_copy(update={"validation_rows": 1000, "test_rows": 10})
    history = written(falling(0.1))
    history.metrics += [Metric(step, 0, f"{rows}/accuracy", 0.9) for step in range(EPOCHS)]
    share = {"validation": 1 / 6, "test": 0.0}[rows]
    points = []
    for value in (0.01, 0.1):
        settings = config_of("iris", rate(value))
        held_back = settings.data.model_copy(update={"validation_share": share})
        settings = settings.model_copy(update={"data": held_back})
        points.append(Point("", Path(), settings, history, outcome_of(history), data))
    (judged, _) = judged_together(points)
    assert judged.reach is not None
    assert judged.reach.noise[f"{rows}/accuracy"] == pytest.approx(error, abs=0.0002)


def test_the_number_of_held_out_images_of_mnist_is_known() -> None:
    points = [point(written(falling(0.1), accuracy=[0.9] * EPOCHS), rate(value)) for value in (0.01, 0.1)]
    (judged, _) = judged_together(points)
    assert judged.reach is not None
    assert judged.reach.noise["test/accuracy"] == pytest.approx(math.sqrt(0.9 * 0.1 / 20_000))
    part = point(written([1.0]), "data.validation_share=1/6", "training.rows=16384")
    numbers = [rows_of(part, f"{rows}/loss") for rows in ("train", "validation", "test")]
    assert numbers == [16384, 10_000, 10_000]


def test_a_seed_that_fails_does_not_make_the_others_noisy() -> None:
    good = [point(written(falling(0.1 + seed / 1000)), rate(0.01), f"seed={seed}") for seed in range(3)]
    mixed = [point(written(falling(end)), rate(0.1), f"seed={seed}") for seed, end in enumerate((0.1, 0.1, 2.2))]
    (judged, *_) = judged_together([*good, *mixed])
    assert judged.reach is not None
    assert judged.reach.noise["train/loss"] == pytest.approx(0.001, rel=0.1)


def test_a_larger_rate_that_ends_worse_is_too_large() -> None:
    good = point(written(falling(0.1), accuracy=[0.97] * EPOCHS), rate(0.01))
    large = point(written(falling(0.6), accuracy=[0.8] * EPOCHS), rate(0.1))
    slow = point(written(falling(0.6, half_life=6), accuracy=[0.8] * EPOCHS), rate(0.001))
    other = point(written(falling(0.6, half_life=6), accuracy=[0.8] * EPOCHS), rate(0.1), "optimizer=sgd")
    found = judged_together([good, large, slow, other])
    assert "the smaller rate 0.01 ends better, with test accuracy 0.97" in found[1].diagnosis.evidence
    assert found[1].diagnosis.problem == TOO_BIG
    assert [one.diagnosis.cause for one in found] == ["", "rate too large", "", ""]


def seeds_of(value: float, accuracies: Sequence[float], end: float = 0.3) -> list[Point]:
    """Points with one rate that still fall, a seed for each accuracy."""
    return [
        point(written(falling(end, half_life=6), accuracy=[accuracy] * EPOCHS), rate(value), f"seed={seed}")
        for seed, accuracy in enumerate(accuracies)
    ]


def test_a_rate_that_is_too_large_and_hardly_falls_has_stalled_rather_than_being_slow() -> None:
    def crawling(power: float) -> list[float]:
        return [0.15 * epoch**-power for epoch in range(1, EPOCHS + 1)]

    small = point(written(falling(0.0025), accuracy=[0.97] * EPOCHS), rate(0.01))
    for power, label in ((0.02, "stalled (rate too large)"), (0.25, "too slow (rate too large)")):
        history = written(crawling(power), accuracy=[0.8] * EPOCHS)
        history.metrics.append(Metric(EPOCHS, 0, "weights/update_ratio", 0.004))
        assert labels(small, point(history, rate(0.1)))[1] == label


def test_a_rate_is_compared_with_the_mean_of_a_smaller_one_and_not_with_its_luckiest_seed() -> None:
    """Seeds of one rate get one answer."""
    lucky = seeds_of(0.01, (0.90, 0.91, 0.97))
    large = seeds_of(0.1, (0.91, 0.92, 0.93))
    assert all(one.reach and one.reach.smaller_rate is None for one in judged_together([*lucky, *large]))
    best = seeds_of(0.01, (0.96, 0.97, 0.98), end=0.1)
    worse = seeds_of(0.1, (0.79, 0.80, 0.82))
    found = judged_together([*best, *worse])[3:]
    assert [one.diagnosis.label for one in found] == ["too slow (rate too large)"] * 3
    assert found[0].diagnosis.evidence.endswith("ends better, with test accuracy 0.97, the mean of 3 seeds")


def test_a_rate_that_cannot_be_told_from_the_best_is_not_too_large() -> None:
    """The final accuracies of 64 hidden units in the study mnist_grid."""
    table = {
        0.001: (0.9143, 0.9125, 0.9173),
        0.003: (0.9359, 0.9328, 0.9381),
        0.01: (0.9459, 0.9472, 0.9474),
        0.03: (0.9448, 0.9424, 0.938),
        0.1: (0.9025, 0.8161, 0.854),
    }
    points = [one for value, accuracies in table.items() for one in seeds_of(value, accuracies, 0.1 + 3 * value)]
    found = judged_together(points)
    assert {one.diagnosis.label for one in found[-3:]} == {"improving (seeds differ)"}
    assert "too far apart to tell this rate from the best" in found[-1].diagnosis.evidence


def test_a_seed_that_fails_is_no_noise_that_excuses_it() -> None:
    points = [*seeds_of(0.01, (0.97, 0.97, 0.971), 0.1), *seeds_of(0.1, (0.97, 0.972, 0.5))]
    assert labels(*points)[-3:] == ["improving", "improving", "too slow"]


def test_a_small_network_is_judged_against_its_own_kind() -> None:
    small = [point(written(falling(end)), rate(r), "model.hidden_size=8") for r, end in ((0.01, 0.8), (0.1, 0.82))]
    large = [point(written(falling(end)), rate(r), "model.hidden_size=512") for r, end in ((0.01, 0.02), (0.1, 0.03))]
    assert labels(*small, *large)[:2] == ["converged", "converged"]
    # One rate only: there is nothing else to compare a network with.
    assert judged_together([small[0], large[0]])[0].reach == judged_together([small[0], large[0]])[1].reach


@pytest.mark.parametrize("other", ["training.rows=100", "backend=keras"])
def test_other_rows_and_backends_are_other_groups(other: str) -> None:
    one = point(written(falling(0.8)), rate(0.01))
    low = point(written(falling(0.02)), rate(0.02), other)
    assert [judged.reach and judged.reach.points for judged in judged_together([one, low])] == [1, 1]


def test_models_at_one_rate_are_judged_together_also_if_some_are_the_same_model() -> None:
    """As the features of a study on a backend that trains one rate: two of them clip the gradient."""
    low = point(written(falling(0.1)), "training.clip_norm=null", "model.hidden_size=64")
    plain, clipped = (point(written(falling(0.6)), f"training.clip_norm={limit}") for limit in ("null", 1))
    judged = judged_together([low, plain, clipped])
    assert [one.reach and one.reach.points for one in judged] == [3, 3, 3]
    # With a second rate, a model has a best of its own.
    other = point(written(falling(0.5)), rate(0.02))
    judged = judged_together([low, plain, clipped, other])
    assert [one.reach and one.reach.points for one in judged] == [4, 3, 3, 3]


def test_a_group_in_which_all_diverged_reached_nothing() -> None:
    history = written([2.0])
    history.diverged_step = 7
    (judged,) = judged_together([point(history, rate(10))])
    assert judged.reach is None
    assert judged.diagnosis.label == "diverged"


# --- overfitting

RISING = [*falling(0.3)[:8], *np.linspace(0.45, 0.9, 12)]


def test_a_test_loss_that_rises_while_training_falls_is_overfitting() -> None:
    found = diagnose(images(), written(falling(0.01), test=RISING, accuracy=[0.9] * EPOCHS))
    assert found.label == "overfitting"
    assert found.values["overfitting_since"] == 8
    assert found.evidence.startswith("since epoch 8 the test loss has risen from 0.308 to 0.859, while the training")
    assert found.problem == "none"


@pytest.mark.parametrize(
    ("train", "test", "accuracy"),
    [
        (falling(0.01), falling(0.3), 0.9),  # it does not rise
        (falling(0.01), [*falling(0.3)[:18], 0.9, 0.9], 0.9),  # two bad epochs
        (falling(0.01), [0.3 + 0.3 * (epoch % 2) for epoch in range(EPOCHS)], 0.9),  # it swings
        ([0.5] * EPOCHS, RISING, 0.9),  # training does not fall
        ([*falling(0.3)[:8], *np.geomspace(1, 1e9, 12)], RISING, 0.9),  # training has diverged
    ],
)
def test_nothing_else_is_overfitting(train: list[float], test: list[float], accuracy: float) -> None:
    assert diagnose(images(), written(train, test, [accuracy] * EPOCHS)).verdict != "overfitting"


def test_a_bad_epoch_at_the_end_hides_no_overfitting() -> None:
    fallen = falling(0.01)
    # The lowest test loss is that of epoch 8. As on MNIST with Keras, training ends just below where it was then.
    history = written([*fallen[:-1], 0.99 * fallen[7]], test=RISING, accuracy=[0.9] * EPOCHS)
    found = diagnose(images(), history)
    assert found.label == "overfitting"
    assert f"while the training loss fell from {fallen[7]:.3g} to {min(fallen[:-1]):.3g}" in found.evidence
    risen = written([*fallen[:-1], 1.01 * fallen[7]], test=RISING, accuracy=[0.9] * EPOCHS)
    assert diagnose(images(), risen).verdict != "overfitting"


def test_a_test_loss_that_rises_while_the_accuracy_does_too_is_only_reported() -> None:
    found = diagnose(images(), written(falling(0.01), test=RISING, accuracy=np.linspace(0.9, 0.98, EPOCHS).tolist()))
    assert found.label == "converged"
    assert "but the test accuracy has got better, to 0.98" in found.evidence


def test_validation_rows_come_before_test_rows() -> None:
    history = written(falling(0.01), test=falling(0.3), accuracy=[0.9] * EPOCHS)
    history.metrics += [Metric(step, 0, "validation/loss", loss) for step, loss in enumerate(RISING, 1)]
    assert "the validation loss has risen" in diagnose(images(), history).evidence


# --- few records


@given(losses=st.lists(st.floats(0.2, 2.0), min_size=1, max_size=9))
def test_a_few_records_never_oscillate(losses: list[float]) -> None:
    assert diagnose(images(), written(losses)).verdict != "oscillating"


@given(seed=st.integers(0, 10_000))
def test_the_noise_of_minibatches_is_not_oscillation(seed: int) -> None:
    noise = 1 + 0.03 * np.random.default_rng(seed).standard_normal(EPOCHS)
    far = Reach(0.01, "test/accuracy", 0.98, 0.1, points=5)
    found = diagnose(images(), written((noise * falling(0.5)).tolist(), accuracy=[0.7] * EPOCHS), far)
    assert found.verdict in ("stalled", "too slow")


def test_large_swings_of_minibatches_are_oscillation() -> None:
    swings = [0.5 + 0.3 * (epoch % 2) for epoch in range(EPOCHS)]
    assert diagnose(images(), written(swings, accuracy=[0.7] * EPOCHS)).verdict == "oscillating"


def test_a_single_epoch_does_not_stand_still() -> None:
    first = written([0.5], accuracy=[0.9])
    assert diagnose(images(), first).label == "improving"
    assert diagnose(images(), first, Reach(0.01, "test/accuracy", 0.98, 0.1, points=5)).label == "too slow"


@given(
    slope=st.floats(-5, 5),
    height=st.floats(-5, 5),
    records=st.integers(2, 30),
)
def test_a_line_has_its_own_trend(slope: float, height: float, records: int) -> None:
    steps = np.arange(records) * 3
    found = trend(steps, height + slope * steps)
    assert found.fall == pytest.approx(-slope * steps[-1], abs=1e-9)
    assert found.error == pytest.approx(0, abs=1e-9)
    assert found.swing == pytest.approx(0, abs=1e-9)


def test_the_error_of_a_trend_is_that_of_the_slope() -> None:
    """Checked against scipy.stats.linregress."""
    from scipy.stats import linregress

    steps = np.array([0, 1, 2, 5, 9])
    values = np.array([3.0, 2.2, 2.9, 1.0, 0.4])
    found = trend(steps, values)
    expected = linregress(steps, values)
    assert found.fall == pytest.approx(-expected.slope * 9)
    assert found.error == pytest.approx(expected.stderr * 9)
