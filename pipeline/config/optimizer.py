"""The `optimizer` and `schedule` sections of the config: how weights move, and how the rate changes on the way."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.fields import Fraction, Number, PositiveFloat, PositiveInt, Section, Whole

NonNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(gt=0, le=1)]


class Sgd(Section):
    name: Literal["sgd"]
    learning_rate: PositiveFloat
    output_learning_rate: PositiveFloat | None


class Momentum(Section):
    name: Literal["momentum", "nesterov"]
    learning_rate: PositiveFloat
    momentum: Fraction


class AdaGrad(Section):
    name: Literal["adagrad"]
    learning_rate: PositiveFloat
    initial_accumulator_value: NonNegative
    epsilon: PositiveFloat


class AdaDelta(Section):
    name: Literal["adadelta"]
    learning_rate: PositiveFloat
    rho: Fraction
    epsilon: PositiveFloat


class RmsProp(Section):
    name: Literal["rmsprop"]
    learning_rate: PositiveFloat
    rho: Fraction
    momentum: Fraction
    epsilon: PositiveFloat


class Adam(Section):
    name: Literal["adam", "amsgrad", "nadam"]
    learning_rate: PositiveFloat
    beta_1: Fraction
    beta_2: Fraction
    epsilon: PositiveFloat


class AdamW(Section):
    name: Literal["adamw"]
    learning_rate: PositiveFloat
    weight_decay: NonNegative
    beta_1: Fraction
    beta_2: Fraction
    epsilon: PositiveFloat


class Lion(Section):
    name: Literal["lion"]
    learning_rate: PositiveFloat
    beta_1: Annotated[Fraction, Field(gt=0)]
    beta_2: Fraction


class Bfgs(Section):
    name: Literal["bfgs"]
    learning_rate: PositiveFloat
    gradient_tolerance: NonNegative


class LBfgs(Section):
    name: Literal["lbfgs"]
    learning_rate: PositiveFloat
    memory: Annotated[Whole, Field(ge=1, le=1000)]
    gradient_tolerance: NonNegative


class Annealing(Section):
    name: Literal["annealing"]
    learning_rate: PositiveFloat
    bound: Annotated[Number, Field(gt=0, le=1e100)]
    initial_temp: Annotated[Number, Field(gt=0.01, le=50_000)]
    restart_temp_ratio: Annotated[Number, Field(gt=0, lt=1)]
    visit: Annotated[Number, Field(gt=1, le=3)]
    accept: Annotated[Number, Field(gt=-10_000, le=-5)]
    local_search: bool


class AwSgd(Section):
    name: Literal["aw_sgd"]
    learning_rate: PositiveFloat
    sampling_learning_rate: NonNegative
    sampled_by: Literal["row", "target"]
    uniform_share: Share


Optimizer = (
    Sgd | Momentum | AdaGrad | AdaDelta | RmsProp | Adam | AdamW | Lion | Bfgs | LBfgs | Annealing | AwSgd
)  # fmt: skip
"""How weights move; a member by its `name`."""
MINIMIZERS = ("bfgs", "lbfgs")
ALONE = (*MINIMIZERS, "annealing", "aw_sgd")
"""Optimizers whose points have a `train` of their own, and do not share a stack."""


class Constant(Section):
    name: Literal["constant"]


class Step(Section):
    name: Literal["step"]
    every: Share
    factor: Fraction


class Exponential(Section):
    name: Literal["exponential"]
    final: PositiveFloat


class Cosine(Section):
    name: Literal["cosine"]
    warm_up: Fraction
    final: Fraction


class OneCycle(Section):
    name: Literal["one_cycle"]
    rising: Share
    initial: Share
    final: Share


class ReduceOnPlateau(Section):
    name: Literal["reduce_on_plateau"]
    factor: Fraction
    patience: PositiveInt
    min_delta: NonNegative


Schedule = Constant | Step | Exponential | Cosine | OneCycle | ReduceOnPlateau
"""How the rate changes over training; a member by its `name`."""
