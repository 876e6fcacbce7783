"""Background text for the report: methods, features, range tests, parametrizations and powers.

If a docstring already has the equations, its text is used.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

from pipeline.backends.numpy.network import LEAK
from pipeline.backends.numpy.optimizers.by_name import OPTIMIZERS
from pipeline.backends.shared import parametrization
from pipeline.config.schema import flatten
from pipeline.diagnosis import range_test
from pipeline.points.point import Point
from pipeline.studies import range_tests
from pipeline.studies.transfer import powers
from pipeline.studies.transfer.rows import DEPTHS, Transfer
from pipeline.studies.transfer.sentences import step_table
from pipeline.studies.variants.table import variant_table
from pipeline.studies.variants.variants import TARGET, knob
from pipeline.studies.warm_ups import warm_ups
from pipeline.studies.warm_ups.sentences import warm_up_table, what_trains
from pipeline.system.wording import table

# A heading with the lines of Markdown below it.
Section = tuple[str, list[str]]

# Formula and source of each `optimizer.name`. For methods that turn a gradient into an update (OPTIMIZERS), they are in
# the docstrings of the classes. The other methods have training loops of their own.
METHODS = {name: " ".join((inspect.getdoc(optimizer) or "").split()) for name, optimizer in OPTIMIZERS.items()} | {
    "bfgs": (
        "BFGS (Nocedal and Wright 2006, algorithm 6.1), through SciPy: u = -step * H g, where a line search finds a "
        "step that satisfies the strong Wolfe conditions. H begins as learning_rate * I. With s the last change of the "
        "weights, y the last change of g and r = 1 / (y^T s), it becomes (I - r s y^T) H (I - r y s^T) + r s s^T."
    ),
    "lbfgs": (
        "L-BFGS (Nocedal and Wright 2006, algorithms 7.4 and 7.5), through SciPy: like BFGS, but at each step H is "
        "rebuilt from the last few s and y, starting from (s^T y) / (y^T y) * I, or from learning_rate * I if there "
        "are none yet."
    ),
    "annealing": (
        "Generalized simulated annealing (Tsallis and Stariolo 1996; Xiang et al. 1997), through SciPy: w = start + "
        "learning_rate * z, where z makes random steps in a box, which shrink as a temperature falls. A step that "
        "raises the loss by d is accepted with probability max(0, 1 - (1 - accept) * d / T)^(1 / (1 - accept)), where "
        "T is the temperature divided by the iteration number. No gradient is used."
    ),
    "aw_sgd": (
        "Adaptive weighted SGD (Bouchard, Trouillon, Perez and Gaidon 2016): u = -learning_rate * mean(c_i g_i) over "
        "rows i that are drawn with probability q_i, c_i = 1 / (rows * q_i). q is a softmax of tau, mixed with the "
        "uniform distribution, and tau += sampling_learning_rate * mean(|c_i g_i|^2 * d log q_i / d tau)."
    ),
}

# What each file in `conf/feature/` changes, and its source.
FEATURES = {
    "plain": "The network of `conf/model/mlp.yaml`, which each of the others changes in one way: one hidden layer of "
    "max(z, 0), biases, initial weights as in Glorot and Bengio 2010.",
    "no_bias": "No biases: sums = inputs W.",
    "clip_norm": "The norm of the gradient g of all weights together is limited to clip_norm: "
    "g * min(1, clip_norm / |g|) (Pascanu, Mikolov and Bengio 2013, algorithm 1).",
    "clip_value": "Every component of the gradient is limited to the range -clip_value to clip_value; one of the "
    "source texts calls it delta trimming.",
    "two_hidden_layers": "A second hidden layer, as wide as the first.",
    "l1": "l1 * sum |w| over the weights, not the biases, is added to the loss (Tibshirani 1996).",
    "l2": "l2 * sum w^2 over the weights, not the biases, is added to the loss (Krogh and Hertz 1992).",
    "dropout": "Each update drops a random share of the hidden units, chosen separately for each row, and scales the "
    "rest by 1 / (1 - share) (Srivastava et al. 2014).",
    "drop_connect": "Each update drops a random share of the weights, the same for all its rows, and scales the rest "
    "by 1 / (1 - share); evaluation uses all weights (after Wan et al. 2013, who choose separately for each row).",
    "batch_normalization": "Hidden sums become scale * n + shift, n = (sums - mean) / sqrt(variance + epsilon) over "
    "the batch (Ioffe and Szegedy 2015, algorithm 1).",
    "he": "Initial weights of variance 2 / inputs (He et al. 2015).",
    "lecun": "Initial weights of variance 1 / inputs (LeCun et al. 1998).",
    "uniform": "Initial weights between -1 and 1, regardless of layer width, as in the 13-line network.",
    "tanh": "Hidden units tanh(z) (LeCun et al. 1998).",
    "gelu": "Hidden units z * P(z), where P(z) is the probability that a standard normal number is below z (Hendrycks "
    "and Gimpel 2016).",
    "leaky_relu": f"Hidden units z if z is above 0, otherwise {LEAK:g} z, as in Keras (Maas, Hannun and Ng 2013).",
    "softplus": "Hidden units log(1 + exp(z)) (Dugas et al. 2001).",
}


def range_sections(points: Sequence[Point]) -> list[Section]:
    """Return all suggested rates if there are several, and how the rate of one seed and of several is suggested."""
    values = (
        f"Here beta = {range_test.BETA:g}, `GROWN` = {range_test.GROWN:g}, `CERTAIN` = {range_test.CERTAIN:g}, "
        f"`FLAT` = {range_test.FLAT:g}."
    )
    # Only the first few sentences are at the top of the page (`kinds.answers`).
    suggested: list[Section] = []
    if len(range_tests.seed_tests(points)) > 1:
        sentences = [f"- {sentence}" for sentence in range_tests.range_sentences(points)]
        suggested.append(("All suggested rates", sentences))
    return [
        *suggested,
        ("How the rate is suggested", [*_after_title(range_test.__doc__), "", values]),
        ("The rate of several seeds", _after_title(range_tests.__doc__)),
    ]


def transfer_sections(row: Transfer, points: Sequence[Point]) -> list[Section]:
    """Return how the power is found and what theory says of it, or the scaling in each parametrization."""
    if row.laws:
        steps = step_table(row, points)
        return [
            (f"The power from each {row.name} to the next", steps),
            ("How the power is found", _after_title(powers.__doc__)),
        ]
    first = points[0].config
    base = f"Here base_width is {first.dense.base_hidden_size}, and the optimizer `{first.optimizer.name}`."
    if row is DEPTHS:
        base += " Nothing in this table depends on the depth: it promises no constant rate along that."
    return [("What the parametrizations scale", [*_after_title(parametrization.__doc__), "", base])]


def warm_up_sections(points: Sequence[Point]) -> list[Section]:
    """Return a table of all warm-ups, and what they are for."""
    lines = [what_trains(points), "", *warm_up_table(points)]
    text = [*_after_title(warm_ups.__doc__), "", f"Here `TARGET` = {TARGET:g}."]
    return [("All warm-ups", lines), ("What a warm-up does", text)]


def variant_sections(points: Sequence[Point]) -> list[Section]:
    """Return the usable rates of each variant, with the formula of each method or the description of each feature."""
    key = knob(points)
    sections = [("Usable rates", list(variant_table(points)))]
    if key == "optimizer.name":
        note = (
            "g is the gradient, w the weights, u the update added to them, t the 1-based update number; the remaining "
            "long names are settings, whose values are in `conf/optimizer/`."
        )
        sections.append(("The methods", [note, "", *_explained(METHODS, "method", key, points)]))
    if key == "feature":
        note = "z is the sum of a hidden unit before the activation. The values of the settings are in `conf/feature/`."
        sections.append(("The features", [note, "", *_explained(FEATURES, "feature", key, points)]))
    return sections


def _explained(texts: Mapping[str, str], called: str, key: str, points: Sequence[Point]) -> list[str]:
    """Return a table that describes the variants of a study, in their order.

    Features and methods that a user has added have no description and are skipped.
    """
    names = dict.fromkeys(str(dict(flatten(point.config)).get(key)) for point in points)
    return table([[called, "description and source"], *([f"`{name}`", texts[name]] for name in names if name in texts)])


def _after_title(docstring: str | None) -> list[str]:
    """Return the lines of a docstring after its first paragraph."""
    return inspect.cleandoc(docstring or "").partition("\n\n")[2].splitlines()
