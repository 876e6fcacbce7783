"""BFGS and L-BFGS on the full batch, through SciPy.

Both step along -H g, where g is the gradient, and find the length of the step by a line search with the strong Wolfe
conditions. BFGS (Nocedal and Wright 2006, algorithm 6.1 and equation 6.17) updates H with each step s and the change y
of the gradient along it, H = (I - r s y^T) H (I - r y s^T) + r s s^T with r = 1 / (y^T s). L-BFGS (algorithms 7.4 and
7.5) keeps the last `memory` pairs instead of H, and scales H at each step by s^T y / (y^T y) (equation 7.20).

H starts as learning_rate * I: the first weights that are tried are those of gradient descent at that rate,
start - learning_rate * g(start). SciPy itself starts with a step of length 1 along the gradient. It is therefore given
the loss as a function of v, with w = start + |learning_rate * g(start)| * v.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from pipeline.backends.numpy.methods.search import Search, Vector
from pipeline.backends.numpy.threads import side_by_side
from pipeline.backends.shared.recorder import Recorder, of_one_point
from pipeline.config.optimizer import Bfgs, LBfgs
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays


@of_one_point
def train(config: Config, arrays: Arrays, recorder: Recorder) -> None:
    """Train the network of one point. An epoch is an iteration of SciPy, which is an accepted step.

    If SciPy ends early, the history ends there too, and its table `stopped` has the reason.

    Raises:
        ValueError: the optimizer is neither `bfgs` nor `lbfgs`.
    """
    optimizer = config.optimizer
    if not isinstance(optimizer, Bfgs | LBfgs):
        raise ValueError(f"expected bfgs or lbfgs, received {optimizer.name}")
    with side_by_side(config) as threads, np.errstate(all="ignore"):
        search = Search(config, arrays, recorder, threads)
        search.begin()
        if not search.lost:
            _minimize(search, optimizer, config.training.epochs)
        search.finish()
    (history,) = recorder.histories
    if history.diverged_step is None and history.epochs < config.training.epochs:
        # The reason: a gradient below the tolerance is a minimum; above it, the line search found no lower loss.
        largest = float(np.abs(search.gradient()).max())
        row = {"epoch": float(history.epochs), "loss_evaluations": float(search.evaluations)}
        row |= {"largest_gradient": largest, "gradient_tolerance": optimizer.gradient_tolerance}
        history.tables["stopped"] = [row]


def _minimize(search: Search, optimizer: Bfgs | LBfgs, iterations: int) -> None:
    """Run one iteration of SciPy for each epoch, or fewer if SciPy ends early."""
    _, gradient = search.loss_and_gradient(search.start)
    norm = float(np.linalg.norm(gradient))
    # There is no direction to search in if the gradient is 0, infinite or NaN.
    if not 0 < norm < np.inf:
        return
    start = search.start
    # Limited, so that the scale below neither overflows nor becomes 0.
    length = float(np.clip(optimizer.learning_rate * norm, 1e-150, 1e150))
    # The loss is scaled so that its gradient with respect to v has length 1 at the start.
    scale = 1 / (length * norm)

    def loss_and_gradient(v: Vector) -> tuple[float, Vector]:
        loss, gradient = search.loss_and_gradient(start + length * v)
        return scale * loss, scale * length * gradient

    def reach(intermediate_result: OptimizeResult) -> None:
        search.reach(start + length * intermediate_result.x)

    # The scaled gradient is g / |g(start)|, so the tolerance is divided by |g(start)| too.
    options = {"maxiter": iterations, "gtol": optimizer.gradient_tolerance / norm}
    method = "BFGS"
    if isinstance(optimizer, LBfgs):
        method = "L-BFGS-B"
        # Only the gradient ends the search: neither the number of evaluations nor a small change of the loss.
        options |= {"maxcor": optimizer.memory, "maxfun": np.inf, "ftol": 0.0}
    minimize(loss_and_gradient, np.zeros_like(start), jac=True, method=method, callback=reach, options=options)
