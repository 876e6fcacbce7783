"""BFGS and L-BFGS on the full batch, through SciPy.

Both step along -H g, g the gradient, and find the length of the step by a line search that keeps to the strong Wolfe
conditions. BFGS (Nocedal and Wright 2006, algorithm 6.1 and equation 6.17) learns H from each step s and the change y
of the gradient on it, H = (I - r s y^T) H (I - r y s^T) + r s s^T with r = 1 / (y^T s); L-BFGS (algorithms 7.4 and 7.5)
keeps the last `memory` pairs in its place, and scales H anew at each step by s^T y / (y^T y) (equation 7.20).

The learning rate is where H begins, learning_rate * I: the first weights that are tried are those of descent at that
rate, start - learning_rate * g(start). SciPy begins with a step of length 1 along the gradient, so it is given the loss
as a function of v, with w = start + |learning_rate * g(start)| * v.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from pipeline.backends.numpy.methods.search import Search, Vector
from pipeline.backends.shared.recorder import Recorder, of_one_point
from pipeline.config.optimizer import Bfgs, LBfgs
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays


@of_one_point
def train(config: Config, arrays: Arrays, recorder: Recorder) -> None:
    """Train the network of one point; an epoch is an iteration of SciPy's, a step that was accepted.

    Where SciPy ends early the history does, and its table `stopped` says why.

    Raises:
        ValueError: the optimizer is neither `bfgs` nor `lbfgs`.
    """
    optimizer = config.optimizer
    if not isinstance(optimizer, Bfgs | LBfgs):
        raise ValueError(f"expected bfgs or lbfgs, received {optimizer.name}")
    search = Search(config, arrays, recorder)
    with np.errstate(all="ignore"):
        search.begin()
        if not search.lost:
            _minimize(search, optimizer, config.training.epochs)
        search.finish()
    (history,) = recorder.histories
    if history.diverged_step is None and history.epochs < config.training.epochs:
        largest = float(np.abs(search.gradient()).max())
        row = {"epoch": float(history.epochs), "loss_evaluations": float(search.evaluations)}
        row |= {"largest_gradient": largest, "gradient_tolerance": optimizer.gradient_tolerance}
        history.tables["stopped"] = [row]


def _minimize(search: Search, optimizer: Bfgs | LBfgs, iterations: int) -> None:
    """SciPy's iterations, as many as there are epochs or until it ends."""
    search.loss(search.start)
    norm = float(np.linalg.norm(search.gradient()))
    if not 0 < norm < np.inf:
        return
    start = search.start
    length = float(np.clip(optimizer.learning_rate * norm, 1e-150, 1e150))
    scale = 1 / (length * norm)  # of the loss, so that its gradient by v has length 1 at the start

    def loss_and_gradient(v: Vector) -> tuple[float, Vector]:
        loss = search.loss(start + length * v)
        return scale * loss, scale * length * search.gradient()

    def reach(intermediate_result: OptimizeResult) -> None:
        search.reach(start + length * intermediate_result.x)

    options = {"maxiter": iterations, "gtol": optimizer.gradient_tolerance / norm}
    method = "BFGS"
    if isinstance(optimizer, LBfgs):
        method = "L-BFGS-B"
        options |= {"maxcor": optimizer.memory, "maxfun": np.inf, "ftol": 0.0}
    minimize(loss_and_gradient, np.zeros_like(start), jac=True, method=method, callback=reach, options=options)
