"""The 13-line network as its text prints it: a loop over rates, and for each a loop over iterations.

    python -m benchmarks.plain_script [--iterations 60000] [--sizes 4 32]

It is what a reader of the text would run, and what the stacked backend is held to: nothing is stacked, nothing is
recorded but the error that the text prints every 10,000 iterations.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RATES = (0.001, 0.01, 0.1, 1, 10, 100, 1000)
SIZES = (4, 32)
ITERATIONS = 60_000
Weights = tuple[NDArray[np.float64], NDArray[np.float64]]


def train(rate: float, hidden_size: int, iterations: int) -> Weights:
    """Train one network in float64 on half the summed squared error, and print its mean absolute error.

    Returns:
        The weights, (3, hidden_size) and (hidden_size, 1).
    """
    x = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    y = np.array([[0], [1], [1], [0]])
    np.random.seed(1)  # noqa: NPY002 - the published numbers come from this stream
    synapse_0 = 2 * np.random.random((3, hidden_size)) - 1  # noqa: NPY002
    synapse_1 = 2 * np.random.random((hidden_size, 1)) - 1  # noqa: NPY002
    for iteration in range(iterations):
        layer_1 = 1 / (1 + np.exp(-np.dot(x, synapse_0)))
        layer_2 = 1 / (1 + np.exp(-np.dot(layer_1, synapse_1)))
        error = layer_2 - y
        if iteration % 10_000 == 0:
            print(f"rate {rate:g}, iteration {iteration}: error {np.mean(np.abs(error))}")
        layer_2_delta = error * (layer_2 * (1 - layer_2))
        layer_1_delta = layer_2_delta.dot(synapse_1.T) * (layer_1 * (1 - layer_1))
        synapse_1 -= rate * layer_1.T.dot(layer_2_delta)
        synapse_0 -= rate * x.T.dot(layer_1_delta)
    return synapse_0, synapse_1


def train_all(sizes: Sequence[int], iterations: int) -> None:
    """Every rate at every hidden size, one after the other."""
    with np.errstate(over="ignore"):
        for hidden_size in sizes:
            for rate in RATES:
                train(rate, hidden_size, iterations)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plain_script")
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    train_all(options.sizes, options.iterations)
