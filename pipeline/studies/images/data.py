"""Compute the numbers behind the images, as arrays that tests compare by value. Does not import PIL."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.network import predict, stack
from pipeline.backends.shared.history import History, record_epochs, snapshot_epochs
from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.data import IdxData, ImageData, TableData
from pipeline.config.schema import Config
from pipeline.drawing.plot_data import Floats, drawable

if TYPE_CHECKING:
    from PIL.Image import Image

# Draws the images of a point under one key, one for each of the given epochs.
Draw = Callable[[Config, History, Sequence[int]], Iterator["Image"]]
# Maximum number of images per key in MLflow's slider.
STEPS = 10
# Number of colour bands of an error surface.
BANDS = 16
# Maximum number of hidden units whose weights are shown.
UNITS = 64
# Weights with a larger magnitude are shown on a logarithmic scale.
EXPLOSION = 1000.0
# Maximum number of weights for a linear axis of counts.
FEW = 200


class Bars(NamedTuple):
    """A histogram for each step, all with the same bins and axes.

    Attributes:
        low, high: the smallest and the largest weight in the bins.
        counts: (steps, bins).
        signed_log: whether the bins are equally wide in arcsinh(weight) instead of in the weight.
    """

    low: float
    high: float
    counts: NDArray[np.int64]
    signed_log: bool


def image_steps(config: Config, history: History) -> dict[int, int]:
    """Choose the positions of the slider, and the epoch shown at each.

    The steps are at most `STEPS` of the epochs with snapshots, evenly spaced on a logarithmic scale, including the
    first and the last. They depend only on the recording settings and the length of training, so that all runs of a
    sweep have an image at every slider position.

    Returns:
        The epoch of each step: the step itself, or the last epoch before it with finite weights; before the first such
        epoch, that one. Empty if no epoch has finite weights.
    """
    finite = [
        step for step, arrays in sorted(history.snapshots.items()) if all(np.isfinite(a).all() for a in arrays.values())
    ]
    if not finite:
        return {}
    recorded = record_epochs(config.training.epochs, config.recording.metrics_every)
    snapshots = sorted(snapshot_epochs(recorded, config.recording.snapshots))
    steps = sorted(snapshot_epochs(snapshots, STEPS))
    return {step: max((epoch for epoch in finite if epoch <= step), default=finite[0]) for step in steps}


def largest_units(weights: NDArray[np.floating], count: int = UNITS) -> NDArray[np.intp]:
    """Return the indices, ascending, of the units whose weights (inputs, units) have the largest Euclidean norm."""
    largest = np.abs(weights).max(axis=0).astype(np.float64)
    # The square of a very large weight would overflow, so the weights are scaled first.
    scale = max(float(largest.max()), np.finfo(np.float64).tiny)
    norms = np.linalg.norm(weights / scale, axis=0)
    return np.sort(np.argsort(-norms, kind="stable")[:count])


def tile_columns(units: int) -> int:
    """Return the number of columns: the smallest of 1, 2, 4 and 8 that gives no more rows than columns, otherwise 8."""
    return next((columns for columns in (1, 2, 4) if columns**2 >= units), 8)


def tiles(weights: NDArray[np.floating]) -> Floats:
    """Arrange the weights of each unit as a square picture of its inputs, side by side, one pixel apart.

    Args:
        weights: (inputs, units), where inputs are the pixels of square images, row by row.

    Returns:
        (rows * (side + 1) - 1, columns * (side + 1) - 1): NaN between the tiles and in empty tiles.
    """
    inputs, units = weights.shape
    side = math.isqrt(inputs)
    columns = tile_columns(units)
    rows = -(-units // columns)
    # Each tile gets a frame of NaN below and to its right.
    framed = np.full((rows * columns, side + 1, side + 1), np.nan)
    framed[:units, :-1, :-1] = weights.T.reshape(units, side, side)
    sheet = framed.reshape(rows, columns, side + 1, side + 1).swapaxes(1, 2)
    # The frame at the lower and the right edge of the sheet is not needed.
    return sheet.reshape(rows * (side + 1), columns * (side + 1))[:-1, :-1]


def colour_limit(arrays: Sequence[NDArray[np.floating]]) -> float:
    """Return the weight with the full colour: the largest at any step, ignoring the top 0.5 % as outliers; never 0."""
    largest = [np.quantile(np.abs(array), 0.995, method="higher") for array in arrays]
    return float(max(largest)) or 1.0


def colour_indices(weights: NDArray[np.floating], limit: float) -> NDArray[np.uint8]:
    """Return the indices of weights on a scale of 255 colours: 1 is -limit, 128 is 0, 255 is limit; 0 is NaN.

    If the limit is beyond `EXPLOSION`, the scale is arcsinh: linear around 0, logarithmic further out.
    """
    exact = weights.astype(np.float64)
    share = exact / limit
    if limit > EXPLOSION:
        share = np.arcsinh(exact) / math.asinh(limit)
    indices = np.rint(128 + 127 * np.clip(share, -1, 1))
    return np.where(np.isnan(indices), 0, indices).astype(np.uint8)


def bars(arrays: Sequence[NDArray[np.floating]]) -> Bars:
    """Count the weights of one layer at each step, in bins that cover all steps."""
    low = float(min(array.min() for array in arrays))
    high = float(max(array.max() for array in arrays))
    widest = max(abs(low), abs(high))
    # Weights that are all equal still need bins of some width.
    if high - low < max(1e-6 * widest, 1e-30):
        room = 0.05 * max(widest, 1.0)
        low = low - room
        high = high + room
    signed_log = widest > EXPLOSION
    bins = 24 if arrays[0].size <= FEW else 60
    left = low
    right = high
    if signed_log:
        left = math.asinh(low)
        right = math.asinh(high)
    counts = []
    for array in arrays:
        positions = array.ravel()
        if signed_log:
            positions = np.arcsinh(positions.astype(np.float64))
        indices = ((positions - left) * (bins / (right - left))).astype(np.intp)
        # The largest weight is the upper end of the last bin and belongs to it.
        counts.append(np.bincount(np.clip(indices, 0, bins - 1), minlength=bins))
    return Bars(low, high, np.stack(counts).astype(np.int64), signed_log)


def bar_heights(counts: NDArray[np.int64], weights: int) -> Floats:
    """Return the heights of bars, 0 to 1, on the same axis at all steps: log(1 + count) if there are many weights."""
    heights: Floats = counts / counts.max()
    if weights > FEW:
        heights = np.log1p(counts) / math.log1p(counts.max())
    return heights


def weight_ticks(low: float, high: float, signed_log: bool = False) -> list[tuple[float, float]]:
    """Return round tick values between two ends, with their positions, 0 to 1.

    On a logarithmic axis: 0, and powers of ten of both signs.
    """
    if signed_log:
        return _logarithmic_ticks(low, high)
    # The largest of 5, 2 and 1 times a power of ten that fits at least three times.
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step *= next((times for times in (5, 2, 1) if (high - low) / (times * step) >= 3), 1)
    values = [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [(value, (value - low) / (high - low)) for value in values]


def _logarithmic_ticks(low: float, high: float) -> list[tuple[float, float]]:
    """Return the ticks of an arcsinh(weight) axis: about four, or two on each side of zero."""
    left = math.asinh(low)
    right = math.asinh(high)
    decades = math.log10(max(abs(low), abs(high)))
    ticks = 2 if low < 0 < high else 4
    every = max(1, math.ceil(decades / ticks))
    powers = [10.0**power for power in range(every, int(decades) + 1, every)]
    values = [value for value in [*(-power for power in reversed(powers)), 0.0, *powers] if low <= value <= high]
    return [(value, (math.asinh(value) - left) / (right - left)) for value in values]


def count_ticks(largest: int, weights: int) -> list[tuple[float, float]]:
    """Return round tick values up to the largest count, with the heights of such bars in `bar_heights`."""
    if weights <= FEW:
        counts = [int(count) for count, _ in weight_ticks(0, largest) if count == int(count)]
    else:
        digits = len(str(largest))
        # More than four powers of ten would be too close together.
        every = 1 if digits <= 4 else 2
        counts = [10**power for power in range(0, digits, every)]
    # The largest count defines the height 1 of the axis, but gets no tick of its own.
    heights = bar_heights(np.array([*counts, largest]), weights)
    return list(zip(counts, heights.tolist(), strict=False))


def shows_tiles(config: Config, inputs: int) -> bool:
    """Whether the inputs of a network are pixels of grey images, which are assumed to be square."""
    return isinstance(config.data, IdxData | ImageData) and math.isqrt(inputs) ** 2 == inputs and inputs >= 16


def fitted(config: Config, history: History, steps: Sequence[int], inputs: Floats) -> Floats:
    """Compute the outputs of a one-input, one-output network at the given steps: inputs (count,) to (steps, count)."""
    networks: list[Weights] = [
        {name: array.astype(np.float64) for name, array in history.snapshots[step].items()} for step in steps
    ]
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = predict(config.dense, stack(networks), inputs[:, None])[..., 0]
    # Outputs that overflowed become the largest number, which can still be drawn.
    finite: Floats = np.nan_to_num(outputs.astype(np.float64))
    return finite


def fit_limits(data: TableData) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the axes of a table of one input and one output: lowest and highest input, lowest and highest output.

    They include the data, the origin and a margin. They do not depend on training, so a line may extend outside them.
    """
    inputs = drawable(np.array([*(row[0] for row in data.inputs), 0.0]))
    targets = drawable(np.array([*(row[0] for row in data.targets), 0.0]))
    # If all values are 0, the axis still needs some length.
    width = max(float(np.ptp(inputs)), 1e-6)
    height = max(float(np.ptp(targets)), 1e-6)
    return (
        (float(inputs.min()) - 0.2 * width, float(inputs.max()) + 0.1 * width),
        (float(targets.min()) - 0.3 * height, float(targets.max()) + 0.3 * height),
    )


def loss_indices(surface: Floats) -> NDArray[np.uint8]:
    """Return the indices of losses on a scale of 255 colours, 1 the smallest, in bands as between contour lines."""
    low = float(surface.min())
    high = float(surface.max())
    share = (surface - low) / (high - low or 1.0)
    # Otherwise the largest loss would have a band of its own.
    band = np.minimum(np.floor(share * BANDS), BANDS - 1)
    return np.rint(1 + 254 * band / (BANDS - 1)).astype(np.uint8)
