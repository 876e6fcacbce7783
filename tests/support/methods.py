"""A table of optimizers and a table of schedules, for all tests that iterate over them."""

from __future__ import annotations

from pipeline.config.optimizer import Optimizer
from tests.support.trained import config

_CASES: dict[str, tuple[str, ...]] = {
    "sgd": ("learning_rate=0.5",),
    "sgd, the last layer at a rate of its own": ("learning_rate=0.5", "output_learning_rate=0.2"),
    "momentum": ("learning_rate=0.1",),
    "nesterov": ("learning_rate=0.1", "momentum=0.8"),
    "adagrad": ("learning_rate=0.3",),
    "adadelta": ("learning_rate=0.7", "epsilon=0.001"),
    "rmsprop": ("learning_rate=0.02",),
    "rmsprop, momentum": ("learning_rate=0.02", "momentum=0.7", "rho=0.8"),
    "adam": ("learning_rate=0.02",),
    "adam, other knobs": ("learning_rate=0.02", "beta_1=0.7", "beta_2=0.95", "epsilon=0.001"),
    "adamw": ("learning_rate=0.02", "weight_decay=0.3"),
    "amsgrad": ("learning_rate=0.02", "beta_2=0.9"),
    "nadam": ("learning_rate=0.02",),
    "lion": ("learning_rate=0.01",),
}
OPTIMIZERS: dict[str, tuple[str, ...]] = {
    case: (f"optimizer={case.partition(',')[0]}", *(f"optimizer.{knob}" for knob in knobs))
    for case, knobs in _CASES.items()
}
"""Overrides by case."""
SCHEDULES: dict[str, tuple[str, ...]] = {
    "step": ("schedule=step",),
    "exponential": ("schedule=exponential",),
    "cosine": ("schedule=cosine", "schedule.warm_up=0.2"),
    "one_cycle": ("schedule=one_cycle",),
    "reduce_on_plateau": ("schedule=reduce_on_plateau", "schedule.patience=2", "schedule.min_delta=0.003"),
}
"""Overrides by name, without `constant`, which every other test uses."""


def optimizer(case: str) -> Optimizer:
    """Return the optimizer section of a case."""
    return config(*OPTIMIZERS[case]).optimizer
