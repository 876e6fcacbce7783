"""An epoch of MNIST, 784-1000-10 under Adam with batches of 1024, beside four others and what the machine allows.

All of them train the same 60,000 rows in float32 in an order drawn anew for each epoch, and nothing is tested. An
epoch is the time from the end of the first to the end of the third, halved: what comes once is left out.
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.measuring import Benchmark, Contenders, NotMeasured, peer
from benchmarks.untracked import composed, train_points
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, load
from pipeline.data.prepared_folder import PREPARED
from pipeline.system.processes import cores
from pipeline.system.project import PROJECT

FEATURES, HIDDEN, CLASSES, BATCH, RATE, EPSILON = 784, 1000, 10, 1024, 0.001, 1e-7
ROWS = 60_000
EPOCHS = 3
KNOBS = (
    "experiment=mnist",
    f"model.hidden_size={HIDDEN}",
    f"training.batch_size={BATCH}",
    f"optimizer.learning_rate={RATE}",
    f"training.epochs={EPOCHS}",
)


@functools.cache
def without_test_rows() -> Arrays:
    """MNIST's training rows, read once.

    Raises:
        NotMeasured: MNIST is not prepared.
    """
    config = composed(*KNOBS)
    if not (PROJECT / PREPARED / config.data.name / "data.json").exists():
        raise NotMeasured("MNIST is not prepared (dvc repro prepare@mnist)")
    return replace(load(config.data, config.dtype, PROJECT), test_inputs=None, test_targets=None)


def per_epoch(ends: list[float]) -> float:
    """Seconds of an epoch after the first, from the times at which epochs ended."""
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def numpy_epoch(arrays: Arrays, *more: str) -> Callable[[], float]:
    """The NumPy backend, with more overrides."""
    from pipeline.backends.numpy.training import train

    config = composed(*KNOBS, *more)
    return lambda: per_epoch(train_points(train, [config], arrays))


def floor() -> float:
    """The five products of each step of an epoch, on dense matrices and into memory that is there already."""
    generator = np.random.default_rng(0)

    def drawn(*shape: int) -> Any:
        return generator.random(shape, dtype=np.float32)

    x, h, d, dh = drawn(BATCH, FEATURES), drawn(BATCH, HIDDEN), drawn(BATCH, CLASSES), drawn(BATCH, HIDDEN)
    w0, w1 = drawn(FEATURES, HIDDEN), drawn(HIDDEN, CLASSES)
    products = [(x, w0), (h, w1), (h.T, d), (d, w1.T), (x.T, dh)]
    outs = [np.matmul(left, right) for left, right in products]
    steps = round(ROWS / BATCH)
    started = time.perf_counter()
    for _ in range(steps):
        for (left, right), out in zip(products, outs, strict=True):
            np.matmul(left, right, out=out)
    return (time.perf_counter() - started) * (ROWS / BATCH) / steps


def torch_epoch(arrays: Arrays) -> Callable[[], float]:
    """PyTorch with fused Adam."""
    torch = peer("torch")
    torch.set_num_threads(cores())
    inputs, targets = (
        torch.from_numpy(arrays.scaled(arrays.train_inputs)),
        torch.from_numpy(arrays.train_targets).long(),
    )

    def train() -> float:
        nn = torch.nn
        network = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE, eps=EPSILON, fused=True)
        loss, ends = nn.CrossEntropyLoss(), []
        for _ in range(EPOCHS):
            for chosen in torch.randperm(len(inputs)).split(BATCH):
                optimizer.zero_grad()
                loss(network(inputs[chosen]), targets[chosen]).backward()
                optimizer.step()
            ends.append(time.perf_counter())
        return per_epoch(ends)

    return train


def sklearn_epoch(arrays: Arrays) -> Callable[[], float]:
    """scikit-learn's MLPClassifier: a fit of three epochs less a fit of one, halved."""
    neural_network = peer("sklearn.neural_network")
    inputs = arrays.scaled(arrays.train_inputs)

    def seconds(epochs: int) -> float:
        classifier = neural_network.MLPClassifier(
            (HIDDEN,), solver="adam", alpha=0, batch_size=BATCH, learning_rate_init=RATE, epsilon=EPSILON,
            max_iter=epochs, n_iter_no_change=EPOCHS, tol=0, random_state=1,
        )  # fmt: skip
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged
            classifier.fit(inputs, arrays.train_targets)
        return time.perf_counter() - started

    return lambda: (seconds(EPOCHS) - seconds(1)) / (EPOCHS - 1)


def fit_epoch(arrays: Arrays) -> Callable[[], float]:
    """Keras' own `fit`, with the loss and the accuracy that it shows."""
    import pipeline.backends.keras  # noqa: F401 - the settings that are read when keras is imported
    import keras  # isort: skip

    inputs = arrays.scaled(arrays.train_inputs)

    def train() -> float:
        keras.utils.clear_session()
        network = keras.Sequential(
            [keras.Input((FEATURES,)), keras.layers.Dense(HIDDEN, "relu"), keras.layers.Dense(CLASSES)]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        network.compile(keras.optimizers.Adam(RATE), loss, metrics=["accuracy"])
        ends: list[float] = []
        note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter()))
        network.fit(inputs, arrays.train_targets, BATCH, EPOCHS, verbose=0, callbacks=[note], shuffle=True)
        return per_epoch(ends)

    return train


def keras_backend_epoch(arrays: Arrays) -> Callable[[], float]:
    """The Keras backend."""
    from pipeline.backends.keras.training import train

    config: Config = composed(*KNOBS, "backend=keras")
    return lambda: per_epoch(train_points(train, [config], arrays))


def _pair(
    ours: Callable[[Arrays], Callable[[], float]], theirs: Callable[[Arrays], Callable[[], float]]
) -> Callable[[], AbstractContextManager[Contenders]]:
    def ready() -> AbstractContextManager[Contenders]:
        arrays = without_test_rows()
        return nullcontext(Contenders(ours(arrays), theirs(arrays)))

    return ready


EPOCH = f"MNIST epoch {FEATURES}-{HIDDEN}-{CLASSES}, Adam, batch {BATCH}, NumPy"
BENCHMARKS = [
    Benchmark(
        "mnist_floor",
        EPOCH,
        "the floor: its matrix products alone, dense",
        1.1,
        f"`pipeline.backends.numpy.training.train` on the prepared rows without the test rows, against the five "
        f"products of a step (x @ w0, h @ w1, h.T @ d, d @ w1.T, x.T @ dh) on dense matrices of {BATCH} rows, into "
        f"memory that is reused, times {ROWS}/{BATCH} steps: 192 GFLOP.",
        _pair(numpy_epoch, lambda arrays: floor),
    ),
    Benchmark(
        "mnist_torch",
        EPOCH,
        "PyTorch",
        0.85,
        "The same network and batches in PyTorch: data that is a tensor already, indexed by a permutation, "
        "`Adam(fused=True)`, as many threads as cores.",
        _pair(numpy_epoch, torch_epoch),
    ),
    Benchmark(
        "mnist_sklearn",
        EPOCH,
        "scikit-learn's MLPClassifier",
        0.8,
        "`MLPClassifier` with alpha 0 and without early stopping: a `fit` of three epochs less a `fit` of one, halved.",
        _pair(numpy_epoch, sklearn_epoch),
    ),
    Benchmark(
        "mnist_keras_fit",
        EPOCH,
        "Keras' fit",
        0.8,
        "The same network compiled plainly, with accuracy as its metric, and `fit(shuffle=True, verbose=0)`, on "
        "TensorFlow with the settings that `pipeline.backends.keras` makes (oneDNN's reordering off).",
        _pair(numpy_epoch, fit_epoch),
    ),
    Benchmark(
        "keras_backend",
        "MNIST epoch, Keras backend as the pipeline runs it",
        "Keras' fit",
        1.05,
        "`pipeline.backends.keras.training.train` against that same `fit`.",
        _pair(keras_backend_epoch, fit_epoch),
    ),
]
