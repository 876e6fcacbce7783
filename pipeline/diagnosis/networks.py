"""Why a run ended where it did: converged, too slow, oscillating, stalled or diverged, each with its evidence.

Everything is computed from a point's config and history; the thresholds are defined here, each with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.maps.measures import map_metrics
from pipeline.backends.numpy.maps.rate_map import map_axes
from pipeline.backends.shared.history import History
from pipeline.config.data import IdxData, TableData
from pipeline.config.schema import Config, Kind
from pipeline.diagnosis.curves import diagnose_balls, diagnose_basins
from pipeline.diagnosis.range_test import range_test, suggestion
from pipeline.diagnosis.stalled import final_gradient, sensitivity_at_end, stalled, stopped
from pipeline.diagnosis.trends import epochs_needed, first_below, reversals, roughness
from pipeline.diagnosis.verdicts import Diagnosis
from pipeline.system.wording import roughly

Floats = NDArray[np.floating]

# A loss of this share of the baseline is low: the network explains 98% of what a constant cannot.
GOAL = 0.02
# Over the second half of the records, a loss that changes by a smaller share stands still.
TREND = 0.01
# A loss that has grown to this many times its first value and the baseline, and still grows, has diverged although it
# is finite.
GROWN = 10
# From this roughness on, a loss swings instead of falling; at 0.5 it would go up as much as down.
ROUGH = 0.25
# From this share of updates in which a weight changes direction, the weight swings.
REVERSALS = 0.5
# Below this d(log loss) / d(log weights) the gradient is nearly zero: weights 1% larger change the loss by 0.001%.
FLAT = 1e-3
# An extrapolation to more than this many times the trained epochs is not worth a figure.
FORESEEABLE = 100


@dataclass(frozen=True)
class Run:
    """The losses of a network that has not diverged to inf or NaN.

    Attributes:
        config: config of the point.
        history: its history.
        steps: (records,) the recorded epochs.
        losses: (records,) the training losses at these epochs.
        baseline: the loss of the best constant answer.
        values: the numbers of the diagnosis, by name, filled in as they are found.
    """

    config: Config
    history: History
    steps: NDArray[np.int64]
    losses: Floats
    baseline: float
    values: dict[str, float]

    @property
    def end(self) -> float:
        """The last loss."""
        return float(self.losses[-1])

    @property
    def second_half(self) -> Floats:
        """The second half of the losses: what happens at the start says little about the end."""
        return self.losses[len(self.losses) // 2 :]

    @property
    def share(self) -> float:
        """The last loss as a share of the baseline, which is 0 if all targets are the same."""
        if self.baseline:
            return self.end / self.baseline
        if self.end:
            return math.inf
        return 0.0

    @property
    def where(self) -> str:
        """The last loss beside the baseline, for instance `loss 20, 34% of the baseline 58.7`."""
        return f"loss {self.end:.3g}, {_times(self.share)} the baseline {self.baseline:.3g}"

    @property
    def swings(self) -> bool:
        """Whether the loss or a weight swings."""
        return self.values["roughness"] >= ROUGH or self.values.get("reversals", 0.0) >= REVERSALS


def baseline_loss(config: Config) -> float:
    """Return the loss of the best constant answer, which ignores the inputs; class labels count as equally frequent.

    Mean squared error: the variance of the targets. Half the summed squared error: half their summed squared distance
    from their mean. Cross-entropy: log(classes).

    Raises:
        TypeError: the data is a curve.
    """
    if isinstance(config.data, IdxData):
        return math.log(config.data.classes)
    if not isinstance(config.data, TableData):
        raise TypeError("a curve has no baseline")
    targets = np.array(config.data.targets)
    squares = (targets - targets.mean(axis=0)) ** 2
    if config.loss == "mean_squared_error":
        return float(squares.mean())
    return float(squares.sum() / 2)


def diagnose(config: Config, history: History) -> Diagnosis:
    """Return the diagnosis of a point, by the judge of its kind.

    Example:
        >>> diagnose(point.config, point.history).label
        'stalled (rounding)'
    """
    return JUDGES[config.kind](config, history)


def diagnose_network(config: Config, history: History) -> Diagnosis:
    """Return why the training of one network ended where it did."""
    steps, losses = history.series("train/loss")
    baseline = baseline_loss(config)
    if history.diverged_step is not None:
        return _not_finite(history)
    if not len(losses):
        return Diagnosis("too slow", "", "no loss was recorded")
    run = Run(config, history, steps, losses, baseline, {})
    _measure(run)
    # The order matters: a loss that is low has converged even if it swings, and a loss without a gradient can neither
    # swing nor fall.
    if run.end <= GOAL * baseline:
        return _converged(run)
    sensitivity = sensitivity_at_end(history, run.end)
    if "stopped" in history.tables:
        return _stopped_early(run, sensitivity)
    change = 0.0
    if run.end:
        change = float(run.second_half[0]) / run.end - 1
    if sensitivity == 0 or (abs(change) <= TREND and sensitivity <= FLAT):
        return _stalled(run, run.where)
    if run.end > GROWN * max(float(losses[0]), baseline) and change < -TREND:
        return _growing(run)
    if run.swings:
        return _oscillating(run)
    return _too_slow(run)


def diagnose_range_test(config: Config, history: History) -> Diagnosis:
    """Return which rate a range test suggests."""
    values = {}
    found = range_test(history)
    if found is not None and found.suggested_rate is not None:
        values["suggested_rate"] = found.suggested_rate
    return Diagnosis("range test", "", suggestion(history), values)


def diagnose_map(config: Config, history: History) -> Diagnosis:
    """Return how many networks of a map converged, and which is the best.

    Raises:
        ValueError: the config has no grid.
    """
    axes = map_axes(config)
    values = map_metrics(history.map_arrays)
    evidence = f"{values['map/converged_share']:.1%} of {axes.points:,} points converge"
    if values["map/not_finite_share"]:
        evidence += f", {values['map/not_finite_share']:.1%} end with a loss that is not finite"
    if "map/best_loss" in values:
        at = " and ".join(f"{axis.name} {values[f'map/best_{axis.name}']:.4g}" for axis in axes.axes)
        evidence += f"; the smallest loss is {values['map/best_loss']:.3g} at {at}"
    return Diagnosis("map", "", evidence)


# The function that diagnoses a point of each kind.
JUDGES: dict[Kind, Callable[[Config, History], Diagnosis]] = {
    "network": diagnose_network,
    "range_test": diagnose_range_test,
    "map": diagnose_map,
    "balls": diagnose_balls,
    "basins": diagnose_basins,
}


def _measure(run: Run) -> None:
    """Fill in the values that every diagnosis of a network has."""
    if math.isfinite(run.share):
        run.values["loss_over_baseline"] = run.share
    run.values["roughness"] = roughness(run.second_half)
    # Updates with minibatches are not counted here, and the best network of annealing moves anywhere.
    if run.config.training.batch_size is None and run.config.optimizer.name != "annealing":
        turns = reversals(run.history)
        if turns is not None:
            run.values["reversals"] = turns


def _times(share: float) -> str:
    """Format a share so that `loss 20, SHARE the baseline` reads well: `34% of`, `12 times`."""
    if share > 10:
        return f"{share:.2g} times"
    if share < 0.001:
        return "less than 0.1% of"
    if share < 0.1:
        return f"{share:.1%} of"
    return f"{share:.0%} of"


def _not_finite(history: History) -> Diagnosis:
    evidence = f"the loss was not a finite number after {history.diverged_step:,} updates"
    if history.last_finite_loss is not None:
        evidence += f", last finite loss {history.last_finite_loss:.3g}"
    return Diagnosis("diverged", "", evidence)


def _converged(run: Run) -> Diagnosis:
    since = int(run.steps[first_below(run.losses, GOAL * run.baseline)])
    run.values["epochs_to_low_loss"] = float(since)
    evidence = f"{run.where}; {GOAL:.0%} of it first recorded at epoch {since:,}"
    if run.swings:
        evidence += f"; it swings: {run.values['roughness']:.0%} of its path goes up in the second half"
    if "stopped" in run.history.tables:
        evidence += f"; {stopped(run.config, run.history)}"
    return Diagnosis("converged", "", evidence, run.values)


def _stopped_early(run: Run, sensitivity: float) -> Diagnosis:
    ended = f"{run.where}; {stopped(run.config, run.history)}"
    if sensitivity <= FLAT:
        return _stalled(run, ended)
    evidence = f"{ended}, with a gradient of {final_gradient(run.history):.2g}"
    return Diagnosis("stalled", "line search", evidence, run.values)


def _stalled(run: Run, evidence: str) -> Diagnosis:
    # Its gradient is small there, but it has got there by too large steps.
    if run.values.get("loss_over_baseline", math.inf) > GROWN:
        evidence += "; it grew to this value"
    return stalled(run.config, run.history, evidence, run.values)


def _growing(run: Run) -> Diagnosis:
    first = float(run.losses[0])
    grown = "up from a first one of 0"
    if first:
        grown = f"{run.end / first:.3g} times the first one"
    return Diagnosis("diverged", "", f"{run.where}, {grown} and still growing", run.values)


def _oscillating(run: Run) -> Diagnosis:
    evidence = f"{run.where}; {run.values['roughness']:.0%} of the loss's path goes up in the second half"
    if "reversals" in run.values:
        evidence += f"; a weight changes direction in {run.values['reversals']:.0%} of its updates"
    return Diagnosis("oscillating", "", evidence, run.values)


def _too_slow(run: Run) -> Diagnosis:
    """Diagnose a loss that still falls, and extrapolate how long it would need."""
    trained = int(run.steps[-1])
    needed: float | None = math.inf
    # log(0) cannot be extrapolated to.
    if run.baseline:
        needed = epochs_needed(run.steps, run.losses, GOAL * run.baseline)
    if needed is None:
        epochs = "1 epoch"
        if trained != 1:
            epochs = f"{trained:,} epochs"
        how = f"after {epochs}, too few records to see a trend"
    elif needed <= FORESEEABLE * trained:
        run.values["epochs_needed"] = needed
        how = f"still falling; at this pace {GOAL:.0%} takes about {roughly(needed)} epochs, {trained:,} were trained"
    else:
        how = f"at the pace of the second half {GOAL:.0%} takes more than {FORESEEABLE * trained:,} epochs"
    return Diagnosis("too slow", "", f"{run.where}, {how}{_rise(run)}", run.values)


def _rise(run: Run) -> str:
    """Say whether the loss rose before it fell; empty if it did not."""
    first = float(run.losses[0])
    peak = float(run.losses.max())
    # 1% above: less is rounding, or the noise of minibatches.
    if peak > 1.01 * max(first, run.baseline):
        return f"; it first rose to {peak:.3g}"
    # Training by minibatches has no record at epoch 0, so the rise may lie before the first one.
    if run.steps[0] > 0 and first > 1.01 * run.baseline:
        return f"; the first epoch's {first:.3g} is above the baseline: the first steps overshot"
    return ""
