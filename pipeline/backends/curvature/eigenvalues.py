"""The largest eigenvalues of the Hessian, from its products with vectors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.curvature.curved import Curved

# Networks of at most this many weights get the whole Hessian, all points of the stack at once; of larger ones Lanczos
# finds the largest eigenvalues with fewer products.
WHOLE = 64
# Lanczos stops when the relative error of an eigenvalue is below this.
TOLERANCE = 1e-6
# It gives up after this many restarts of about 20 products.
RESTARTS = 100


class Curvature(NamedTuple):
    """The largest eigenvalues of each point's Hessian.

    Attributes:
        values: (grid, count), the largest first; NaN for a point whose Hessian is not finite.
        products: the number of products with a vector that each point took, (grid,).
    """

    values: NDArray[np.float64]
    products: NDArray[np.int64]


def largest_eigenvalues(
    hessian: Curved, count: int = 1, factors: NDArray[np.floating] | None = None, tolerance: float = TOLERANCE
) -> Curvature:
    """Compute the largest eigenvalues of the Hessians of a stack, in the sense of most positive.

    With factors d, one for each weight, they are those of diag(d) H, which are real: it has the same eigenvalues as the
    symmetric diag(sqrt(d)) H diag(sqrt(d)).

    Args:
        hessian: of the stack.
        count: the number of eigenvalues, at most that of the weights.
        factors: (grid, weights), not negative; None: 1.
        tolerance: the relative error at which Lanczos stops; of no account where the whole Hessian is computed.
    """
    grid, weights = hessian.shape
    roots = np.ones((grid, weights))
    if factors is not None:
        roots = np.sqrt(factors)
    if weights <= max(WHOLE, count + 1):
        return _of_whole(hessian, count, roots)
    values = np.full((grid, count), np.nan)
    products = np.zeros(grid, np.int64)
    for index in range(grid):
        values[index], products[index] = _lanczos(hessian.point(index), count, roots[index], tolerance)
    return Curvature(values, products)


def _of_whole(hessian: Curved, count: int, roots: NDArray[np.float64]) -> Curvature:
    """Compute the whole Hessian column by column, for all points at once."""
    grid, weights = hessian.shape
    columns = np.empty((grid, weights, weights))
    for column in range(weights):
        direction = np.zeros((grid, weights))
        direction[:, column] = roots[:, column]
        columns[:, :, column] = roots * (hessian @ direction)
    values = np.full((grid, count), np.nan)
    finite = np.isfinite(columns).all(axis=(1, 2))
    # Rounding makes it asymmetric in the last bits, of which `eigvalsh` would read only one side.
    symmetric = (columns + columns.swapaxes(1, 2))[finite] / 2
    values[finite] = np.linalg.eigvalsh(symmetric)[:, ::-1][:, :count]
    return Curvature(values, np.full(grid, weights))


def _lanczos(
    hessian: Curved, count: int, roots: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.float64], int]:
    """Compute the largest eigenvalues of one point by ARPACK's implicitly restarted Lanczos method."""
    # Imported here because SciPy takes long to import, and only curvature uses this part of it.
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    weights = hessian.shape[1]
    products = 0

    def multiply(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal products
        products += 1
        result: NDArray[np.float64] = roots * (hessian @ (roots * vector.ravel())[None])[0]
        return result

    # The same start each time: the result has the same bits. A random one contains every eigenvector.
    start = np.random.default_rng(0).standard_normal(weights)
    first = multiply(start)
    if not np.isfinite(first).all():
        return np.full(count, np.nan), products
    if not first.any():
        return np.zeros(count), products
    operator = LinearOperator((weights, weights), matvec=multiply, dtype=np.float64)
    try:
        found = eigsh(operator, count, which="LA", v0=start, maxiter=RESTARTS, tol=tolerance, return_eigenvectors=False)
    except ArpackError:
        # Products that overflow, near the end of a training that diverges; or eigenvalues too close to each other.
        return np.full(count, np.nan), products
    return np.sort(found)[::-1], products
