"""The `optimizer` and `schedule` sections of the config: optimizer settings, and learning-rate schedules."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.fields import Fraction, Number, PositiveFloat, PositiveInt, Section, Whole

NonNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(gt=0, le=1)]


class Sgd(Section):
    """Gradient descent; the last layer may have its own rate."""

    name: Literal["sgd"]
    learning_rate: PositiveFloat
    output_learning_rate: PositiveFloat | None


class Momentum(Section):
    """Gradient descent with momentum, as Polyak or Nesterov define it."""

    name: Literal["momentum", "nesterov"]
    learning_rate: PositiveFloat
    momentum: Fraction


class AdaGrad(Section):
    """AdaGrad, whose steps shrink with the sum of all squared gradients."""

    name: Literal["adagrad"]
    learning_rate: PositiveFloat
    initial_accumulator_value: NonNegative
    epsilon: PositiveFloat


class AdaDelta(Section):
    """AdaDelta, which scales steps by the sizes of earlier steps; its rate is usually 1."""

    name: Literal["adadelta"]
    learning_rate: PositiveFloat
    rho: Fraction
    epsilon: PositiveFloat


class RmsProp(Section):
    """RMSprop; `rho` is the memory of the mean squared gradient."""

    name: Literal["rmsprop"]
    learning_rate: PositiveFloat
    rho: Fraction
    momentum: Fraction
    epsilon: PositiveFloat


class Adam(Section):
    """Adam and its variants AMSGrad and Nadam; `beta_1` and `beta_2` are the memories of the two means."""

    name: Literal["adam", "amsgrad", "nadam"]
    learning_rate: PositiveFloat
    beta_1: Fraction
    beta_2: Fraction
    epsilon: PositiveFloat


class AdamW(Section):
    """Adam with a decay of the weights that is not part of the gradient."""

    name: Literal["adamw"]
    learning_rate: PositiveFloat
    weight_decay: NonNegative
    beta_1: Fraction
    beta_2: Fraction
    epsilon: PositiveFloat


class Lion(Section):
    """Lion, whose steps have the sign of a mean gradient, and the same size for each weight."""

    name: Literal["lion"]
    learning_rate: PositiveFloat
    beta_1: Annotated[Fraction, Field(gt=0)]
    beta_2: Fraction


class Bfgs(Section):
    """BFGS, which stops when no component of the gradient is larger than `gradient_tolerance`."""

    name: Literal["bfgs"]
    learning_rate: PositiveFloat
    gradient_tolerance: NonNegative


class LBfgs(Section):
    """L-BFGS; `memory` is the number of earlier steps that it uses."""

    name: Literal["lbfgs"]
    learning_rate: PositiveFloat
    memory: Annotated[Whole, Field(ge=1, le=1000)]
    gradient_tolerance: NonNegative


class Annealing(Section):
    """Generalized simulated annealing in a box of half-width `bound`; `local_search` adds L-BFGS-B."""

    name: Literal["annealing"]
    learning_rate: PositiveFloat
    bound: Annotated[Number, Field(gt=0, le=1e100)]
    # The next four have the limits of SciPy's `dual_annealing`.
    initial_temp: Annotated[Number, Field(gt=0.01, le=50_000)]
    restart_temp_ratio: Annotated[Number, Field(gt=0, lt=1)]
    visit: Annotated[Number, Field(gt=1, le=3)]
    accept: Annotated[Number, Field(gt=-10_000, le=-5)]
    local_search: bool


class AwSgd(Section):
    """Adaptive weighted SGD, which learns the distribution that it draws rows or targets from."""

    name: Literal["aw_sgd"]
    learning_rate: PositiveFloat
    sampling_learning_rate: NonNegative
    sampled_by: Literal["row", "target"]
    uniform_share: Share


# Pydantic chooses a member by its `name`.
Optimizer = (
    Sgd | Momentum | AdaGrad | AdaDelta | RmsProp | Adam | AdamW | Lion | Bfgs | LBfgs | Annealing | AwSgd
)  # fmt: skip
MINIMIZERS = ("bfgs", "lbfgs")
# Optimizers that search with the losses of one network, whose points are trained one at a time.
SEARCHES = (*MINIMIZERS, "annealing")
# Optimizers with their own `train` function, which know neither schedules nor the features of other networks.
OWN_TRAINING = (*SEARCHES, "aw_sgd")


class Constant(Section):
    """The same rate at every update."""

    name: Literal["constant"]


class Step(Section):
    """The rate is multiplied by `factor` after each `every` share of the updates."""

    name: Literal["step"]
    every: Share
    factor: Fraction


class Exponential(Section):
    """A rate that changes by the same factor at each update, to `final` times its value."""

    name: Literal["exponential"]
    final: PositiveFloat


class Cosine(Section):
    """A linear warm-up over a share of the updates, then a fall along half a cosine to `final` times the rate."""

    name: Literal["cosine"]
    warm_up: Fraction
    final: Fraction


class OneCycle(Section):
    """A rise from `initial` times the rate over a share of the updates, then a fall to `final` times the rate."""

    name: Literal["one_cycle"]
    rising: Share
    initial: Share
    final: Share


class ReduceOnPlateau(Section):
    """The rate is multiplied by `factor` after `patience` epochs without a loss lower by `min_delta`."""

    name: Literal["reduce_on_plateau"]
    factor: Fraction
    patience: PositiveInt
    min_delta: NonNegative


# Pydantic chooses a member by its `name`.
Schedule = Constant | Step | Exponential | Cosine | OneCycle | ReduceOnPlateau
