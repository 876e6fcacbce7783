"""What a study's numbers alone do not say: each method's formula, what each feature is, how a rate is suggested.

What has its equation in a docstring is told by the docstring.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

from pipeline.backends.numpy.network import LEAK
from pipeline.backends.numpy.optimizers import OPTIMIZERS
from pipeline.backends.shared import parametrization
from pipeline.config.schema import flatten
from pipeline.diagnosis import range_test
from pipeline.points.point import Point
from pipeline.studies.variants.table import variant_table
from pipeline.studies.variants.variants import knob
from pipeline.system.wording import table

Section = tuple[str, list[str]]
"""A heading, and the lines of Markdown below it."""

METHODS = {name: " ".join((inspect.getdoc(optimizer) or "").split()) for name, optimizer in OPTIMIZERS.items()} | {
    "bfgs": (
        "BFGS (Nocedal and Wright 2006, algorithm 6.1), through SciPy: u = -step * H g, the step from a line search "
        "that keeps to the strong Wolfe conditions. H begins as learning_rate * I; with s the last change of the "
        "weights, y that of g and r = 1 / (y^T s) it becomes (I - r s y^T) H (I - r y s^T) + r s s^T."
    ),
    "lbfgs": (
        "L-BFGS (Nocedal and Wright 2006, algorithms 7.4 and 7.5), through SciPy: as BFGS, with an H that is made at "
        "each step from the last few s and y, beginning with (s^T y) / (y^T y) * I, or, before there are any, with "
        "learning_rate * I."
    ),
    "annealing": (
        "Generalized simulated annealing (Tsallis and Stariolo 1996; Xiang et al. 1997), through SciPy: w = start + "
        "learning_rate * z, and z takes random steps in a box, which shrink as a temperature falls. One to a loss that "
        "is higher by d is kept with probability max(0, 1 - (1 - accept) * d / T)^(1 / (1 - accept)), T the "
        "temperature over the number of the iteration. No gradient."
    ),
    "aw_sgd": (
        "Adaptive weighted SGD (Bouchard, Trouillon, Perez and Gaidon 2016): u = -learning_rate * mean(c_i g_i) over "
        "rows i that are drawn with probability q_i, c_i = 1 / (rows * q_i). q is a softmax of tau, mixed with the "
        "uniform distribution, and tau += sampling_learning_rate * mean(|c_i g_i|^2 * d log q_i / d tau)."
    ),
}
"""Formula and source of each `optimizer.name`."""

FEATURES = {
    "plain": "The network as `conf/model/mlp.yaml` has it, which the others change in one place: one hidden layer of "
    "max(z, 0), biases, initial weights as Glorot and Bengio 2010.",
    "no_bias": "No biases: sums = inputs W.",
    "clip_norm": "The gradient g of all weights together is no longer than clip_norm: g * min(1, clip_norm / |g|) "
    "(Pascanu, Mikolov and Bengio 2013, algorithm 1).",
    "clip_value": "Every component of the gradient is cut to between -clip_value and clip_value: the delta trimming of "
    "one of the texts.",
    "two_hidden_layers": "A second hidden layer, as wide as the first.",
    "l1": "l1 * sum |w| over the weights, not the biases, comes on top of the loss (Tibshirani 1996).",
    "l2": "l2 * sum w^2 over the weights, not the biases, comes on top of the loss (Krogh and Hertz 1992).",
    "dropout": "Every update leaves out a share of the hidden units, by chance and for each row others, and "
    "multiplies the rest by 1 / (1 - share) (Srivastava et al. 2014).",
    "drop_connect": "Every update leaves out a share of the weights, by chance and the same for all its rows, and "
    "multiplies the rest by 1 / (1 - share); tests see all weights (after Wan et al. 2013, who draw for each row).",
    "batch_normalization": "Hidden sums become scale * n + shift, n = (sums - mean) / sqrt(variance + epsilon) over "
    "the batch (Ioffe and Szegedy 2015, algorithm 1).",
    "he": "Initial weights of variance 2 / inputs (He et al. 2015).",
    "lecun": "Initial weights of variance 1 / inputs (LeCun et al. 1998).",
    "uniform": "Initial weights between -1 and 1, whatever the width of the layer, as in the 13-line network.",
    "tanh": "Hidden units tanh(z) (LeCun et al. 1998).",
    "gelu": "Hidden units z * P(z), P(z) the share of the standard normal distribution below z (Hendrycks and Gimpel "
    "2016).",
    "leaky_relu": f"Hidden units z where z is above 0, {LEAK:g} z below, as in Keras (Maas, Hannun and Ng 2013).",
    "softplus": "Hidden units log(1 + exp(z)) (Dugas et al. 2001).",
}
"""What each file in `conf/feature/` changes, and where it is from."""


def range_sections(points: Sequence[Point]) -> list[Section]:
    """How a range test suggests its rate."""
    values = f"Here beta = {range_test.BETA:g}, `GROWN` = {range_test.GROWN:g}."
    return [("How the rate is suggested", [*_after_title(range_test.__doc__), "", values])]


def transfer_sections(points: Sequence[Point]) -> list[Section]:
    """What each parametrization scales."""
    first = points[0].config
    base = f"Here base_width is {first.model.base_hidden_size}, and the optimizer `{first.optimizer.name}`."
    return [("What the parametrizations scale", [*_after_title(parametrization.__doc__), "", base])]


def variant_sections(points: Sequence[Point]) -> list[Section]:
    """Each variant's usable rates, and its formula or what the feature is."""
    key = knob(points)
    sections = [("Usable rates", list(variant_table(points)))]
    if key == "optimizer.name":
        note = (
            "g is the gradient, w the weights, u what is added to them, t the number of the update, counted from 1; "
            "the other long names are knobs, whose values are in `conf/optimizer/`."
        )
        sections.append(("The methods", [note, "", *_told(METHODS, "method", key, points)]))
    if key == "feature":
        note = "z is a hidden unit's sum before the activation. The values of the knobs are in `conf/feature/`."
        sections.append(("The features", [note, "", *_told(FEATURES, "feature", key, points)]))
    return sections


def _told(texts: Mapping[str, str], called: str, key: str, points: Sequence[Point]) -> list[str]:
    """A table of the texts on the variants that a study has, in their order."""
    names = dict.fromkeys(str(dict(flatten(point.config)).get(key)) for point in points)
    return table(
        [[called, "what it does, and its source"], *([f"`{name}`", texts[name]] for name in names if name in texts)]
    )


def _after_title(docstring: str | None) -> list[str]:
    """The lines of a docstring after its first paragraph."""
    return inspect.cleandoc(docstring or "").partition("\n\n")[2].splitlines()
