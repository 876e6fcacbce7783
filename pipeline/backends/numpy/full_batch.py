"""Full-batch updates of small networks, many at a time: no loss is checked in between."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.array_modules import to_host
from pipeline.backends.numpy.descent import Descent
from pipeline.backends.numpy.many_networks import GridLast
from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.state import Progress


def unchecked_updates(
    together: GridLast, descent: Descent, progress: Progress, updates: int, signs: NDArray[np.bool_] | None
) -> tuple[Array, NDArray[np.bool_]]:
    """Make updates without checking any loss in between.

    Args:
        together: the networks.
        descent: computes the changes of their weights.
        progress: the weights, which are changed; the number of updates is not.
        updates: the number of updates.
        signs: receives, for each update and component of the change, whether it is above 0.

    Returns:
        The losses of the last update (points,), and whether all losses of a point were finite (points,).
    """
    # Local variables: for small networks the overhead of the loop matters.
    program = together.program
    step = descent.step
    parameters = progress.parameters.flat
    change = descent.change.flat
    zero = progress.parameters.module.zeros((), change.dtype)
    errors = together.errors
    squares = np.empty_like(errors)
    seen = np.zeros_like(errors)
    bounded = together.bounded
    first = progress.updates + 1
    for t in range(first, first + updates):
        for call in program:
            call()
        if not bounded:
            # The sum of all squared errors is finite only if each of them was.
            np.multiply(errors, errors, squares)
            np.add(seen, squares, seen)
        step(t)
        if signs is not None:
            np.greater(change, zero, signs[t - first])
        np.add(parameters, change, parameters)
    losses = to_host(together.losses())
    finite: NDArray[np.bool_] = np.isfinite(losses) & np.isfinite(to_host(seen.sum(axis=(0, 1))))
    return losses, finite
