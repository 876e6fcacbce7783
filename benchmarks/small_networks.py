"""Many small networks: the seven rates of three_bits as one stack, and ten thousand of them."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from benchmarks import plain_script
from benchmarks.measuring import Benchmark, Contenders, peer
from benchmarks.untracked import composed, train_points, with_rates
from pipeline.backends.shared.initial_weights import draw
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, load
from pipeline.system.project import PROJECT

HIDDEN = 4
STUDY = ("experiment=three_bits", f"model.hidden_size={HIDDEN}")
SIDE, ITERATIONS = 100, 1_000
SPAN = {"start": 0.001, "stop": 1000, "count": SIDE}
MAP = (
    "experiment=trainability_map",
    f"training.epochs={ITERATIONS}",
    *(f"grid.{axis}.logspace.{key}={value}" for axis in "xy" for key, value in SPAN.items()),
)
"""The map over the rates of the two layers, SIDE values of each."""
NANOSECONDS = 1e9


def three_bits(iterations: int) -> tuple[Config, Arrays]:
    """The study at hidden size 4, and its four rows."""
    config = composed(*STUDY, f"training.epochs={iterations}")
    return config, load(config.data, config.dtype, PROJECT)


def seven_rates() -> AbstractContextManager[Contenders]:
    """One pass over all rates, as the pipeline makes it, against the script that takes one after the other."""
    from pipeline.backends.numpy.training import train

    config, arrays = three_bits(plain_script.ITERATIONS)
    points = with_rates(config, plain_script.RATES)

    def ours() -> float:
        started = time.perf_counter()
        train_points(train, points, arrays)
        return time.perf_counter() - started

    def theirs() -> float:
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            plain_script.train_all([HIDDEN], plain_script.ITERATIONS)
        return time.perf_counter() - started

    return nullcontext(Contenders(ours, theirs))


def ten_thousand_rates() -> AbstractContextManager[Contenders]:
    """A map against JAX, both in nanoseconds per point and iteration."""
    theirs = _in_jax()
    return nullcontext(Contenders(rate_map(), theirs))


def _per_update(started: float) -> float:
    """Nanoseconds since `started` for each point and iteration."""
    return (time.perf_counter() - started) / (SIDE * SIDE * ITERATIONS) * NANOSECONDS


def rate_map(*more: str) -> Callable[[], float]:
    """Trains the map, with more overrides; returns nanoseconds per point and iteration."""
    from pipeline.backends.numpy.maps.rate_map import train_map

    config = composed(*MAP, *more)
    arrays = load(config.data, config.dtype, PROJECT)

    def measured() -> float:
        started = time.perf_counter()
        train_points(train_map, [config], arrays)
        return _per_update(started)

    return measured


def _in_jax() -> Callable[[], float]:
    train_all = jax_training(*three_bits(ITERATIONS))
    rates = np.logspace(-3, 3, SIDE)
    pairs = [axis.ravel() for axis in np.meshgrid(rates, rates)]
    train_all(*pairs)  # compiles

    def measured() -> float:
        started = time.perf_counter()
        train_all(*pairs)
        return _per_update(started)

    return measured


def jax_training(config: Config, arrays: Arrays) -> Callable[..., tuple[Any, Any]]:
    """The plain script's loop in JAX with 64-bit numbers, mapped over pairs of rates and compiled.

    Returns:
        A function of the rates of the first and of the second layer, (points,) each, that trains and returns the
        weights, (points, 3, hidden_size) and (points, hidden_size, 1).

    Raises:
        NotMeasured: JAX is not installed.
    """
    jax = peer("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    x, y = jnp.asarray(arrays.train_inputs), jnp.asarray(arrays.train_targets)
    weights = draw(config.dense, arrays.features, arrays.outputs, config.seed, config.dtype)
    start = tuple(jnp.asarray(array) for array in weights.values())

    def train_one(rate_0: Any, rate_1: Any) -> Any:
        def step(_: int, synapses: Any) -> Any:
            synapse_0, synapse_1 = synapses
            layer_1 = 1 / (1 + jnp.exp(-(x @ synapse_0)))
            layer_2 = 1 / (1 + jnp.exp(-(layer_1 @ synapse_1)))
            layer_2_delta = (layer_2 - y) * (layer_2 * (1 - layer_2))
            layer_1_delta = (layer_2_delta @ synapse_1.T) * (layer_1 * (1 - layer_1))
            return synapse_0 - rate_0 * (x.T @ layer_1_delta), synapse_1 - rate_1 * (layer_1.T @ layer_2_delta)

        return jax.lax.fori_loop(0, config.training.epochs, step, start)

    compiled = jax.jit(jax.vmap(train_one))
    return lambda *rates: jax.block_until_ready(compiled(*rates))


BENCHMARKS = [
    Benchmark(
        "three_bits",
        "three_bits, 7 rates, hidden 4, 60,000 iterations, stacked NumPy",
        "the plain script, rate after rate",
        1 / 8,
        "`train` on the seven configs as one stack, with all that the study records, against "
        "`benchmarks/plain_script.py` in the same process: the text's loop in float64, once for each rate, all 60,000 "
        "iterations.",
        seven_rates,
        most_rounds=3,
    ),
    Benchmark(
        "ten_thousand_rates",
        "10,000 rates of the same network, per point and iteration",
        "JAX vmap and fori_loop under jit",
        0.6,
        f"`train_map` of `pipeline.backends.numpy.maps` on {SIDE} x {SIDE} pairs of rates, one for each layer, from "
        f"0.001 to 1000, {ITERATIONS:,} iterations in float64, with what a map keeps of the losses, against the plain "
        "script's formulas in JAX on the same pairs, with 64-bit numbers, compiled before it is timed, which keeps the "
        "weights alone.",
        ten_thousand_rates,
        unit="ns",
    ),
]
