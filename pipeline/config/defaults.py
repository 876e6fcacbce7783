"""The keys whose value `auto` stands for what fits the data: the loss, and the activation of the last layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config.data import LIBRARY_TASKS
from pipeline.config.own_model import TARGET

# By task, and for data without one by its kind. A table of numbers can be anything; its studies name their loss.
LOSSES = {
    "classification": "cross_entropy",
    "binary": "binary_cross_entropy",
    "regression": "mean_squared_error",
    "idx": "cross_entropy",
    "table": "mean_squared_error",
    "curve": "curve_height",
}
# Losses that take sums and are defined on the activation's values; all others leave the sums as they are.
ACTIVATIONS = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}


def resolved(composed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a composed config with a loss and an output activation in the place of `auto`.

    A point is therefore the same, whether its loss was typed or found. What is missing or invalid stays as it is: the
    sections report it.
    """
    result = dict(composed)
    if result.get("loss") == "auto":
        loss = LOSSES.get(_task(result.get("data")))
        if loss is not None:
            result["loss"] = loss
    model = result.get("model")
    # In a model of one's own, a key of this name is a knob of its function.
    if not isinstance(model, Mapping) or TARGET in model:
        return result
    if model.get("output_activation") == "auto" and result.get("loss") != "auto":
        activation = ACTIVATIONS.get(str(result.get("loss")), "identity")
        result["model"] = {**model, "output_activation": activation}
    return result


def _task(data: object) -> str:
    """Return the task of composed data, or its kind if it has no task."""
    if not isinstance(data, Mapping):
        return ""
    if data.get("kind") == "library":
        return LIBRARY_TASKS.get(str(data.get("source")), "")
    if data.get("kind") == "images":
        return str(data.get("task", "classification"))
    return str(data.get("task", data.get("kind")))
