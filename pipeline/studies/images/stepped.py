"""Images of a point at some epochs, which MLflow shows side by side for several runs with a slider over the epochs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.drawing.pixels import MARGIN, TEXT, WIDTH, font, write
from pipeline.studies.images.data import image_steps
from pipeline.studies.kinds import kind_of

if TYPE_CHECKING:
    from PIL.Image import Image

CAPTION = (21, 18, 15)
"""Sizes of a caption, pixels: the first in which it fits."""


def image_keys(config: Config) -> list[str]:
    """Under which keys a point has images, in the order of what they tell; a map has the figure of its training."""
    kind = kind_of(config)
    return [kind.figure] if kind.figure else list(kind.images(config))


def stepped_images(config: Config, history: History) -> Iterator[tuple[str, int, Image]]:
    """The images of one point: key, step, image.

    The steps are `image_data.image_steps`: the same for all points that record alike. A map, which keeps no weights,
    has none here.
    """
    shown = image_steps(config, history)
    epochs = list(dict.fromkeys(shown.values()))
    for key, draw in kind_of(config).images(config).items() if shown else ():
        images = dict(zip(epochs, draw(config, history, epochs), strict=True))
        for epoch, image in images.items():
            text = _caption(config, epoch, history.diverged_step is not None and epoch == epochs[-1])
            size = next(size for size in CAPTION if font(size).getlength(text) < WIDTH - 2 * MARGIN or size < TEXT)
            write(image, (MARGIN, 8), text, size)
        yield from ((key, step, images[epoch]) for step, epoch in shown.items())


def _caption(config: Config, epoch: int, diverged: bool) -> str:
    size = config.model.hidden_size
    hidden = "" if size is None else f", hidden {size}"
    counted = "iteration" if config.training.batch_size is None else "epoch"
    rate = f"rate {config.optimizer.learning_rate:g}{hidden}, {counted} {epoch:,}"
    return rate + ", diverged" * diverged
