"""Diagnose a run, with the evidence for the verdict; `verdicts.py` lists the verdicts.

Everything is computed from a point's config and history, and from what its group reached. `thresholds.py` has every
threshold with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pipeline.backends.numpy.maps.measures import map_metrics
from pipeline.backends.numpy.maps.rate_map import map_axes
from pipeline.backends.shared.history import History
from pipeline.config.metrics import metric_name
from pipeline.config.schema import Config, Kind
from pipeline.diagnosis import evidence
from pipeline.diagnosis.baseline import baseline_loss
from pipeline.diagnosis.curves import diagnose_balls, diagnose_basins
from pipeline.diagnosis.overfitting import Overfitting, overfitting
from pipeline.diagnosis.range_test import range_test, suggestion
from pipeline.diagnosis.reach import Reach, alone
from pipeline.diagnosis.run import Run, measure
from pipeline.diagnosis.stalled import final_gradient, sensitivity_at_end, stalled, stopped
from pipeline.diagnosis.thresholds import ENOUGH, FLAT, GROWN, SMALL_STEP
from pipeline.diagnosis.trends import first_below
from pipeline.diagnosis.verdicts import SEEDS_DIFFER, TOO_LARGE, Diagnosis


def diagnose(config: Config, history: History, reach: Reach | None = None) -> Diagnosis:
    """Diagnose a point with the function for its kind.

    Args:
        config: config of the point.
        history: history of the point.
        reach: what its group reached; None: it is judged alone. Only networks have a group.

    Example:
        >>> diagnose(point.config, point.history).label
        'stalled (rounding)'
    """
    if config.kind == "network":
        return diagnose_network(config, history, reach)
    return DIAGNOSERS[config.kind](config, history)


def diagnose_network(config: Config, history: History, reach: Reach | None = None) -> Diagnosis:
    """Diagnose the training of one network, judged against what its group reached."""
    steps, losses = history.series("train/loss")
    baseline = baseline_loss(config, history)
    if history.diverged_step is not None:
        return Diagnosis("diverged", "", evidence.not_finite(history))
    if not len(losses):
        return Diagnosis("too slow", "", "no loss was recorded")
    run = Run(config, history, steps, losses, baseline, reach or alone(history), {})
    measure(run)
    sensitivity = sensitivity_at_end(history, run.end)
    # The order matters: a loss without a gradient can neither oscillate nor fall, a network that overfits has a low
    # training loss, and a low loss has converged even if it oscillates.
    if sensitivity > 0 and run.grows and run.end > GROWN * max(float(losses[0]), baseline):
        return Diagnosis("diverged", "", evidence.growing(run), run.values)
    found = overfitting(run)
    if found is not None and found.harms:
        return _overfitting(run, found)
    return _of_loss(run, sensitivity)


def _of_loss(run: Run, sensitivity: float) -> Diagnosis:
    """Diagnose a training loss that has not grown, whatever the held-out rows say."""
    if run.is_low:
        return _converged(run)
    if "stopped" in run.history.tables:
        return _stopped_early(run, sensitivity)
    if sensitivity == 0 or (not run.falls and not run.grows and sensitivity <= FLAT):
        return _standing(run, evidence.level(run))
    if run.turns or (run.swings and not run.loss_is_near):
        return Diagnosis("oscillating", "", evidence.oscillating(run), run.values)
    if run.is_near and run.falls:
        return _improving(run)
    if run.is_near:
        return _converged(run)
    if run.is_within_noise:
        return _within_noise(run)
    return _behind(run)


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
    said = f"{values['map/converged_share']:.1%} of {axes.points:,} points converge"
    if values["map/not_finite_share"]:
        said += f", {values['map/not_finite_share']:.1%} end with a loss that is not finite"
    if "map/best_loss" in values:
        at = " and ".join(f"{axis.name} {values[f'map/best_{axis.name}']:.4g}" for axis in axes.axes)
        said += f"; the smallest loss is {values['map/best_loss']:.3g} at {at}"
    return Diagnosis("map", "", said)


# The diagnosis function for each kind of point.
DIAGNOSERS: dict[Kind, Callable[[Config, History], Diagnosis]] = {
    "network": diagnose_network,
    "range_test": diagnose_range_test,
    "map": diagnose_map,
    "balls": diagnose_balls,
    "basins": diagnose_basins,
}


def _overfitting(run: Run, found: Overfitting) -> Diagnosis:
    run.values["overfitting_since"] = float(found.since)
    said = evidence.rising(found)
    said += f", while the training loss fell from {found.trained_from:.3g} to {found.trained_to:.3g}"
    if found.metric:
        said += f" and the {metric_name(found.metric)} went from {found.metric_from:.4g} to {found.metric_to:.4g}"
    better = run.reach.smaller_rate
    # Slower training overfits later, so that a smaller rate does better on the test rows. That the rate is too large
    # shows in the training rows.
    if better is not None and better.loss < run.level - run.reach.loss_tolerance(run.baseline):
        return Diagnosis("overfitting", TOO_LARGE, f"{said}{evidence.too_large(run)}", run.values)
    return Diagnosis("overfitting", "", said, run.values)


def _converged(run: Run) -> Diagnosis:
    """Diagnose a loss that is low, or stands still near the best."""
    said = evidence.level(run)
    reached = first_below(run.losses, run.goal)
    if reached < len(run.losses):
        since = int(run.steps[reached])
        run.values["epochs_to_low_loss"] = float(since)
        said += f"; {evidence.goal(run)} first reached at epoch {since:,}"
    if not run.is_low:
        said += f"; it stands still{evidence.near(run)}"
    if run.swings or run.turns:
        said += f"; it oscillates: {run.values['roughness']:.0%} of its movement in the second half is upward"
    if "stopped" in run.history.tables:
        said += f"; {stopped(run.config, run.history)}"
    found = overfitting(run)
    if found is not None and not found.harms:
        said += (
            f"; {evidence.rising(found)}, but the {metric_name(found.metric)} has got better, to {found.metric_to:.4g}"
        )
    return Diagnosis("converged", "", said, run.values)


def _improving(run: Run) -> Diagnosis:
    said = evidence.improving(run)
    # The training loss is a mean over the epoch. The test rows see the weights at its end, which large steps move.
    if not run.metric_is_near and run.reach.smaller_rate is not None:
        return Diagnosis("improving", TOO_LARGE, f"{said}{evidence.too_large(run)}", run.values)
    return Diagnosis("improving", "", said, run.values)


def _within_noise(run: Run) -> Diagnosis:
    """Diagnose a run that cannot be told from the best, because the seeds of its point are far apart."""
    if run.falls:
        return Diagnosis("improving", SEEDS_DIFFER, evidence.within_noise(run), run.values)
    return Diagnosis("converged", SEEDS_DIFFER, evidence.within_noise(run), run.values)


def _stopped_early(run: Run, sensitivity: float) -> Diagnosis:
    ended = f"{evidence.level(run)}; {stopped(run.config, run.history)}"
    if run.is_near and run.reach.points > 1:
        return _converged(run)
    if sensitivity <= FLAT:
        return _standing(run, ended)
    said = f"{ended}, with a gradient of {final_gradient(run.history):.2g}"
    return Diagnosis("stalled", "line search", said, run.values)


def _standing(run: Run, said: str) -> Diagnosis:
    """Diagnose a loss with hardly any gradient: it is in a minimum, which may be as low as any, or it is stalled."""
    # The gradient is small at this loss, but steps that were too large have led to it.
    if run.values.get("loss_over_baseline", math.inf) > GROWN:
        said += "; it grew to this value"
    found = stalled(run.config, run.history, said, run.values)
    if found.cause == "flat" and run.is_near:
        return _converged(run)
    return found


def _behind(run: Run) -> Diagnosis:
    """Diagnose a run that ends behind the best of its group."""
    if not run.falls:
        found = stalled(run.config, run.history, evidence.level(run), run.values)
        # A cause that is seen in the weights needs no gradient that is nearly zero.
        if found.cause != "flat":
            return found
    cause = ""
    if evidence.too_large(run):
        cause = TOO_LARGE
    if run.overshot and run.now > GROWN * run.baseline:
        return Diagnosis("diverged", "", f"{evidence.level(run)}; {run.overshot}", run.values)
    if cause and not run.has_learnt:
        said = f"{evidence.level(run)}{evidence.too_large(run)}"
        return Diagnosis("stalled", cause, said, run.values)
    # A loss that stands still with steps of a normal size is not slow: the steps are too large to get any lower.
    stands = not run.falls or (cause and evidence.is_out_of_sight(run))
    if stands and run.step > SMALL_STEP and (cause or len(run.losses) >= ENOUGH):
        return Diagnosis("stalled", cause or "plateau", evidence.plateau(run), run.values)
    return Diagnosis("too slow", cause, evidence.slow(run), run.values)
