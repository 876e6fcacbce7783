"""A convolutional network for images. Copy this file to make a model of your own: docs/your-own.md."""

from __future__ import annotations

import keras


def build(
    input_shape: tuple[int, ...], outputs: int, filters: int = 8, kernel_size: int = 3, dropout: float = 0.0
) -> keras.Model:
    """Return a network from images (height, width, channels) to sums (outputs,): the loss takes sums."""
    images = keras.Input(input_shape)
    values = keras.layers.Conv2D(filters, kernel_size, padding="same", activation="relu")(images)
    values = keras.layers.MaxPooling2D(2)(values)
    values = keras.layers.Conv2D(2 * filters, kernel_size, padding="same", activation="relu")(values)
    values = keras.layers.GlobalAveragePooling2D()(values)
    values = keras.layers.Dropout(dropout)(values)
    return keras.Model(images, keras.layers.Dense(outputs)(values))
