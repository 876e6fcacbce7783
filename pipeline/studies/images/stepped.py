"""Make images of a point at selected epochs; MLflow shows those of several runs together, with a slider over epochs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.drawing.pixels import MARGIN, TEXT, WIDTH, font, write
from pipeline.studies.images.data import image_steps
from pipeline.studies.kinds import kind_of
from pipeline.system.failures import Apart, together

if TYPE_CHECKING:
    from PIL.Image import Image

# Caption sizes to try, in pixels; the first that fits is used.
CAPTION = (21, 18, 15)


def image_keys(config: Config) -> list[str]:
    """Return the keys of a point's images, in order of importance; for a map, the name of its training figure."""
    kind = kind_of(config)
    if kind.figure:
        return [kind.figure]
    return list(kind.images(config))


def stepped_images(config: Config, history: History, apart: Apart = together) -> Iterator[tuple[str, int, Image]]:
    """Yield the images of one point: key, step, image. The images of each key are guarded by `apart`.

    The steps come from `image_steps`: the same for all points with the same recording settings. Maps keep no weights,
    so they have no images here.

    Example:
        for key, step, image in stepped_images(point.config, point.history):
            image.save(f"{key}_{step}.png")
    """
    shown = image_steps(config, history)
    if not shown:
        return
    # The last epoch of a run that ended early is shown at several steps, but drawn only once.
    epochs = list(dict.fromkeys(shown.values()))
    for key, draw in kind_of(config).images(config).items():
        images: dict[int, Image] = {}
        with apart(key):
            drawn = dict(zip(epochs, draw(config, history, epochs), strict=True))
            for epoch, image in drawn.items():
                text = _caption(config, epoch)
                if history.diverged_step is not None and epoch == epochs[-1]:
                    text += ", diverged"
                # The smallest size is below TEXT, so it is used even if the caption does not fit.
                size = next(size for size in CAPTION if font(size).getlength(text) < WIDTH - 2 * MARGIN or size < TEXT)
                write(image, (MARGIN, 8), text, size)
            images = drawn
        yield from ((key, step, images[epoch]) for step, epoch in shown.items() if epoch in images)


def _caption(config: Config, epoch: int) -> str:
    """Return the caption of an image: rate, hidden size and epoch."""
    parts = [f"rate {config.optimizer.learning_rate:g}"]
    if config.model.hidden_size is not None:
        parts.append(f"hidden {config.model.hidden_size}")
    # With a full batch an epoch is one update.
    unit = "iteration" if config.training.batch_size is None else "epoch"
    parts.append(f"{unit} {epoch:,}")
    return ", ".join(parts)
