"""The `model` and `training` sections of the config: what a network is made of, and how it is shown the rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.sections import Fraction, Number, PositiveFloat, PositiveInt, Section

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
    initial_weight: Number
    initial_bias: Number
    batch_normalization: bool
    dropout: Fraction
    drop_connect: Fraction


class Training(Section):
    epochs: PositiveInt
    batch_size: PositiveInt | None
    rows: PositiveInt | None
    l1: NonNegative
    l2: NonNegative
    clip_value: PositiveFloat | None
    clip_norm: PositiveFloat | None
