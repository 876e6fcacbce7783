"""Choose the function that trains a point."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.backends.contract import Train
from pipeline.config.schema import Config, Kind
from pipeline.system.engines import use_threads


def trainer(config: Config) -> Train:
    """Return the function that trains a point, and import its module.

    Example:
        >>> train = trainer(config)
        >>> train([config], arrays, [history], report)
    """
    return TRAINERS[config.kind](config)


# Each function below imports its module only when it is called: TensorFlow takes seconds to load and SciPy most of a
# second, and a command that uses neither should not wait for them.


def _of_balls(config: Config) -> Train:
    from pipeline.backends.numpy.curves.descent import train_balls

    return train_balls


def _of_map(config: Config) -> Train:
    from pipeline.backends.numpy.maps.rate_map import train_map

    return train_map


def _of_network(config: Config) -> Train:
    if config.backend.name == "keras":
        # One thread if none are asked for: on Keras their number changes the last bits.
        use_threads(config.threads or 1)
        from pipeline.backends.keras.training import train as train_keras

        return train_keras
    # The methods below choose their own steps or rows, so they cannot share a stack with the other optimizers.
    if config.optimizer.name in ("bfgs", "lbfgs"):
        from pipeline.backends.numpy.methods.minimizers import train as train_minimizer

        return train_minimizer
    if config.optimizer.name == "annealing":
        from pipeline.backends.numpy.methods.annealing import train as train_annealing

        return train_annealing
    if config.optimizer.name == "aw_sgd":
        from pipeline.backends.numpy.methods.aw_sgd import train as train_aw_sgd

        return train_aw_sgd
    from pipeline.backends.numpy.training import train

    return train


TRAINERS: dict[Kind, Callable[[Config], Train]] = {
    # A range test is a network whose rate rises during training; only its diagnosis differs.
    "network": _of_network,
    "range_test": _of_network,
    # Basins are a map whose points are balls.
    "map": _of_map,
    "basins": _of_map,
    "balls": _of_balls,
}
