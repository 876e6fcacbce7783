"""Metrics that need all rows against scikit-learn, and best constant answers against those that SciPy finds."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as drawn_arrays
from scipy.optimize import minimize_scalar
from sklearn import metrics

from pipeline.backends.numpy.losses import loss_and_slope
from pipeline.backends.shared.measures import baseline_measures, best_constant_loss, of_all_rows
from pipeline.config.metrics import OF_ALL_ROWS, OF_TASK
from pipeline.data.arrays import Arrays
from tests.support.described import prepared

# Few different numbers, so that many are equal.
COARSE = st.integers(-4, 4).map(lambda number: number / 4)
ROWS = st.integers(2, 30)


@given(ROWS.flatmap(lambda rows: st.tuples(*(drawn_arrays(np.float64, rows, elements=COARSE) for _ in range(2)))))
def test_the_area_under_the_curve_counts_equal_outputs_half(both: Any) -> None:
    outputs, second = both
    targets = second > 0
    assume(targets.any() and not targets.all())
    found = of_all_rows("binary", outputs[:, None], targets.astype(np.float64)[:, None])
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(targets, outputs), rel=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(targets, outputs > 0.5))


@given(ROWS.flatmap(lambda rows: st.tuples(*(drawn_arrays(np.int64, rows, elements=st.integers(0, 4)),) * 2)))
def test_balanced_accuracy_leaves_out_classes_without_rows(both: Any) -> None:
    answers, targets = both
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, about answers of classes without rows
        expected = metrics.balanced_accuracy_score(targets, answers)
    assert of_all_rows("classification", answers, targets) == {"balanced_accuracy": pytest.approx(expected, rel=1e-12)}


@pytest.mark.parametrize("outputs", [1, 3])
def test_errors_of_several_outputs_are_means_over_them(outputs: int) -> None:
    random = np.random.default_rng(3)
    targets = random.normal(size=(50, outputs)) * np.arange(1, outputs + 1)
    answers = targets + random.normal(size=(50, outputs))
    assert of_all_rows("regression", answers.astype(np.float32), targets) == {
        "root_mean_squared_error": pytest.approx(metrics.root_mean_squared_error(targets, answers), rel=1e-6),
        "r2": pytest.approx(metrics.r2_score(targets, answers), rel=1e-6),
    }


def test_what_is_not_defined_is_not_a_number() -> None:
    one_class = of_all_rows("binary", np.array([[0.2], [0.9]]), np.ones((2, 1)))
    assert math.isnan(one_class["auc"])
    assert one_class["balanced_accuracy"] == 0.5
    assert math.isnan(of_all_rows("regression", np.array([[1.0], [2.0]]), np.ones((2, 1)))["r2"])


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_outputs_that_are_not_finite_have_no_metrics(task: Any, wrong: float) -> None:
    found = of_all_rows(task, np.array([[wrong], [1.0]]), np.array([[0.0], [1.0]]))
    assert list(found) == [name for name in OF_TASK[task] if name in OF_ALL_ROWS]
    assert all(map(math.isnan, found.values()))


ACTIVATION = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}


def by_search(loss: str, column: Any) -> float:
    """The smallest loss of one constant sum, for one output."""

    def of_constant(value: float) -> float:
        sums = np.full((1, len(column), 1), value)
        return float(loss_and_slope(loss, ACTIVATION.get(loss, "identity"), sums, column[:, None])[0][0])

    return float(minimize_scalar(of_constant, bounds=(-20, 20), method="bounded", options={"xatol": 1e-10}).fun)


@pytest.mark.parametrize("loss", ["mean_squared_error", "mean_absolute_error", "huber", "binary_cross_entropy"])
@given(ROWS.flatmap(lambda rows: drawn_arrays(np.float64, (rows, 2), elements=st.floats(-9, 9))))
def test_the_best_constant_is_the_best_of_all(loss: str, numbers: Any) -> None:
    targets = numbers
    if loss == "binary_cross_entropy":
        targets = (numbers > 0).astype(np.float64)
    expected = (by_search(loss, targets[:, 0]) + by_search(loss, targets[:, 1])) / 2
    assert best_constant_loss(loss, targets) == pytest.approx(expected, rel=1e-6, abs=1e-7)
    assert best_constant_loss("half_summed_squared_error", targets) == pytest.approx(
        best_constant_loss("mean_squared_error", targets) * targets.size / 2
    )


def test_the_best_constant_for_classes_has_their_frequencies() -> None:
    labels = np.array([2, 2, 2, 0])
    assert best_constant_loss("cross_entropy", labels) == pytest.approx(-(3 * math.log(0.75) + math.log(0.25)) / 4)
    sums = np.broadcast_to(np.log([0.25, 1e-30, 0.75]), (1, 4, 3))
    assert best_constant_loss("cross_entropy", labels) == pytest.approx(
        loss_and_slope("cross_entropy", "softmax", sums, labels)[0][0]
    )


def test_the_baseline_is_that_of_the_training_rows_of_described_data(tiny_images: Arrays) -> None:
    assert baseline_measures("cross_entropy", tiny_images) == {}
    iris = prepared("iris").loaded("float32")
    assert baseline_measures("cross_entropy", iris) == {"train/baseline_loss": pytest.approx(math.log(3))}
