"""The layers of a network as Keras has them, and the one that it has not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import ops

from pipeline.config.schema import Config


class DropConnect(keras.layers.Dense):  # type: ignore[misc]
    """A dense layer whose product in training leaves out some weights, other ones at every update (Wan et al. 2013).

    The others are divided by their share, so that for inference the layer is a dense one with the same weights.

    Args:
        units: as of a dense layer; so are the `options`.
        dropped: share of the weights that are left out.
        seed: of their choice.
    """

    def __init__(self, units: int, dropped: float, seed: int, **options: Any) -> None:
        super().__init__(units, **options)
        self.dropped, self.seed_generator = dropped, keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training:
            return super().call(inputs)
        sums = ops.matmul(inputs, keras.random.dropout(self.kernel, self.dropped, seed=self.seed_generator))
        if self.bias is not None:
            sums = ops.add(sums, self.bias)
        return self.activation(sums)


def build_layers(config: Config, sizes: Sequence[int], last: str, training: bool) -> list[Any]:
    """The layers of a network: of each hidden one sums, batch normalization, activation and dropout, then the outputs.

    Args:
        config: the point's.
        sizes: widths from the inputs to the outputs.
        last: activation of the last layer.
        training: whether the network is to be trained; otherwise it has no penalty and nothing that is left out.
    """
    knobs, penalties, layers = config.model, config.training, list[Any]()
    *hidden, outputs = range(len(sizes) - 1)
    for place, (_, size) in enumerate(pairwise(sizes)):
        normalized = place in hidden and knobs.batch_normalization
        activation = knobs.hidden_activation if place in hidden else last
        options: dict[str, Any] = {
            "activation": None if normalized else activation,
            "use_bias": knobs.bias and not normalized,  # the shift takes its part
            "kernel_initializer": "zeros",
            "dtype": config.dtype,
        }
        if training and penalties.penalised:
            options["kernel_regularizer"] = _penalty(config)
        if training and knobs.drop_connect:
            layers.append(DropConnect(size, knobs.drop_connect, _seed(config.seed, 2 * place + 1), **options))
        else:
            layers.append(keras.layers.Dense(size, **options))
        if normalized:
            layers += [keras.layers.BatchNormalization(dtype=config.dtype), keras.layers.Activation(activation)]
        if training and place != outputs and knobs.dropout:
            layers.append(keras.layers.Dropout(knobs.dropout, seed=_seed(config.seed, 2 * place + 2)))
    return layers


def _penalty(config: Config) -> Any:
    """l1 * sum |w| + l2 * sum w^2, with factors that Keras does not round to float32 where weights are in float64."""
    found = keras.regularizers.L1L2()
    factor = np.dtype(config.dtype).type
    found.l1, found.l2 = factor(config.training.l1), factor(config.training.l2)
    return found


def _seed(seed: int, place: int) -> int:
    """A seed for one layer of a network."""
    return int(np.random.SeedSequence([seed, place]).generate_state(1)[0] >> 1)


def variables(network: keras.Sequential) -> list[Any]:
    """What a network holds, in the order of `initial_weights.array_names`: what is trained, then moving statistics."""
    moving = [variable for layer in network.layers for variable in layer.non_trainable_weights]
    return [*network.trainable_variables, *moving]
