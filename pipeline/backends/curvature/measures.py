"""The metrics of curvature: the largest eigenvalues of the Hessian at the weights of a record, and what they allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.curvature.breaking import ADAPTIVE, State, breaking_rate, gradient_factors, rate_factors, unclear
from pipeline.backends.curvature.curved import Curved
from pipeline.backends.curvature.eigenvalues import largest_eigenvalues
from pipeline.config.schema import Config

Numbers = dict[str, NDArray[np.float64]]


def curvature_measures(
    configs: Sequence[Config], hessian: Curved, factors: NDArray[np.floating] | None = None
) -> Numbers:
    """Measure the curvature of a stack, (points,) each.

    - `curvature/largest`, and with `curvature.count` above 1 `curvature/largest_2` and so on: the largest eigenvalues
      of the Hessian;
    - `curvature/preconditioned`: the largest one of the Hessian whose rows are multiplied by the factors;
    - `curvature/breaking_rate`: the rate at which the method breaks at the present weights, see breaking.py; where it
      follows from the curvature, for an adaptive method from its first update on;
    - `curvature/products`: how many products with the Hessian that took.

    Args:
        configs: of the points, which have one method.
        hessian: at their weights.
        factors: what each weight's gradient is multiplied by besides the learning rate, (points, weights); None: 1.
    """
    count = min(configs[0].curvature.count, hessian.shape[1])
    found = largest_eigenvalues(hessian, count)
    decisive = found.values[:, 0]
    products = found.products
    measures: Numbers = {"curvature/largest": decisive}
    for number in range(1, count):
        measures[f"curvature/largest_{number + 1}"] = found.values[:, number]
    if factors is not None:
        preconditioned = largest_eigenvalues(hessian, factors=factors)
        decisive = preconditioned.values[:, 0]
        measures["curvature/preconditioned"] = decisive
        products = products + preconditioned.products
    known = factors is not None or configs[0].optimizer.name not in ADAPTIVE
    if known and not unclear(configs[0]):
        pairs = zip(configs, decisive, strict=True)
        measures["curvature/breaking_rate"] = np.array([breaking_rate(one.optimizer, value) for one, value in pairs])
    measures["curvature/products"] = products.astype(np.float64)
    return measures


def method_factors(
    configs: Sequence[Config], sizes: Mapping[str, int], states: Sequence[State], updates: int
) -> NDArray[np.float64] | None:
    """Return what each weight's gradient is multiplied by besides the learning rate, (points, weights); None: 1.

    Args:
        configs: of the points, which have one method.
        sizes: the number of weights of each array, by name.
        states: of each point the state of its optimizer by name, (weights,) each.
        updates: the number of updates so far. Before the first one the factors of an adaptive method are unknown.
    """
    config = configs[0]
    adaptive = config.optimizer.name in ADAPTIVE
    if adaptive and not updates:
        return None
    scaled = rate_factors(config, sizes)
    if not adaptive:
        if (scaled == 1).all():
            return None
        return np.tile(scaled, (len(configs), 1))
    own = [gradient_factors(one.optimizer, state, updates) for one, state in zip(configs, states, strict=True)]
    return scaled * np.stack(own)
