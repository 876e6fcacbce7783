"""What the stepped images show, as plain arrays: the half of drawing that is tested by value. No PIL here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.network import predict, stack
from pipeline.backends.shared.history import History, record_epochs, snapshot_epochs
from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.data import IdxData, TableData
from pipeline.config.schema import Config
from pipeline.drawing.plot_data import Floats

if TYPE_CHECKING:
    from PIL.Image import Image

Draw = Callable[[Config, History, Sequence[int]], Iterator["Image"]]
"""Draws the images of one key of a point: one for each of some epochs."""
STEPS = 10
"""How many images MLflow's slider takes under one key."""
BANDS = 16
"""How many bands of colour a surface of losses is drawn in."""
UNITS = 64
"""Of how many hidden units the weights are shown."""
EXPLOSION = 1000.0
"""Weights beyond this are shown on a logarithmic scale."""
FEW = 200
"""Up to how many weights counts are shown on a linear axis."""


class Bars(NamedTuple):
    """A histogram that changes over the steps, with the same bins and axes at all of them.

    Attributes:
        low, high: the ends of the bins, weights.
        counts: (steps, bins).
        signed_log: whether the bins are equally wide in arcsinh(weight) and not in the weight.
    """

    low: float
    high: float
    counts: NDArray[np.int64]
    signed_log: bool


def image_steps(config: Config, history: History) -> dict[int, int]:
    """At which steps of the slider images are logged, and the epoch whose weights each shows.

    The steps are at most `STEPS` of the epochs of the snapshots, log-spaced, first and last always. They depend on how
    long and how densely a point records, and on nothing else, so that all runs have an image where the slider stands.
    The weights are those of that epoch, or where training ended before, the last finite ones.
    """
    recorded = record_epochs(config.training.epochs, config.recording.metrics_every)
    snapshots = sorted(snapshot_epochs(recorded, config.recording.snapshots))
    finite = [
        step for step, arrays in sorted(history.snapshots.items()) if all(np.isfinite(a).all() for a in arrays.values())
    ]
    steps = sorted(snapshot_epochs(snapshots, STEPS)) if finite else []
    return {step: max(epoch for epoch in finite if epoch <= step) for step in steps}


def largest_units(weights: NDArray[np.floating], most: int = UNITS) -> NDArray[np.intp]:
    """The `most` units of (inputs, units) whose weights have the largest Euclidean norm: their places, ascending."""
    largest = np.abs(weights).max(axis=0).astype(np.float64)
    scale = max(float(largest.max()), np.finfo(np.float64).tiny)  # the square of an exploded weight is no number
    norms = np.linalg.norm(weights / scale, axis=0)
    return np.sort(np.argsort(-norms, kind="stable")[:most])


def tile_columns(units: int) -> int:
    """How many tiles stand side by side: 1, 2, 4 or 8, as few as make at most as many rows."""
    return next((columns for columns in (1, 2, 4) if columns**2 >= units), 8)


def tiles(weights: NDArray[np.floating]) -> Floats:
    """The weights of each unit as a square picture of its inputs, side by side, one pixel apart.

    Args:
        weights: (inputs, units), where inputs are the pixels of square images, row by row.

    Returns:
        (rows * (side + 1) - 1, columns * (side + 1) - 1): NaN between the tiles and where there is no unit.
    """
    inputs, units = weights.shape
    side, columns = math.isqrt(inputs), tile_columns(units)
    rows = -(-units // columns)
    framed = np.full((rows * columns, side + 1, side + 1), np.nan)
    framed[:units, :-1, :-1] = weights.T.reshape(units, side, side)
    sheet = framed.reshape(rows, columns, side + 1, side + 1).swapaxes(1, 2)
    return sheet.reshape(rows * (side + 1), columns * (side + 1))[:-1, :-1]


def colour_limit(arrays: Sequence[NDArray[np.floating]]) -> float:
    """The weight that gets the full colour at all steps: the largest, but for the 0.5 % that are far out; never 0."""
    largest = [np.quantile(np.abs(array), 0.995, method="higher") for array in arrays]
    return float(max(largest)) or 1.0


def colour_places(weights: NDArray[np.floating], limit: float) -> NDArray[np.uint8]:
    """Where weights stand on a scale of 255 colours: 1 is -limit, 128 is 0, 255 is limit; 0 is NaN.

    Beyond a limit of `EXPLOSION` the scale is arcsinh: linear around 0, logarithmic further out.
    """
    wide = weights.astype(np.float64)
    share = np.arcsinh(wide) / math.asinh(limit) if limit > EXPLOSION else wide / limit
    places = np.rint(128 + 127 * np.clip(share, -1, 1))
    return np.where(np.isnan(places), 0, places).astype(np.uint8)


def bars(arrays: Sequence[NDArray[np.floating]]) -> Bars:
    """Count the weights of one layer at each step, in bins that hold all of them at all steps."""
    low, high = (float(end) for end in (min(a.min() for a in arrays), max(a.max() for a in arrays)))
    widest = max(abs(low), abs(high))
    if high - low < max(1e-6 * widest, 1e-30):
        low, high = low - 0.05 * max(widest, 1.0), high + 0.05 * max(widest, 1.0)
    signed_log = widest > EXPLOSION
    bins = 24 if arrays[0].size <= FEW else 60
    left, right = (math.asinh(low), math.asinh(high)) if signed_log else (low, high)
    counts = []
    for array in arrays:
        at = np.arcsinh(array.astype(np.float64)) if signed_log else array
        places = ((at.ravel() - left) * (bins / (right - left))).astype(np.intp)
        counts.append(np.bincount(np.clip(places, 0, bins - 1), minlength=bins))
    return Bars(low, high, np.stack(counts).astype(np.int64), signed_log)


def bar_heights(counts: NDArray[np.int64], weights: int) -> Floats:
    """Counts as heights from 0 to 1, the same for all steps: log(1 + count) where there are many weights."""
    heights: Floats = counts / counts.max() if weights <= FEW else np.log1p(counts) / math.log1p(counts.max())
    return heights


def weight_ticks(low: float, high: float, signed_log: bool = False) -> list[tuple[float, float]]:
    """Some round values between two ends, and where they stand between them, 0 to 1.

    On a logarithmic axis: 0, and powers of ten of both signs.
    """
    if not signed_log:
        step = 10 ** math.floor(math.log10((high - low) / 3))
        step *= next((times for times in (5, 2, 1) if (high - low) / (times * step) >= 3), 1)
        values = [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
        return [(value, (value - low) / (high - low)) for value in values]
    left, right = math.asinh(low), math.asinh(high)
    decades = math.log10(max(abs(low), abs(high)))
    every = max(1, math.ceil(decades / (2 if low < 0 < high else 4)))
    powers = [10.0**power for power in range(every, int(decades) + 1, every)]
    values = [value for value in [*(-power for power in reversed(powers)), 0.0, *powers] if low <= value <= high]
    return [(value, (math.asinh(value) - left) / (right - left)) for value in values]


def count_ticks(most: int, weights: int) -> list[tuple[float, float]]:
    """Some round counts up to the largest one, and the heights of their bars as `bar_heights` makes them."""
    if weights <= FEW:
        counts = [int(count) for count, _ in weight_ticks(0, most) if count == int(count)]
    else:
        digits = len(str(most))
        counts = [10**power for power in range(0, digits, 1 if digits <= 4 else 2)]
    heights = bar_heights(np.array([*counts, most]), weights)
    return list(zip(counts, heights.tolist(), strict=False))


def shows_tiles(config: Config, inputs: int) -> bool:
    """Whether the inputs of a network are the pixels of images, which are taken to be square."""
    return isinstance(config.data, IdxData) and math.isqrt(inputs) ** 2 == inputs and inputs >= 16


def fitted(config: Config, history: History, steps: Sequence[int], inputs: Floats) -> Floats:
    """What a network of one input and one output answers at some steps: inputs (count,) to (steps, count)."""
    networks: list[Weights] = [
        {name: array.astype(np.float64) for name, array in history.snapshots[step].items()} for step in steps
    ]
    with np.errstate(over="ignore", invalid="ignore"):
        answers = predict(config.model, stack(networks), inputs[:, None])[..., 0]
    finite: Floats = np.nan_to_num(answers.astype(np.float64))
    return finite


def fit_limits(data: TableData) -> tuple[tuple[float, float], tuple[float, float]]:
    """The axes of a table of one input and one output: lowest and highest input, lowest and highest output.

    They hold the data, the origin and some room, and do not depend on training, so that a line may leave them.
    """
    across, up = (
        np.array([*column, 0.0]) for column in ([row[0] for row in data.inputs], [row[0] for row in data.targets])
    )
    wide, high = max(float(np.ptp(across)), 1e-6), max(float(np.ptp(up)), 1e-6)
    return (
        (float(across.min()) - 0.2 * wide, float(across.max()) + 0.1 * wide),
        (float(up.min()) - 0.3 * high, float(up.max()) + 0.3 * high),
    )


def loss_places(surface: Floats) -> NDArray[np.uint8]:
    """Losses on a scale of 255 colours, 1 the smallest and 255 the largest, in bands as between contour lines."""
    low, high = float(surface.min()), float(surface.max())
    share = (surface - low) / (high - low or 1.0)
    band = np.minimum(np.floor(share * BANDS), BANDS - 1)
    return np.rint(1 + 254 * band / (BANDS - 1)).astype(np.uint8)
