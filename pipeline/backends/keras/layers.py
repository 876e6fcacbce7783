"""The layers of a network in Keras, and DropConnect, which Keras does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from pipeline.config.schema import Config


class DropConnect(keras.layers.Dense):  # type: ignore[misc]
    """A dense layer that drops random weights in training, redrawn at every update (Wan et al. 2013).

    The remaining weights are divided by the share that remains, so in inference the layer is a dense layer with the
    same weights.

    Args:
        units: width of the layer.
        dropped: share of the weights that is dropped.
        seed: seed of the random draws.
        options: passed on to the dense layer.
    """

    def __init__(self, units: int, dropped: float, seed: int, **options: Any) -> None:
        super().__init__(units, **options)
        self.dropped = dropped
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the outputs (rows, units); weights are dropped only in training."""
        if not training:
            return super().call(inputs)
        # One mask for the whole batch: dropping weights for each row would need a kernel for each row.
        sums = ops.matmul(
            inputs, keras.random.dropout(ops.convert_to_tensor(self.kernel), self.dropped, seed=self.seed_generator)
        )
        if self.bias is not None:
            sums = ops.add(sums, self.bias)
        return self.activation(sums)


def build_layers(config: Config, sizes: Sequence[int], last: str, training: bool) -> list[Any]:
    """Build the layers of a network: each hidden layer with its normalization and dropout, then the output layer.

    Args:
        config: config of the point.
        sizes: widths from the inputs to the outputs.
        last: activation of the last layer.
        training: whether the network will be trained; otherwise it has no penalty, dropout or DropConnect.
    """
    knobs = config.dense
    layers: list[Any] = []
    widths = sizes[1:]
    activations = [*(knobs.hidden_activation for _ in widths[1:]), last]
    for index, (width, activation) in enumerate(zip(widths, activations, strict=True)):
        hidden = index < len(widths) - 1
        normalized = hidden and knobs.batch_normalization
        options: dict[str, Any] = {
            "activation": activation,
            "use_bias": knobs.bias,
            # `building.build` assigns the weights that both backends share.
            "kernel_initializer": "zeros",
            "dtype": config.dtype,
        }
        if normalized:
            # The activation follows the normalization, whose shift replaces the bias.
            options |= {"activation": None, "use_bias": False}
        if training and config.training.penalised:
            options["kernel_regularizer"] = _penalty(config)
        # Odd numbers seed DropConnect, even ones dropout, so no two layers share a random stream.
        if training and knobs.drop_connect:
            layers.append(DropConnect(width, knobs.drop_connect, _seed(config.seed, 2 * index + 1), **options))
        else:
            layers.append(keras.layers.Dense(width, **options))
        if normalized:
            layers += [keras.layers.BatchNormalization(dtype=config.dtype), keras.layers.Activation(activation)]
        if training and hidden and knobs.dropout:
            layers.append(keras.layers.Dropout(knobs.dropout, seed=_seed(config.seed, 2 * index + 2)))
    return layers


def _penalty(config: Config) -> Any:
    """Return the regularizer l1 * sum |w| + l2 * sum w^2."""
    regularizer = keras.regularizers.L1L2()
    # The constructor converts to Python floats, which Keras rounds to float32 even for float64 weights. NumPy numbers,
    # assigned afterwards, keep their precision.
    factor = np.dtype(config.dtype).type
    regularizer.l1 = factor(config.training.l1)
    regularizer.l2 = factor(config.training.l2)
    return regularizer


def _seed(seed: int, stream: int) -> int:
    """Derive the seed of one layer's random choices from the seed of the run."""
    # Keras accepts seeds of 31 bits: the shift drops the lowest of 32.
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0] >> 1)


def variables(network: keras.Sequential) -> list[Any]:
    """Return a network's variables in the order of `initial_weights.array_names`: trained, then moving statistics."""
    moving = [variable for layer in network.layers for variable in layer.non_trainable_weights]
    return [*network.trainable_variables, *moving]
