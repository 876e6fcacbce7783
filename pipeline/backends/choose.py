"""Which function trains a point."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.backends.contract import Train
from pipeline.config.schema import Config, Kind


def trainer(config: Config) -> Train:
    """What trains a point; only then is its module imported, and with it TensorFlow where Keras trains."""
    return TRAINERS[config.kind](config)


def _of_balls(config: Config) -> Train:
    from pipeline.backends.numpy.curves.descent import train_balls

    return train_balls


def _of_map(config: Config) -> Train:
    from pipeline.backends.numpy.maps.rate_map import train_map

    return train_map


def _of_network(config: Config) -> Train:
    if config.backend.name == "keras":
        from pipeline.backends.keras.training import train as train_keras

        return train_keras
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
    "network": _of_network,
    "range_test": _of_network,
    "map": _of_map,
    "balls": _of_balls,
    "basins": _of_map,
}
