"""Simulated annealing of small networks, through SciPy.

`dual_annealing` is the generalized simulated annealing of Tsallis and Stariolo (1996) as Xiang et al. (1997) made it
efficient. At temperature T all weights, and then each alone, are moved by steps from a distribution whose tail is as
heavy as `visit` says; a step to a loss that is higher by d is taken with probability
max(0, 1 - (1 - accept) * d / T')^(1 / (1 - accept)), T' = T over the number of the iteration. The temperature falls as
T = initial_temp * (2^(visit - 1) - 1) / ((1 + t)^(visit - 1) - 1), and where it is below restart_temp_ratio *
initial_temp the search begins again, hot, from a random place of the box.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import OptimizeResult, dual_annealing, minimize

from pipeline.backends.numpy.methods.search import Search, Vector
from pipeline.backends.shared.recorder import Recorder, of_one_point
from pipeline.config.optimizer import Annealing
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

WORST = 1e300
"""What SciPy is given for a loss that is inf or NaN, where it would draw another place and count it as none."""


@of_one_point
def train(config: Config, arrays: Arrays, recorder: Recorder) -> None:
    """Train the network of one point, in the box w = start + learning_rate * z, |z| <= bound.

    An epoch is two steps for each weight, which is an iteration of SciPy's, but for one step more at each restart;
    SciPy tells only of new minima, so the steps are counted, and a local search belongs to the steps before it. What is
    recorded is the best network so far. The seed decides the start and the steps.

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
    start, rate = search.start, optimizer.learning_rate
    box = [(-optimizer.bound, optimizer.bound)] * len(start)
    best, lowest, steps = start, np.inf, -1  # SciPy looks at the start first

    def loss(z: Vector) -> float:
        nonlocal best, lowest
        weights = start + rate * z
        found = search.loss(weights)
        if not np.isfinite(found):
            return WORST
        if found < lowest:
            best, lowest = weights, found
        return found

    def step(z: Vector) -> float:
        nonlocal steps
        steps += 1
        if steps > 1 and steps % (2 * len(start)) == 1 and search.epoch < epochs:
            search.reach(best)
        return loss(z)

    def loss_and_gradient(z: Vector) -> tuple[float, Vector]:
        return loss(z), rate * search.gradient()

    def descend(step: object, z: Vector, **_: object) -> OptimizeResult:
        """SciPy's local search, with the gradient; its losses are counted as evaluations, not as steps."""
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
    if search.epoch < epochs:
        search.reach(best)
