"""Diagnose a run: converged, too slow, oscillating, stalled or diverged, with the evidence for the verdict.

Everything is computed from a point's config and history. The thresholds are defined here, each with its rationale.
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
from pipeline.config.schema import Config, Kind
from pipeline.diagnosis.baseline import baseline_loss
from pipeline.diagnosis.curves import diagnose_balls, diagnose_basins
from pipeline.diagnosis.range_test import range_test, suggestion
from pipeline.diagnosis.stalled import final_gradient, sensitivity_at_end, stalled, stopped
from pipeline.diagnosis.trends import epochs_needed, first_below, reversals, roughness
from pipeline.diagnosis.verdicts import Diagnosis
from pipeline.system.wording import roughly

Floats = NDArray[np.floating]

# A loss at or below this share of the baseline is low: the network explains 98% of what a constant cannot.
GOAL = 0.02
# A loss that changes by at most this share over the second half of the records no longer moves.
TREND = 0.01
# A loss that exceeds this multiple of both its first value and the baseline, and is still growing, counts as diverged
# although it is finite.
GROWN = 10
# A loss with at least this roughness oscillates instead of falling; at 0.5 it moves up as much as down.
ROUGH = 0.25
# A weight that changes direction in at least this share of its updates oscillates.
REVERSALS = 0.5
# Up to this d(log loss) / d(log weights) the gradient is nearly zero: weights 1% larger change the loss by 0.001%.
FLAT = 1e-3
# Extrapolations are reported as numbers only up to this multiple of the trained epochs.
FORESEEABLE = 100


@dataclass(frozen=True)
class Run:
    """A run whose losses are all finite.

    Attributes:
        config: config of the point.
        history: history of the point.
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
    def level(self) -> str:
        """The last loss compared with the baseline, for instance `loss 20, 34% of the baseline 58.7`."""
        if not self.baseline:
            return f"loss {self.end:.3g}, and the baseline is 0: all training targets are the same"
        return f"loss {self.end:.3g}, {_times(self.share)} the baseline {self.baseline:.3g}"

    @property
    def oscillates(self) -> bool:
        """Whether the loss or a weight oscillates."""
        return self.values["roughness"] >= ROUGH or self.values.get("reversals", 0.0) >= REVERSALS


def diagnose(config: Config, history: History) -> Diagnosis:
    """Diagnose a point with the function for its kind.

    Example:
        >>> diagnose(point.config, point.history).label
        'stalled (rounding)'
    """
    return DIAGNOSERS[config.kind](config, history)


def diagnose_network(config: Config, history: History) -> Diagnosis:
    """Diagnose the training of one network."""
    steps, losses = history.series("train/loss")
    baseline = baseline_loss(config, history)
    if history.diverged_step is not None:
        return _not_finite(history)
    if not len(losses):
        return Diagnosis("too slow", "", "no loss was recorded")
    run = Run(config, history, steps, losses, baseline, {})
    _measure(run)
    # The order matters: a low loss has converged even if it oscillates, and a loss without a gradient can neither
    # oscillate nor fall.
    if run.end <= GOAL * baseline:
        return _converged(run)
    sensitivity = sensitivity_at_end(history, run.end)
    if "stopped" in history.tables:
        return _stopped_early(run, sensitivity)
    change = 0.0
    if run.end:
        change = float(run.second_half[0]) / run.end - 1
    if sensitivity == 0 or (abs(change) <= TREND and sensitivity <= FLAT):
        return _stalled(run, run.level)
    if run.end > GROWN * max(float(losses[0]), baseline) and change < -TREND:
        return _growing(run)
    if run.oscillates:
        return _oscillating(run)
    return _too_slow(run)


def diagnose_range_test(config: Config, history: History) -> Diagnosis:
    """Report the rate that a range test suggests."""
    values = {}
    found = range_test(history)
    if found is not None and found.suggested_rate is not None:
        values["suggested_rate"] = found.suggested_rate
    return Diagnosis("range test", "", suggestion(history), values)


def diagnose_map(config: Config, history: History) -> Diagnosis:
    """Report the share of networks that converged, and the best one.

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


# The diagnosis function for each kind of point.
DIAGNOSERS: dict[Kind, Callable[[Config, History], Diagnosis]] = {
    "network": diagnose_network,
    "range_test": diagnose_range_test,
    "map": diagnose_map,
    "balls": diagnose_balls,
    "basins": diagnose_basins,
}


def _measure(run: Run) -> None:
    """Compute the values that every diagnosis of a network has."""
    if math.isfinite(run.share):
        run.values["loss_over_baseline"] = run.share
    run.values["roughness"] = roughness(run.second_half)
    # Not applicable to minibatches, whose updates are not counted here, or to annealing, whose best network can move
    # anywhere.
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
    evidence = f"{run.level}; {GOAL:.0%} of the baseline first reached at epoch {since:,}"
    if run.oscillates:
        evidence += f"; it oscillates: {run.values['roughness']:.0%} of its movement in the second half is upward"
    if "stopped" in run.history.tables:
        evidence += f"; {stopped(run.config, run.history)}"
    return Diagnosis("converged", "", evidence, run.values)


def _stopped_early(run: Run, sensitivity: float) -> Diagnosis:
    ended = f"{run.level}; {stopped(run.config, run.history)}"
    if sensitivity <= FLAT:
        return _stalled(run, ended)
    evidence = f"{ended}, with a gradient of {final_gradient(run.history):.2g}"
    return Diagnosis("stalled", "line search", evidence, run.values)


def _stalled(run: Run, evidence: str) -> Diagnosis:
    # The gradient is small at this loss, but steps that were too large have led to it.
    if run.values.get("loss_over_baseline", math.inf) > GROWN:
        evidence += "; it grew to this value"
    return stalled(run.config, run.history, evidence, run.values)


def _growing(run: Run) -> Diagnosis:
    first = float(run.losses[0])
    grown = "up from an initial loss of 0"
    if first:
        grown = f"{run.end / first:.3g} times the initial loss"
    return Diagnosis("diverged", "", f"{run.level}, {grown} and still growing", run.values)


def _oscillating(run: Run) -> Diagnosis:
    evidence = f"{run.level}; {run.values['roughness']:.0%} of the loss's movement in the second half is upward"
    if "reversals" in run.values:
        evidence += f"; one weight changes direction in {run.values['reversals']:.0%} of its updates"
    return Diagnosis("oscillating", "", evidence, run.values)


def _too_slow(run: Run) -> Diagnosis:
    """Diagnose a loss that is still falling, and extrapolate the number of epochs that it needs."""
    trained = int(run.steps[-1])
    needed: float | None = math.inf
    # A baseline of 0 would need the logarithm of 0.
    if run.baseline:
        needed = epochs_needed(run.steps, run.losses, GOAL * run.baseline)
    if needed is None:
        epochs = "1 epoch"
        if trained != 1:
            epochs = f"{trained:,} epochs"
        how = f"after {epochs}, too few data points for a trend"
    elif needed <= FORESEEABLE * trained:
        run.values["epochs_needed"] = needed
        how = (
            f"still falling; at this pace, reaching {GOAL:.0%} would take about {roughly(needed)} epochs "
            f"({trained:,} trained)"
        )
    else:
        how = (
            f"at the pace of the second half, reaching {GOAL:.0%} would take more than {FORESEEABLE * trained:,} epochs"
        )
    return Diagnosis("too slow", "", f"{run.level}, {how}{_rise(run)}", run.values)


def _rise(run: Run) -> str:
    """Describe the rise of the loss before it fell; empty if it did not rise."""
    first = float(run.losses[0])
    peak = float(run.losses.max())
    # At least 1% higher: smaller rises are rounding, or the noise of minibatches.
    if peak > 1.01 * max(first, run.baseline):
        return f"; it first rose to {peak:.3g}"
    # Training with minibatches has no record at epoch 0, so the rise may have happened before the first record. If the
    # data has test rows, their loss before training tells it from a loss that began higher.
    steps, tested = run.history.series("test/loss")
    began = max([run.baseline, *tested[steps == 0]])
    if run.steps[0] > 0 and first > 1.01 * began:
        return f"; the loss after the first epoch, {first:.3g}, is above the baseline: the first steps overshot"
    return ""
