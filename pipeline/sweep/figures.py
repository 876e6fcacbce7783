"""Write the figures of a point or of a sweep, each on its own: one that cannot be drawn costs only itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from io import BytesIO
from pathlib import Path

from pipeline.drawing.axes import Figures
from pipeline.drawing.layout import save_png
from pipeline.system.failures import Apart, Failures
from pipeline.system.files import explained, write_file


def write_figures(folder: Path, draw: Callable[[Apart], Figures], whose: str, failures: Failures) -> None:
    """Draw figures and write them to the folder `plots`.

    Args:
        folder: the folder of the point or of the sweep.
        draw: draws the figures, each guarded by its argument.
        whose: the point or the sweep, for messages.
        failures: receives the figures that could not be drawn.

    Raises:
        LabError: the folder cannot be written.
    """

    def apart(name: str) -> AbstractContextManager[None]:
        return failures.apart(f"the figure {name} of {whose}")

    pictures: dict[str, bytes] = {}
    # The outer guard is for an error between two figures, in choosing which ones to draw.
    with failures.apart(f"the figures of {whose}"):
        for name, figure in draw(apart):
            # In memory, because an error of the disk is not one of the figure.
            with apart(name), BytesIO() as stream:
                save_png(figure, stream)
                pictures[name] = stream.getvalue()
    with explained(folder):
        for name, picture in pictures.items():
            write_file(folder / "plots" / f"{name}.png", partial(Path.write_bytes, data=picture))
