"""The studies of how the best rate moves, a row each: along which knob, in which groups, and what theory expects.

Rates that were found for one value of a knob are transferred to its other values: from a narrow network to a wide one,
from a shallow one to a deep one, from a small batch to a large one. To add such a study, add a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.config.schema import Config


@dataclass(frozen=True)
class Law:
    """A law that theory expects: the best rate is proportional to the knob to a power.

    Attributes:
        name: its name in sentences.
        power: the exponent.
    """

    name: str
    power: float


@dataclass(frozen=True)
class Transfer:
    """What the best rate is transferred over, and which groups are compared.

    Attributes:
        kind: the name of the kind of study.
        key: the key of the knob.
        value: returns the value of the knob of a point; None: the point has no place on it, and is left out.
        name: the name of the knob in sentences.
        label: what is written before a value of the knob in a figure.
        group_key: the key that makes the groups.
        group: returns the name of the group of a point.
        laws: the powers that theory expects; empty: the best rate should stay constant, and its shift is told.
    """

    kind: str
    key: str
    value: Callable[[Config], int | None]
    name: str
    label: str
    group_key: str
    group: Callable[[Config], str]
    laws: tuple[Law, ...] = ()


def _depth(config: Config) -> int | None:
    """Return the number of hidden layers; None without any."""
    if config.model.hidden_size is None:
        return None
    return 1 + len(config.model.further_hidden_sizes)


def _parametrization(config: Config) -> str:
    return f"{config.dense.parametrization.replace('_', '-')} parametrization"


WIDTHS = Transfer(
    kind="widths",
    key="model.hidden_size",
    value=lambda config: config.model.hidden_size,
    name="hidden size",
    label="hidden",
    group_key="model.parametrization",
    group=_parametrization,
)
DEPTHS = Transfer(
    kind="depths",
    key="model.further_hidden_sizes",
    value=_depth,
    name="depth",
    label="depth",
    group_key="model.parametrization",
    group=_parametrization,
)
BATCHES = Transfer(
    kind="batches",
    key="training.batch_size",
    value=lambda config: config.training.batch_size,
    name="batch size",
    label="batch",
    group_key="optimizer.name",
    group=lambda config: config.optimizer.name,
    laws=(
        # Sources: `powers.py`.
        Law("linear", 1.0),
        Law("square root", 0.5),
    ),
)
ROWS = (WIDTHS, DEPTHS, BATCHES)
