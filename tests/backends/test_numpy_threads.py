"""Threads that work side by side: the same bits for any number of them, and BLAS with one thread of its own."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from pipeline.backends.choose import trainer
from pipeline.backends.numpy import batches, descent, threads
from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.one_network import OneNetwork
from pipeline.backends.numpy.threads import Threads, side_by_side
from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, load
from tests.backends.test_numpy_training import assert_same
from tests.support.trained import config

IMAGES = ("experiment=mnist", "model.hidden_size=5", "training.epochs=3", "training.batch_size=7")
# Training diverges at the last one.
RATES = (0.01, 0.1, 1.0, 1e30)
NETWORKS = {
    "minibatches": IMAGES,
    "features": (*IMAGES, "model.dropout=0.4", "model.batch_normalization=true", "training.l2=0.001"),
    "clipped, with a schedule": (*IMAGES, "training.clip_norm=1", "schedule=cosine", "optimizer=momentum"),
    "rates of the last layer": (*IMAGES, "optimizer=sgd", "optimizer.output_learning_rate=0.2"),
    "counted": (*IMAGES, "recording.direction_changes=true", "recording.update_losses=true"),
    "a table": ("experiment=three_bits", "training.epochs=20"),
    "drawn rows": (*IMAGES, "optimizer=aw_sgd", "recording.update_losses=true"),
}


@pytest.fixture(autouse=True)
def _everything_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let threads share also what is too small for them."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "WORTH_A_THREAD", 0)
    monkeypatch.setattr(descent, "CHUNK", 10)
    monkeypatch.setattr(threads, "LARGE", 0)
    monkeypatch.setattr(threads, "PART_ROWS", 2)
    monkeypatch.setattr(batches, "EVALUATION_ROWS", 4)


def with_threads(count: int, network: str, *more: str) -> Config:
    return config(*NETWORKS[network], f"threads={count}", *more)


def train(points: list[Config], arrays: Arrays) -> list[History]:
    histories = [History() for _ in points]
    trainer(points[0])(points, arrays, histories, lambda epoch, loss: None)
    return histories


def data_of(point: Config, images: Arrays) -> Arrays:
    return images if point.data.name == "mnist" else load(point.data, point.dtype, Path())


@pytest.mark.parametrize("network", NETWORKS)
def test_a_point_has_the_same_bits_for_any_number_of_threads(tiny_images: Arrays, network: str) -> None:
    grid = [(f"optimizer.learning_rate={rate}", f"seed={seed}") for seed in (1, 2) for rate in RATES]
    alone = []
    for knobs in grid:
        point = with_threads(1, network, *knobs)
        # The user's shell may have asked for other threads of BLAS.
        with threadpool_limits(2, user_api="blas"):
            alone += train([point], data_of(point, tiny_images))
    diverged = [history.diverged_step is not None for history in alone]
    assert network != "minibatches" or diverged == [False, False, False, True] * 2
    for count in (2, 16):
        points = [with_threads(count, network, *knobs) for knobs in grid]
        with warnings.catch_warnings():
            # A rate that is too high overflows on every thread without a warning.
            warnings.simplefilter("error")
            together = train(points, data_of(points[0], tiny_images))
        for history, expected in zip(together, alone, strict=True):
            assert_same(history, expected)


def test_points_of_a_stack_are_trained_by_several_threads(tiny_images: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads meet in the first two networks, which one thread alone would wait for in vain."""
    met = threading.Barrier(2)
    own_call = OneNetwork.__call__

    def call(self: OneNetwork, index: int, rows: Any) -> tuple[float, Array]:
        met.wait(30)
        return own_call(self, index, rows)

    monkeypatch.setattr(OneNetwork, "__call__", call)
    train([with_threads(2, "minibatches", f"seed={seed}") for seed in (1, 2)], tiny_images)


@pytest.mark.parametrize("method", ["adam", "aw_sgd", "lbfgs", "annealing"])
def test_blas_has_one_thread_in_training_and_then_what_it_had(method: str) -> None:
    size = 3 if method == "aw_sgd" else "null"
    study = ("experiment=three_bits", f"training.batch_size={size}", "training.epochs=2")
    point = config(*study, f"optimizer={method}", "threads=2")
    seen: set[int] = set()
    with threadpool_limits(2, user_api="blas"):
        before = threads_of_blas()
        trainer(point)(
            [point], load(point.data, point.dtype, Path()), [History()], lambda e, loss: seen.update(threads_of_blas())
        )
        assert threads_of_blas() == before
    assert seen == {1}


def threads_of_blas() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_each_piece_of_work_is_done_once_also_within_others() -> None:
    done: list[tuple[int, int]] = []
    with side_by_side(config("threads=3")) as shared:
        shared.each(lambda outer: shared.each(lambda inner: done.append((outer, inner)), 5), 7)
    assert sorted(done) == [(outer, inner) for outer in range(7) for inner in range(5)]


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_is_raised_when_no_thread_works_any_more(count: int) -> None:
    running: set[int] = set()

    def work(number: int) -> None:
        running.add(number)
        if number == 2:
            running.remove(number)
            raise ValueError("the third piece")
        running.remove(number)

    with side_by_side(config(f"threads={count}")) as shared, pytest.raises(ValueError, match="the third piece"):
        shared.each(work, 20)
    assert not running


def test_the_parts_of_a_product_depend_on_its_shape_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PART_ROWS", 40)
    random = np.random.default_rng(3)
    left, right = (random.normal(size=shape).astype(np.float32) for shape in ((130, 70), (70, 50)))
    with side_by_side(config("threads=5")) as shared:
        alone = Threads().product(left, right)
        assert np.array_equal(shared.product(left, right), alone)
        whole = left @ right
        assert alone == pytest.approx(whole, rel=1e-4, abs=1e-4)
        parts = [left[:43] @ right, left[43:86] @ right, left[86:] @ right]
        assert np.array_equal(alone, np.concatenate(parts))
