"""Why a run ended where it did: converged, too slow, oscillating, stalled or diverged, each with its evidence.

Everything is computed from a point's config and history; the thresholds stand here with their reasons.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.maps.measures import map_metrics
from pipeline.backends.numpy.maps.rate_map import map_axes
from pipeline.backends.numpy.network import ACTIVATIONS, forward
from pipeline.backends.shared.history import History
from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.data import IdxData, TableData
from pipeline.config.schema import Config, Kind
from pipeline.diagnosis.curves import diagnose_balls, diagnose_basins
from pipeline.diagnosis.range_test import range_test, suggestion
from pipeline.diagnosis.trends import epochs_needed, first_below, reversals, roughness
from pipeline.diagnosis.verdicts import Diagnosis
from pipeline.system.wording import roughly

Floats = NDArray[np.floating]

GOAL = 0.02
"""A loss of this share of the baseline is low: the network explains 98 % of what a constant cannot."""
TREND = 0.01
"""Over the second half of the records a loss that changes by a smaller share stands still."""
GROWN = 10
"""A loss that is so many times its first value, or the baseline, and grows has diverged though it is finite."""
ROUGH = 0.25
"""From this share of its way upwards a loss swings instead of falling; 0.5 would be as much up as down."""
REVERSALS = 0.5
"""From this share of updates that turn a weight round, the weight swings."""
FLAT = 1e-3
"""Below this d(log loss) / d(log weights) the gradient is nearly zero: weights 1 % larger move the loss by 0.001 %."""
SATURATED = 1e-3
"""A sigmoid whose slope a (1 - a) is smaller passes on less than 0.4 % of the gradient that it could."""
FORESEEABLE = 100
"""How many times as many epochs as were trained an extrapolation is worth a figure."""


def baseline_loss(config: Config) -> float:
    """The loss of the best constant answer, which ignores the inputs; for class labels that are equally frequent.

    Mean squared error: the variance of the targets. Half the summed squared error: half their summed squared distance
    from their mean. Cross-entropy: log(classes).
    """
    if isinstance(config.data, IdxData):
        return math.log(config.data.classes)
    if not isinstance(config.data, TableData):
        raise TypeError("a curve has no baseline")
    targets = np.array(config.data.targets)
    squares = (targets - targets.mean(axis=0)) ** 2
    return float(squares.mean() if config.loss == "mean_squared_error" else squares.sum() / 2)


def diagnose(config: Config, history: History) -> Diagnosis:
    """Say why a point ended where it did, in the words of its kind; see `JUDGES`."""
    return JUDGES[config.kind](config, history)


def diagnose_network(config: Config, history: History) -> Diagnosis:
    """Why the training of one network ended where it did."""
    steps, losses = history.series("train/loss")
    baseline = baseline_loss(config)
    if history.diverged_step is not None:
        last = "" if history.last_finite_loss is None else f", last finite loss {history.last_finite_loss:.3g}"
        return Diagnosis("diverged", "", f"the loss was no number after {history.diverged_step:,} updates{last}")
    if not len(losses):
        return Diagnosis("too slow", "", "no loss was recorded")
    end = float(losses[-1])
    share = end / baseline if baseline else math.inf if end else 0.0
    values = {"loss_over_baseline": share} if math.isfinite(share) else {}
    where = f"loss {end:.3g}, {_times(share)} the baseline {baseline:.3g}"
    half = losses[len(losses) // 2 :]
    values["roughness"] = roughness(half)
    # Of minibatches the updates are not counted here, and the best network of annealing moves anywhere.
    counted = config.training.batch_size is None and config.optimizer.name != "annealing"
    turns = reversals(history) if counted else None
    if turns is not None:
        values["reversals"] = turns
    if end <= GOAL * baseline:
        since = int(steps[first_below(losses, GOAL * baseline)])
        values["epochs_to_low_loss"] = float(since)
        reached = f"{where}; {GOAL:.0%} of it first recorded at epoch {since:,}"
        swings = f"; it swings: {values['roughness']:.0%} of its way goes up in the second half"
        ended = f"; {_stopped(config, history)}" if "stopped" in history.tables else ""
        return Diagnosis("converged", "", reached + (swings if _swings(values) else "") + ended, values)
    change = float(half[0]) / end - 1 if end else 0.0
    sensitivity = _sensitivity(history, end)
    if "stopped" in history.tables:
        ended = f"{where}; {_stopped(config, history)}"
        if sensitivity <= FLAT:
            return _stalled(config, history, ended, values)
        return Diagnosis("stalled", "line search", f"{ended}, with a gradient of {_gradient(history):.2g}", values)
    if sensitivity == 0 or (abs(change) <= TREND and sensitivity <= FLAT):
        return _stalled(config, history, where, values)
    if end > GROWN * max(float(losses[0]), baseline) and change < -TREND:
        first = float(losses[0])
        grown = f"{end / first:.3g} times the first one" if first else "up from a first one of 0"
        return Diagnosis("diverged", "", f"{where}, {grown} and still growing", values)
    if _swings(values):
        how = f"{values['roughness']:.0%} of the loss's way goes up in the second half"
        turned = f"; a weight turns round in {turns:.0%} of its updates" if turns is not None else ""
        return Diagnosis("oscillating", "", f"{where}; {how}{turned}", values)
    return _too_slow(steps, losses, baseline, where, values)


def diagnose_range_test(config: Config, history: History) -> Diagnosis:
    """Which rate a range test suggests."""
    found = range_test(history)
    rate = None if found is None else found.suggested_rate
    return Diagnosis("range test", "", suggestion(history), {} if rate is None else {"suggested_rate": rate})


def diagnose_map(config: Config, history: History) -> Diagnosis:
    """How many networks of a map converged, and which is the best.

    Raises:
        ValueError: the config has no grid.
    """
    axes = map_axes(config)
    values = map_metrics(history.map_arrays)
    told = f"{values['map/converged_share']:.1%} of {axes.points:,} points converge"
    if values["map/not_finite_share"]:
        told += f", {values['map/not_finite_share']:.1%} end in a loss that is no number"
    if "map/best_loss" in values:
        at = " and ".join(f"{axis.name} {values[f'map/best_{axis.name}']:.4g}" for axis in axes.axes)
        told += f"; the smallest loss is {values['map/best_loss']:.3g} at {at}"
    return Diagnosis("map", "", told)


JUDGES: dict[Kind, Callable[[Config, History], Diagnosis]] = {
    "network": diagnose_network,
    "range_test": diagnose_range_test,
    "map": diagnose_map,
    "balls": diagnose_balls,
    "basins": diagnose_basins,
}
"""What diagnoses a point of each kind."""


def saturation(config: Config, weights: Weights) -> float | None:
    """The share of sigmoids with a slope below `SATURATED`, over the rows that the network gets wrong.

    Hidden and output units are counted apart, and the larger share is taken: one saturated layer blocks the gradient.

    Args:
        config: with a table as data, otherwise the answer is None.
        weights: of one network.
    """
    if not isinstance(config.data, TableData):
        return None
    stack = {name: np.atleast_2d(array)[None].astype(np.float64) for name, array in weights.items()}
    with np.errstate(over="ignore"):
        *hidden, sums = forward(config.model, stack, np.array(config.data.inputs))
        outputs = ACTIVATIONS[config.model.output_activation](sums)[0]
    wrong = (np.abs(outputs - np.array(config.data.targets)) > 0.1).any(axis=1)
    layers = [layer[0] for layer in hidden[1:] if config.model.hidden_activation == "sigmoid"]
    layers += [outputs] if config.model.output_activation == "sigmoid" else []
    shares = [float(np.mean(layer[wrong] * (1 - layer[wrong]) < SATURATED)) for layer in layers if wrong.any()]
    return max(shares, default=None)


def _swings(values: dict[str, float]) -> bool:
    return values["roughness"] >= ROUGH or values.get("reversals", 0.0) >= REVERSALS


def _times(share: float) -> str:
    if share > 10:
        return f"{share:.2g} times"
    if share < 0.001:
        return "less than 0.1% of"
    return f"{share:.0%} of" if share >= 0.1 else f"{share:.1%} of"


def _sensitivity(history: History, loss: float) -> float:
    """d(log loss) / d(log weights) at the last record: gradient norm times norm of the weights, by the loss.

    Weights that have hardly left 0 say nothing of their scale: a norm below 1 counts as 1.
    """
    final = history.final()
    gradient = final.get("gradient_norm", math.inf)
    norm = final.get("weights/norm", math.inf)
    return 0.0 if gradient == 0 else gradient * max(norm, 1.0) / loss


def _gradient(history: History) -> float:
    return history.final().get("gradient_norm", 0.0)


def _stalled(config: Config, history: History, where: str, values: dict[str, float]) -> Diagnosis:
    gradient = _gradient(history)
    last = history.snapshots.get(max(history.snapshots, default=0), {})
    size = "exactly 0" if gradient == 0 else f"{gradient:.2g}"
    ran = "; it ran away to there" if values.get("loss_over_baseline", math.inf) > GROWN else ""
    says = f"{where}{ran}; the gradient is {size}"
    step = config.finite_difference_step
    if config.gradient == "finite_difference" and last:
        lost = [float(np.mean(array + array.dtype.type(step) == array)) for array in last.values()]
        if gradient == 0 and max(lost) > 0:
            place = max(last, key=lambda name: float(np.abs(last[name]).max()))
            weight = float(np.abs(last[place]).max())
            why = f"in {config.dtype} {weight:,.0f} + {step:g} is {weight:,.0f} again, so every difference is 0"
            return Diagnosis("stalled", "rounding", f"{says}: {why}", values)
    share = saturation(config, last) if last else None
    if share is not None:
        values["saturated"] = share
        if share >= 0.5:
            why = f"{share:.0%} of a layer's sigmoids are saturated on the rows that are wrong"
            return Diagnosis("stalled", "saturation", f"{says}: {why}", values)
    moved = history.final().get("weights/update_ratio", 0.0)
    return Diagnosis("stalled", "flat", f"{says}, the last update {moved:.2g} of the weights", values)


def _stopped(config: Config, history: History) -> str:
    """Why SciPy made fewer iterations than there were to be epochs."""
    (row,) = history.tables["stopped"]
    if row["largest_gradient"] <= row["gradient_tolerance"]:
        why = "the gradient is 0" if row["largest_gradient"] == 0 else "the gradient is within its tolerance"
    else:
        why = f"in {config.dtype} the line search found no lower loss"
    return f"it ended at iteration {history.epochs:,} of {config.training.epochs:,}, where {why}"


def _too_slow(
    steps: NDArray[np.int64], losses: Floats, baseline: float, where: str, values: dict[str, float]
) -> Diagnosis:
    peak = float(losses.max())
    rose = f"; it first rose to {peak:.3g}" if peak > 1.01 * max(float(losses[0]), baseline) else ""
    if not rose and len(losses) and losses[0] > 1.01 * baseline and steps[0] > 0:
        rose = f"; the first epoch's {losses[0]:.3g} is above the baseline: the first steps overshot"
    needed = epochs_needed(steps, losses, GOAL * baseline) if baseline else math.inf
    trained = f"{steps[-1]:,} epoch{'s' if steps[-1] != 1 else ''}"
    if needed is None:
        how = f"after {trained}, too few records to see a trend"
    elif needed <= FORESEEABLE * int(steps[-1]):
        values["epochs_needed"] = needed
        how = f"still falling; at this pace {GOAL:.0%} takes about {roughly(needed)} epochs, {steps[-1]:,} were trained"
    else:
        how = f"at the pace of the second half {GOAL:.0%} takes more than {FORESEEABLE * int(steps[-1]):,} epochs"
    return Diagnosis("too slow", "", f"{where}, {how}{rose}", values)
