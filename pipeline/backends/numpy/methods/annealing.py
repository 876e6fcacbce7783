"""Simulated annealing of small networks, through SciPy.

`dual_annealing` is the generalized simulated annealing of Tsallis and Stariolo (1996) in the efficient form of Xiang et
al. (1997). At temperature T first all weights and then each weight on its own are moved by random steps; `visit` sets
how heavy the tail of their distribution is. A step to a loss that is higher by d is accepted with probability
max(0, 1 - (1 - accept) * d / T')^(1 / (1 - accept)), where T' is T over the number of the iteration. The temperature
falls as T = initial_temp * (2^(visit - 1) - 1) / ((1 + t)^(visit - 1) - 1). When it is below restart_temp_ratio *
initial_temp, the search starts again at the initial temperature, from a random position in the box.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import OptimizeResult, dual_annealing, minimize

from pipeline.backends.numpy.methods.search import Search, Vector
from pipeline.backends.shared.recorder import Recorder, of_one_point
from pipeline.config.optimizer import Annealing
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

# SciPy receives this for a loss that is inf or NaN. For inf or NaN it would draw another position without counting it.
WORST = 1e300


@of_one_point
def train(config: Config, arrays: Arrays, recorder: Recorder) -> None:
    """Train the network of one point, in the box w = start + learning_rate * z, |z| <= bound.

    An epoch is two steps for each weight. That is an iteration of SciPy, which has one more step at each restart. SciPy
    reports only new minima, so the steps are counted here. A local search counts towards the preceding steps. The best
    network so far is recorded. The seed determines the start and the steps.

    Raises:
        ValueError: the optimizer is not `annealing`.
    """
    optimizer = config.optimizer
    if not isinstance(optimizer, Annealing):
        raise ValueError(f"expected annealing, received {optimizer.name}")
    search = Search(config, arrays, recorder)
    with np.errstate(all="ignore"):
        search.begin()
        if not search.lost:
            _anneal(search, optimizer, config.training.epochs, config.seed)
        search.finish()


def _anneal(search: Search, optimizer: Annealing, epochs: int, seed: int) -> None:
    """Run SciPy's iterations, one for each epoch, and end each epoch at the best weights so far."""
    start = search.start
    rate = optimizer.learning_rate
    box = [(-optimizer.bound, optimizer.bound)] * len(start)
    best = start
    lowest = np.inf
    # SciPy evaluates the start first, which is not a step.
    steps = -1

    def see(weights: Vector, found: float) -> float:
        """Keep the best weights, and return the loss that SciPy receives."""
        nonlocal best, lowest
        if not math.isfinite(found):
            return WORST
        if found < lowest:
            best = weights
            lowest = found
        return found

    def step(z: Vector) -> float:
        nonlocal steps
        steps += 1
        # The first step of an epoch ends the epoch before it.
        if steps > 1 and steps % (2 * len(start)) == 1 and search.epoch < epochs:
            search.reach(best)
        weights = start + rate * z
        return see(weights, search.loss(weights))

    def loss_and_gradient(z: Vector) -> tuple[float, Vector]:
        weights = start + rate * z
        loss, gradient = search.loss_and_gradient(weights)
        # By the chain rule the derivative with respect to z is rate * dL/dw.
        return see(weights, loss), rate * gradient

    def descend(_step: object, z: Vector, **_: object) -> OptimizeResult:
        """Run SciPy's local search with the gradient; its losses count as evaluations, not as steps."""
        return minimize(loss_and_gradient, z, jac=True, method="L-BFGS-B", bounds=box)

    dual_annealing(
        step,
        box,
        x0=np.zeros_like(start),
        maxiter=epochs,
        maxfun=np.inf,
        initial_temp=optimizer.initial_temp,
        restart_temp_ratio=optimizer.restart_temp_ratio,
        visit=optimizer.visit,
        accept=optimizer.accept,
        rng=np.random.default_rng(seed),
        no_local_search=not optimizer.local_search,
        minimizer_kwargs={"method": descend},
    )
    # No step follows the last epoch to end it.
    if search.epoch < epochs:
        search.reach(best)
