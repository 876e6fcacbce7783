"""The `model` and `training` sections of the config: what a network is made of, and how it is shown the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.config.fields import Fraction, Number, PositiveFloat, PositiveInt, Section

if TYPE_CHECKING:
    from pipeline.config.schema import Config

NonNegative = Annotated[Number, Field(ge=0)]


class Model(Section):
    """A dense network; `hidden_size` null leaves the hidden layers out, `further_hidden_sizes` adds more of them."""

    hidden_size: PositiveInt | None
    further_hidden_sizes: tuple[PositiveInt, ...]
    hidden_activation: Literal["sigmoid", "relu", "tanh", "gelu", "leaky_relu", "softplus"]
    output_activation: Literal["identity", "sigmoid", "softmax"]
    bias: bool
    initializer: Literal[
        "constant",
        "uniform",
        "glorot_uniform",
        "glorot_normal",
        "he_uniform",
        "he_normal",
        "lecun_uniform",
        "lecun_normal",
    ]
    parametrization: Literal["standard", "maximal_update"]
    base_hidden_size: PositiveInt
    initial_weight: Number
    initial_bias: Number
    batch_normalization: bool
    dropout: Fraction
    drop_connect: Fraction

    @property
    def plain(self) -> bool:
        """Whether there is at most one hidden layer, of sigmoids or rectifiers, with nothing added to it.

        Such networks have a faster way, `grid_last.py`, and in `one_network.py` fewer passes over memory.
        """
        common = self.hidden_size is None or self.hidden_activation in ("sigmoid", "relu")
        added = self.further_hidden_sizes or self.batch_normalization or self.dropout or self.drop_connect
        return common and not added


class Training(Section):
    epochs: PositiveInt
    batch_size: PositiveInt | None
    rows: PositiveInt | None
    l1: NonNegative
    l2: NonNegative
    clip_value: PositiveFloat | None
    clip_norm: PositiveFloat | None

    @property
    def penalised(self) -> bool:
        """Whether something is added to the loss."""
        return self.l1 > 0 or self.l2 > 0

    @property
    def clipped(self) -> bool:
        """Whether the gradient is cut before it moves the weights."""
        return self.clip_value is not None or self.clip_norm is not None


def check_features(config: Config) -> None:
    """Refuse features of a network that nothing would read, and those that forward differences cannot be of.

    Raises:
        ValueError: naming the key, what it must be and what it was.
    """
    model, nothing = config.model, {"further_hidden_sizes": [], "batch_normalization": False, "dropout": 0.0}
    for name, fix in nothing.items() if model.hidden_size is None else ():
        value = getattr(model, name)
        if value:
            raise ValueError(
                f"model.{name}: there is no hidden layer (model.hidden_size=null) that it could be of; "
                f"use model.{name}={str(fix).lower()}, or give model.hidden_size; received {value}"
            )
    if model.parametrization == "maximal_update":
        _check_maximal_update(config)
    for name in ("batch_normalization", "dropout", "drop_connect") if config.gradient == "finite_difference" else ():
        if getattr(model, name):
            raise ValueError(
                f"model.{name}: forward differences compare losses of one network, and this is another one in "
                f"training; use gradient=backpropagation; received {getattr(model, name)}"
            )


def _check_maximal_update(config: Config) -> None:
    model, says = config.model, "model.parametrization: maximal_update"
    if model.hidden_size is None:
        raise ValueError(f"{says} goes by the width of hidden layers; give model.hidden_size, received null")
    if not model.initializer.startswith(("he_", "lecun_")):
        raise ValueError(
            f"{says} needs weights whose variance goes by the inputs of a layer alone; "
            f"use model.initializer=lecun_normal, or he_normal, received {model.initializer}"
        )
    if set(model.further_hidden_sizes) - {model.hidden_size}:
        raise ValueError(
            f"{says} is of hidden layers of one width; received model.hidden_size={model.hidden_size} and "
            f"model.further_hidden_sizes={list(model.further_hidden_sizes)}"
        )
    if config.optimizer.name in ("bfgs", "lbfgs", "annealing"):
        raise ValueError(
            f"{says} says by how much each layer's rate differs, and {config.optimizer.name} has one step for all; "
            "use model.parametrization=standard"
        )
    if getattr(config.optimizer, "output_learning_rate", None) is not None:
        raise ValueError(f"{says} sets the last layer's rate; use optimizer.output_learning_rate=null")
