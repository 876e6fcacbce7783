"""The optimizers by their names in the config."""

from __future__ import annotations

from pipeline.backends.numpy.optimizers.adaptive import AdaDelta, AdaGrad, Adam, AdamW, AmsGrad, Nadam, RmsProp
from pipeline.backends.numpy.optimizers.momentum import Lion, Momentum, Nesterov, Sgd
from pipeline.backends.numpy.optimizers.optimizer import Optimizer

# The class of each `optimizer.name`.
OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": Sgd,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": AdaGrad,
    "adadelta": AdaDelta,
    "rmsprop": RmsProp,
    "adam": Adam,
    "adamw": AdamW,
    "amsgrad": AmsGrad,
    "nadam": Nadam,
    "lion": Lion,
}
