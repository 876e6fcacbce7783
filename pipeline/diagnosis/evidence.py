"""The evidence for a verdict on a network, in words."""

from __future__ import annotations

import math

from pipeline.backends.shared.history import History
from pipeline.config.metrics import metric_name
from pipeline.diagnosis.overfitting import Overfitting
from pipeline.diagnosis.run import Run
from pipeline.diagnosis.stalled import final_gradient
from pipeline.diagnosis.thresholds import FORESEEABLE, GOAL, TREND
from pipeline.diagnosis.trends import epochs_needed
from pipeline.system.wording import roughly


def level(run: Run) -> str:
    """Compare the last loss with the baseline, for instance `loss 20, 34% of the baseline 58.7`."""
    if not run.baseline:
        return f"loss {run.end:.3g}, and the baseline is 0: all training targets are the same"
    return f"loss {run.end:.3g}, {_times(run.share)} the baseline {run.baseline:.3g}"


def _times(share: float) -> str:
    """Format a share so that `loss 20, SHARE the baseline` reads well: `34% of`, `12 times`."""
    if share > 10_000:
        return f"{share:.2g} times"
    if share > 10:
        return f"{share:,.0f} times"
    if share < 0.001:
        return "less than 0.1% of"
    if share < 0.1:
        return f"{share:.1%} of"
    return f"{share:.0%} of"


def not_finite(history: History) -> str:
    """Say when the loss was no longer finite."""
    said = f"the loss was not a finite number after {history.diverged_step:,} updates"
    if history.last_finite_loss is not None:
        said += f", last finite loss {history.last_finite_loss:.3g}"
    return said


def growing(run: Run) -> str:
    """Say by how much a loss has grown."""
    first = float(run.losses[0])
    grown = "up from an initial loss of 0"
    if first:
        grown = f"{run.end / first:.3g} times the initial loss"
    return f"{level(run)}, {grown} and still growing"


def oscillating(run: Run) -> str:
    """Say how much of the movement of a loss, and of a weight, is back and forth."""
    said = f"{level(run)}; {run.values['roughness']:.0%} of the loss's movement in the second half is upward"
    if "reversals" in run.values:
        said += f"; one weight changes direction in {run.values['reversals']:.0%} of its updates"
    return said


def plateau(run: Run) -> str:
    """Say that a loss stands still although the steps are not small."""
    moves = "stands still"
    if run.grows:
        moves = "rises again"
    said = f"{level(run)}; it {moves}{behind(run)}, with steps of {run.step:.2g} of the weights"
    gradient = final_gradient(run.history)
    if gradient:
        said += f" and a gradient of {gradient:.2g}"
    return f"{said}{too_large(run)}"


def near(run: Run) -> str:
    """Compare a run that ends near the best of its group with the best, and say in which of the two it is behind."""
    if run.reach.points == 1:
        return "; no other training shows what can be reached"
    said = f"; the best training loss of {run.reach.points} trainings is {run.reach.loss:.3g}"
    value = run.final.get(run.reach.metric)
    if value is None or run.loss_is_near == run.metric_is_near:
        return said
    where = "behind"
    if run.metric_is_near:
        where = "near"
    return f"{said}, but its {metric_name(run.reach.metric)} {value:.4g} is {where} the best, {run.reach.best:.4g}"


def behind(run: Run) -> str:
    """Name the best of the group, which a run ends behind; empty for a run alone."""
    if run.reach.points == 1:
        return ""
    said = f" behind the best of {run.reach.points} trainings, a loss of {run.reach.loss:.3g}"
    value = run.final.get(run.reach.metric)
    # A metric of the training rows says the same as their loss.
    if value is not None and not math.isnan(run.reach.best) and not run.reach.metric.startswith("train/"):
        said += f" ({metric_name(run.reach.metric)} {value:.4g}, the best {run.reach.best:.4g})"
    return said


def within_noise(run: Run) -> str:
    """Say that a run ends behind the best by no more than the seeds of its point differ."""
    name = metric_name(run.reach.metric)
    moves = "stands still"
    if run.falls:
        moves = "is still falling,"
    noise = run.reach.own_noise[run.reach.metric]
    return (
        f"{level(run)}; it {moves}{behind(run)}, but the seeds are too far apart to tell this rate from the best: the "
        f"standard deviation of their {name} is about {noise:.2g}"
    )


def goal(run: Run) -> str:
    """Name the loss from which on a run is near the best of its group."""
    # Beside a best of nearly 0, both are the same.
    if run.reach.points == 1 or run.reach.loss <= TREND * GOAL * run.baseline:
        return f"{GOAL:.0%} of the baseline"
    return f"{run.goal:.3g}, near the best,"


def rising(found: Overfitting) -> str:
    """Say since when the loss of the held-out rows rises."""
    return f"since epoch {found.since:,} the {found.rows} loss has risen from {found.lowest:.3g} to {found.end:.3g}"


def _needed(run: Run) -> float | None:
    """Extrapolate the number of epochs that a run needs to come near the best; None if it has too few records."""
    # A baseline of 0 would need the logarithm of 0.
    if run.goal > 0:
        return epochs_needed(run.steps, run.losses, run.goal)
    return math.inf


def is_out_of_sight(run: Run) -> bool:
    """Whether a run would need more than FORESEEABLE times its epochs to come near the best."""
    needed = _needed(run)
    return needed is not None and needed > FORESEEABLE * int(run.steps[-1])


def pace(run: Run) -> str:
    """Say how many epochs a run needs to come near the best, and note the number among its values."""
    trained = int(run.steps[-1])
    needed = _needed(run)
    if needed is None:
        epochs = "1 epoch"
        if trained != 1:
            epochs = f"{trained:,} epochs"
        return f"after {epochs}, too few data points for a trend"
    reaching = f"reaching {goal(run)} would take"
    if needed > FORESEEABLE * trained:
        return f"at the pace of the second half, {reaching} more than {FORESEEABLE * trained:,} epochs"
    run.values["epochs_needed"] = needed
    return f"still falling; at this pace, {reaching} about {roughly(needed)} epochs ({trained:,} trained)"


def slow(run: Run) -> str:
    """Say how far behind the best a run ends that still falls, and how long it needs."""
    said = f"{level(run)}, {pace(run)}"
    if run.reach.points > 1:
        said += f"; it ends{behind(run)}"
    return f"{said}{too_large(run)}"


def improving(run: Run) -> str:
    """Say how much a run that ends near the best has still fallen."""
    if len(run.losses) == 1:
        return f"{level(run)}, {pace(run)}{near(run)}"
    late = int(run.steps[run.late])
    # The line through the records, not the difference of two of them.
    fallen = run.trend.fall / (run.end + run.trend.fall)
    return f"{level(run)}; it fell by {fallen:.0%} since epoch {late:,} and is still falling{near(run)}"


def too_large(run: Run) -> str:
    """Say why the rate is too large: the first steps overshot, or a smaller rate ended better; empty if it is not."""
    said = _rise(run)
    better = run.reach.smaller_rate
    if better is not None:
        said += f"; the smaller rate {better.rate:g} ends better, with {metric_name(better.metric)} {better.value:.4g}"
        if better.seeds > 1:
            said += f", the mean of {better.seeds} seeds"
    return said


def _rise(run: Run) -> str:
    if not run.overshot:
        return ""
    return f"; {run.overshot}"
