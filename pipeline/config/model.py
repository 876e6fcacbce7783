"""The `model` and `training` sections of the config: the layers of a network, and how it is trained on the rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.fields import Fraction, Number, PositiveFloat, PositiveInt, Section

NonNegative = Annotated[Number, Field(ge=0)]


class Model(Section):
    """A dense network. Without `hidden_size` it has no hidden layer; `further_hidden_sizes` adds more of them."""

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
        """Whether the network has at most one hidden layer, of sigmoids or rectifiers, and no other feature.

        Such networks have their own kernels, in `many_networks.py` and `one_network.py`.
        """
        common = self.hidden_size is None or self.hidden_activation in ("sigmoid", "relu")
        added = self.further_hidden_sizes or self.batch_normalization or self.dropout or self.drop_connect
        return common and not added


class Training(Section):
    """The length of a training and its rows, the penalties on weights, and the clipping of the gradient."""

    epochs: PositiveInt
    batch_size: PositiveInt | None
    rows: PositiveInt | None
    l1: NonNegative
    l2: NonNegative
    clip_value: PositiveFloat | None
    clip_norm: PositiveFloat | None

    @property
    def penalised(self) -> bool:
        """Whether a penalty is added to the loss."""
        return self.l1 > 0 or self.l2 > 0

    @property
    def clipped(self) -> bool:
        """Whether gradient clipping is enabled."""
        return self.clip_value is not None or self.clip_norm is not None


def layer_sizes(model: Model, features: int, outputs: int) -> list[int]:
    """Return the widths from the inputs to the outputs, for instance [784, 1000, 10]."""
    if model.hidden_size is None:
        return [features, outputs]
    return [features, model.hidden_size, *model.further_hidden_sizes, outputs]
