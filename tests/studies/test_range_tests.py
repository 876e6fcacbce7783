"""The rate that range tests of several seeds suggest: its interval, its sentences and its picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.shared.history import History, note_update
from pipeline.diagnosis.range_test import SHARE, averaged
from pipeline.drawing.plot_data import Floats
from pipeline.points.point import Point, outcome_of
from pipeline.studies.kinds import study_kind
from pipeline.studies.range_picture import range_study
from pipeline.studies.range_tests import geometric_mean, range_headline, range_numbers, range_sentences, seed_tests
from tests.support.trained import config

RATES = np.geomspace(1e-5, 10, 601)
LOGS = np.log10(RATES)
NO_RISE = "the smoothed loss does not rise again up to the largest rate, 10, so test larger rates (schedule.final)"


def losses_of(lowest: float) -> Floats:
    """A loss that is lowest at a rate, and diverges."""
    away = LOGS - math.log10(lowest)
    losses: Floats = np.where(away > 0.2, 50.0, 1 + np.minimum(2 * away**2, 2))
    return losses


FALLS = 2.3 - 0.3 * (LOGS - LOGS[0])
FLAT = np.full(len(LOGS), 2.3)


def seeds(*losses: Floats, settings: Sequence[str] = ()) -> list[Point]:
    """Range tests of one network with the seeds 1, 2, ..."""
    points = []
    for seed, values in enumerate(losses, start=1):
        one = config("experiment=lr_range_test", "model.hidden_size=2", f"seed={seed}", *settings)
        history = History(epochs=4)
        for update, (rate, loss) in enumerate(zip(RATES, values, strict=False)):
            note_update(history, update, float(rate), float(loss))
        history.record(4, {"train/loss": float(values[-1])})
        points.append(Point(f"seed={seed}", Path(), one, history, outcome_of(history)))
    return points


def test_the_interval_covers_the_true_rate_as_often_as_it_says() -> None:
    """On valleys whose minimum is known: the mean of a parabola is one again, 19 updates later (beta / (1 - beta))."""
    random = np.random.default_rng(7)
    draws = 1000
    valley = 1 + 2 * (LOGS + 2) ** 2
    # Of 200 updates in the middle of 601, so that the start of the mean does not matter.
    noisy = valley + 0.2 * random.normal(size=(draws, 8, len(LOGS)))
    lowest = averaged(noisy[..., 100:]).argmin(axis=-1) + 100
    true = math.log10(SHARE) - 2 + 19 * (LOGS[1] - LOGS[0])
    found = [geometric_mean(rates) for rates in SHARE * RATES[lowest]]
    covered = [math.log10(one.low) <= true <= math.log10(one.high) for one in found]
    assert 0.93 <= np.mean(covered) <= 0.97
    # They are no wider than they have to be: the mean of 8 is that close, and 2.36 is the quantile of Student's t.
    deviation = np.log10(RATES[lowest]).std(ddof=1, axis=1).mean()
    width = np.mean([math.log10(one.high / one.low) for one in found])
    assert width == pytest.approx(2 * 2.365 * deviation / math.sqrt(8), rel=0.01)


def test_the_mean_and_its_interval_by_hand() -> None:
    found = geometric_mean([0.1, 1.0, 10.0])
    # log10 is -1, 0, 1: its deviation is 1, and the 97.5 % quantile of t with 2 degrees of freedom is 4.3027.
    assert found.rate == pytest.approx(1)
    assert found.seeds == 3
    assert found.high == pytest.approx(10 ** (4.30265 / math.sqrt(3)), rel=1e-4)
    assert found.low == pytest.approx(1 / found.high)
    assert str(geometric_mean([0.3, 0.3])) == "0.3 (0.3 to 0.3, 2 seeds)"
    assert str(geometric_mean([0.31])) == "0.31 (one seed: the spread is unknown)"


@given(st.lists(st.floats(1e-300, 1e300), min_size=2, max_size=9))
def test_the_mean_is_between_the_rates_and_in_its_interval(rates: list[float]) -> None:
    found = geometric_mean(rates)
    assert min(rates) * (1 - 1e-9) <= found.rate <= max(rates) * (1 + 1e-9)
    assert found.low <= found.rate * (1 + 1e-9)
    assert found.high >= found.rate * (1 - 1e-9)
    assert math.isfinite(found.high)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (
            seeds(losses_of(0.3), losses_of(0.6), losses_of(0.42)),
            [
                "the range test suggests a rate of 0.22 (0.089 to 0.53, 3 seeds), one third of the rate where the "
                "smoothed loss is lowest.",
                "single seeds suggest 0.15 to 0.31; the loss falls fastest at 0.095 and diverges at 0.69.",
            ],
        ),
        (
            seeds(losses_of(0.3), FALLS, losses_of(0.6)),
            [
                "the range test suggests a rate of 0.22 (0.0023 to 20, 2 seeds), one third of the rate where the "
                "smoothed loss is lowest.",
                "single seeds suggest 0.15 to 0.31; the loss falls fastest at 0.095 and diverges at 0.69.",
                f"2 of 3 seeds have a clear minimum: with seed 2, {NO_RISE}.",
            ],
        ),
        (
            seeds(losses_of(0.3), FALLS),
            [f"1 of 2 seeds has a clear minimum, too few to suggest a rate: with seed 2, {NO_RISE}."],
        ),
        (seeds(FALLS, FALLS), [f"none of 2 seeds has a clear minimum: {NO_RISE}."]),
        (seeds(FALLS), [f"there is no clear minimum: {NO_RISE}."]),
        (
            seeds(FALLS, FLAT),
            [
                f"none of 2 seeds has a clear minimum: with seed 1, {NO_RISE}; with seed 2, the smoothed loss "
                "hardly changes from 1e-05 to 10, so test larger rates (schedule.final)."
            ],
        ),
        (
            seeds(FALLS[:2]),
            [
                "there is no clear minimum: the test needs at least 3 updates with a finite loss, and has 2, so train "
                "longer (training.epochs)."
            ],
        ),
    ],
)
def test_the_sentences_count_the_seeds_without_a_clear_minimum(points: list[Point], said: list[str]) -> None:
    assert list(range_sentences(points)) == said
    assert study_kind(points).name == "range_test"
    numbers = range_numbers(points)
    assert numbers["clear_minima"] == len(seed_tests(points)[0].clear)
    assert ("suggested_rate" in numbers) == said[0].startswith("the range test suggests")


def test_the_sweep_has_the_figure_of_all_seeds_and_curves_if_it_cannot_be_drawn() -> None:
    points = seeds(losses_of(0.3), losses_of(0.6))
    assert [name for name, _ in study_kind(points).sweep_figures(points)] == ["range_test"]
    short = seeds(FALLS[:2], FALLS[:2])
    assert "range_test" not in dict(study_kind(short).sweep_figures(short))


def test_networks_are_told_apart() -> None:
    points = [
        *seeds(losses_of(0.3), losses_of(0.3)),
        *seeds(losses_of(0.6), FALLS, losses_of(0.6), settings=["model.hidden_size=4"]),
    ]
    assert range_headline(points) == (
        "hidden size 2: suggested rate 0.15 (0.15 to 0.15, 2 seeds); "
        "hidden size 4: suggested rate 0.31 (0.31 to 0.31, 2 seeds)"
    )
    assert range_numbers(points) == {"clear_minima": 4}
    assert len(list(range_study("study", {"numpy": points}).axes)) == 2


@pytest.mark.parametrize(
    ("points", "names"),
    [
        (seeds(losses_of(0.3)), ["each minibatch", "smoothed", "lowest smoothed loss", "suggested rate: 0.15"]),
        (
            seeds(losses_of(0.3), FALLS, losses_of(0.6)),
            ["each seed, smoothed", "median of 3 seeds", "lowest of each seed", "95 % interval of the suggested rate:",
             "suggested rate: 0.22"],
        ),
        (seeds(FALLS, FALLS), ["each seed, smoothed", "median of 2 seeds", "lowest of each seed"]),
    ],
)  # fmt: skip
def test_the_picture_says_what_its_lines_and_bands_are(points: list[Point], names: list[str]) -> None:
    (ax,) = range_study("study", {"numpy": points}).axes
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text().partition("\n")[0] for text in legend.get_texts()] == names
    assert ax.get_ylabel() == "training loss of minibatches (smoothed)"
    assert ax.get_xscale() == "log"
    assert ("clear minimum" in ax.get_title("left")) == any(
        "not rise again" in text for text in range_sentences(points)
    )


def test_the_dark_line_is_the_median_and_ends_where_most_seeds_have_diverged() -> None:
    points = seeds(losses_of(0.3), losses_of(0.3), FALLS)
    (ax,) = range_study("study", {"numpy": points}).axes
    (dark,) = [line for line in ax.lines if line.get_label() == "median of 3 seeds"]
    first = seed_tests(points)[0].tests[0]
    assert first is not None
    rates, means = np.asarray(dark.get_xydata()).T
    np.testing.assert_allclose(rates, first.rates[: first.last])
    assert means[first.lowest] == pytest.approx(first.means[first.lowest])


def test_a_page_has_the_rates_of_all_networks() -> None:
    sizes = (2, 3, 4)
    points = [one for size in sizes for one in seeds(losses_of(0.1), settings=[f"model.hidden_size={size}"])]
    heading, section = study_kind(points).sections(points)[0]
    assert heading == "All suggested rates"
    assert section == [f"- {sentence}" for sentence in range_sentences(points)]
    assert any(line.startswith("- hidden size 4: the range test suggests a rate of ") for line in section)
    assert study_kind(points).sections(points[:1])[0][0] == "How the rate is suggested"
