"""The `model` and `training` sections of the config: what a network is made of, and how it is shown the rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.fields import Fraction, Number, PositiveFloat, PositiveInt, Section

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

        Such networks have kernels of their own, `many_networks.py` and `one_network.py`.
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


def layer_sizes(model: Model, features: int, outputs: int) -> list[int]:
    """Widths from the inputs to the outputs, for instance [784, 1000, 10]."""
    hidden = [] if model.hidden_size is None else [model.hidden_size, *model.further_hidden_sizes]
    return [features, *hidden, outputs]
