"""The distribution that AW-SGD draws rows from: any distribution is unbiased, and learning reduces the variance."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.backends.numpy.methods.row_sampling import RowSampling
from pipeline.config.optimizer import AwSgd

TARGETS = np.array([[0.0], [1], [1], [0], [1], [1]])


def sampling(rate: float = 0.1, by: str = "row", uniform_share: float = 0.1) -> RowSampling:
    knobs = {"learning_rate": 1, "sampling_learning_rate": rate, "sampled_by": by, "uniform_share": uniform_share}
    return RowSampling(AwSgd.model_validate({"name": "aw_sgd"} | knobs), TARGETS)


def with_tau(one: RowSampling, seed: int) -> RowSampling:
    one.tau = np.random.default_rng(seed).normal(size=len(one.tau))
    return one


@pytest.mark.parametrize("by", ["row", "target"])
def test_at_first_all_rows_are_as_likely(by: str) -> None:
    one = sampling(by=by)
    np.testing.assert_allclose(one.probabilities(), 1 / 6, rtol=1e-14)
    assert one.effective_rows() == pytest.approx(6)
    np.testing.assert_allclose(one.weights(np.arange(6)), 1, rtol=1e-14)


@pytest.mark.parametrize("by", ["row", "target"])
@pytest.mark.parametrize("share", [0.01, 0.5, 1])
def test_probabilities_add_up_and_have_a_floor(by: str, share: float) -> None:
    one = with_tau(sampling(by=by, uniform_share=share), 1)
    one.tau *= 100
    assert one.probabilities().sum() == pytest.approx(1, rel=1e-14)
    assert one.probabilities().min() >= share / 6 * (1 - 1e-12)
    assert one.weights(np.arange(6)).max() <= 1 / share * (1 + 1e-12)
    assert 1 <= one.effective_rows() <= 6 * (1 + 1e-12)


def test_rows_with_one_target_share_a_probability() -> None:
    shares = with_tau(sampling(by="target"), 3).probabilities()
    assert len(set(shares[[0, 3]])) == len(set(shares[[1, 2, 4, 5]])) == 1
    assert shares[0] != shares[1]


@pytest.mark.parametrize("by", ["row", "target"])
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_tau_moves_against_the_derivative_of_the_second_moment(by: str, share: float) -> None:
    """Every row once, each as often as it is likely: then the step is -d V / d tau, by forward differences."""
    squares = np.array([1.0, 4, 0.5, 9, 2, 3])  # |g_i|^2

    def moment(tau: NDArray[np.float64]) -> float:
        own = sampling(by=by, uniform_share=share)
        own.tau = tau
        return float((squares / (36 * own.probabilities())).sum())

    one = with_tau(sampling(1.0, by, share), 2)
    tau, step = one.tau.copy(), np.zeros_like(one.tau)
    counts, likely = one.weights(np.arange(6)), one.probabilities()
    for row in range(6):
        own = sampling(1.0, by, share)
        own.tau = tau.copy()
        own.learn(np.array([row]), counts[[row]] ** 2 * squares[[row]])
        step += likely[row] * (own.tau - tau)
    h = 1e-6
    slope = [(moment(tau + h * unit) - moment(tau - h * unit)) / (2 * h) for unit in np.eye(len(tau))]
    np.testing.assert_allclose(step, -np.array(slope), rtol=1e-7)


def test_draws_are_as_frequent_as_likely() -> None:
    one = with_tau(sampling(), 5)
    drawn = one.draw(np.linspace(0, 1, 100_000, endpoint=False))
    np.testing.assert_allclose(np.bincount(drawn, minlength=6) / 100_000, one.probabilities(), atol=2e-5)
    assert one.draw(np.array([0.0, np.nextafter(1, 0)])).tolist() == [0, 5]


def test_it_learns_to_draw_rows_with_large_gradients_and_varies_less() -> None:
    """Least is (mean |g|)^2, where rows are as likely as their gradients are long."""
    lengths = np.array([0.1, 0.1, 0.1, 0.1, 3.0, 2.0])
    one, random = sampling(0.05, uniform_share=0.05), np.random.default_rng(0)
    for _ in range(3000):
        drawn = one.draw(random.random(4))
        one.learn(drawn, (one.weights(drawn) * lengths[drawn]) ** 2)
    uniform, best = np.mean(lengths**2), np.mean(lengths) ** 2
    moment = float((lengths**2 / (36 * one.probabilities())).sum())
    assert best <= moment < 0.4 * uniform
    assert np.argsort(one.probabilities())[-2:].tolist() == [5, 4]


@pytest.mark.parametrize("square", [np.inf, np.nan, 1e308])
def test_nothing_is_learned_from_what_is_no_number(square: float) -> None:
    one = sampling(1e10)
    with np.errstate(all="ignore"):
        one.learn(np.array([0, 1]), np.array([square, 1.0]))
    np.testing.assert_allclose(one.probabilities(), 1 / 6)


def test_at_rate_0_rows_stay_as_likely() -> None:
    one = sampling(0)
    one.learn(np.array([0, 1]), np.array([5.0, 1.0]))
    np.testing.assert_allclose(one.probabilities(), 1 / 6, rtol=1e-14)
