"""Find the cause of a stalled loss: its gradient is lost in rounding, blocked by saturated sigmoids, or flat."""

from __future__ import annotations

import math

import numpy as np

from pipeline.backends.numpy.network import ACTIVATIONS, forward
from pipeline.backends.shared.history import History
from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.data import TableData
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import Config
from pipeline.diagnosis.thresholds import SATURATED
from pipeline.diagnosis.verdicts import Diagnosis


def sensitivity_at_end(history: History, loss: float) -> float:
    """Return d(log loss) / d(log weights) at the last record: gradient norm * weight norm / loss.

    Weights close to 0 do not indicate their scale, so a norm below 1 counts as 1. A metric that was not recorded counts
    as infinite.
    """
    final = history.final()
    gradient = final.get("gradient_norm", math.inf)
    if gradient == 0:
        return 0.0
    if not loss:
        return math.inf
    norm = final.get("weights/norm", math.inf)
    return gradient * max(norm, 1.0) / loss


def final_gradient(history: History) -> float:
    """Return the last norm of the gradient; 0 if none was recorded."""
    return history.final().get("gradient_norm", 0.0)


def stalled(config: Config, history: History, evidence: str, values: dict[str, float]) -> Diagnosis:
    """Diagnose a stalled loss: the gradient is lost in rounding, sigmoids are saturated, or the loss is flat otherwise.

    Args:
        config: config of the point.
        history: history of the point.
        evidence: the first part of the evidence, which names the loss.
        values: numbers of the diagnosis; `saturated` is added if it can be computed.
    """
    gradient = final_gradient(history)
    if gradient == 0:
        evidence += "; the gradient is exactly 0"
    else:
        evidence += f"; the gradient is {gradient:.2g}"
    snapshots = history.snapshots
    last = snapshots.get(max(snapshots, default=0), {})
    rounded = _rounded_away(config, history, last)
    if rounded:
        return Diagnosis("stalled", "rounding", f"{evidence}: {rounded}", values)
    saturated = None
    if last:
        saturated = saturation(config, last)
    if saturated is not None:
        values["saturated"] = saturated
        if saturated >= 0.5:
            why = f"{saturated:.0%} of a layer's sigmoids are saturated on the misclassified rows"
            return Diagnosis("stalled", "saturation", f"{evidence}: {why}", values)
    update_ratio = history.final().get("weights/update_ratio", 0.0)
    return Diagnosis("stalled", "flat", f"{evidence}, the last update is {update_ratio:.2g} of the weights", values)


def _rounded_away(config: Config, history: History, weights: Weights) -> str:
    """Return the evidence that the step of finite differences is lost in rounding; empty if it is not."""
    step = config.finite_difference_step
    # A gradient from backpropagation can be exactly 0 without any rounding.
    if config.gradient != "finite_difference" or final_gradient(history) != 0:
        return ""
    if not any((array + array.dtype.type(step) == array).any() for array in weights.values()):
        return ""
    largest = max(float(np.abs(array).max()) for array in weights.values())
    return f"in {config.dtype} {largest:,.0f} + {step:g} rounds to {largest:,.0f}, so every finite difference is 0"


def saturation(config: Config, weights: Weights) -> float | None:
    """Return the share of saturated sigmoids on the rows that the network misclassifies.

    Each layer is counted separately, and the largest share is returned: one saturated layer blocks the gradient.

    Args:
        config: config of the point.
        weights: weights of the network.

    Returns:
        The share; None if the data is not a table, the model is one of one's own, no row is misclassified or the
        network has no sigmoids.
    """
    if not isinstance(config.data, TableData) or isinstance(config.model, KerasModel):
        return None
    # `forward` computes a stack of networks, here a stack of one.
    stack = {name: np.atleast_2d(array)[None].astype(np.float64) for name, array in weights.items()}
    with np.errstate(over="ignore"):
        *hidden, sums = forward(config.dense, stack, np.array(config.data.inputs))
        outputs = ACTIVATIONS[config.dense.output_activation](sums)[0]
    # On rows with a correct output, saturated sigmoids are the aim of training.
    wrong = (np.abs(outputs - np.array(config.data.targets)) > 0.1).any(axis=1)
    if not wrong.any():
        return None
    layers = []
    if config.dense.hidden_activation == "sigmoid":
        # The first of `hidden` are the inputs.
        layers += [layer[0] for layer in hidden[1:]]
    # The slope of the binary cross-entropy, out - y, does not contain that of the sigmoid.
    if config.dense.output_activation == "sigmoid" and config.loss != "binary_cross_entropy":
        layers.append(outputs)
    shares = [float(np.mean(layer[wrong] * (1 - layer[wrong]) < SATURATED)) for layer in layers]
    return max(shares, default=None)


def stopped(config: Config, history: History) -> str:
    """Name the reason why SciPy stopped before the requested number of epochs."""
    [row] = history.tables["stopped"]
    why = f"in {config.dtype} the line search found no lower loss"
    if row["largest_gradient"] == 0:
        why = "the gradient is 0"
    elif row["largest_gradient"] <= row["gradient_tolerance"]:
        why = "the gradient is within its tolerance"
    return f"it stopped at iteration {history.epochs:,} of {config.training.epochs:,} because {why}"
