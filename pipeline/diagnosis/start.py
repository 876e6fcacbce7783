"""Whether the first steps were too large: the loss above its start, and the rate that the curvature there allows."""

from __future__ import annotations

import math
from dataclasses import replace

from pipeline.backends.shared.history import History
from pipeline.diagnosis.verdicts import LARGE_STEPS, Diagnosis
from pipeline.system.wording import three_digits

# How far above its start a training loss counts as having risen. The breaking rate is where the loss stops falling at
# each update; the noise of minibatches and rounding stay below this.
RISEN = 1.01
# The verdicts that steps which are too large can lead to, whatever the cause is.
TOO_FAR = ("diverged", "oscillating", "stalled")
ALLOWED = "curvature/breaking_rate"


def loss_rose(history: History) -> bool:
    """Whether the training loss was ever more than 1 % above its start, or no longer finite."""
    if history.diverged_step is not None:
        return True
    _, losses = history.series("train/loss")
    return bool((losses > RISEN * start_loss(history)).any())


def start_loss(history: History) -> float:
    """Return the loss before the first update; NaN if no loss was recorded.

    With minibatches the first training loss is a mean over the first epoch. Then it is that of validation or test rows.
    """
    for name in ("train/loss", "validation/loss", "test/loss"):
        steps, losses = history.series(name)
        if len(steps) and steps[0] == 0:
            return float(losses[0])
    _, losses = history.series("train/loss")
    return next(iter(losses.tolist()), math.nan)


def recorded_rate(history: History) -> float | None:
    """Return the breaking rate that was recorded before the first update; None if it was not."""
    steps, rates = history.series(ALLOWED)
    if not len(steps) or steps[0] != 0:
        return None
    return float(rates[0])


def with_allowed_rate(found: Diagnosis, rate: float, allowed: float | None) -> Diagnosis:
    """Add to the evidence of steps that were too large how the rate compares with what the curvature allows.

    Args:
        found: the diagnosis of a network.
        rate: its learning rate.
        allowed: the predicted breaking rate; None: there is none.
    """
    if allowed is None or not (found.verdict in TOO_FAR or found.cause in LARGE_STEPS):
        return found
    if rate > allowed:
        said = f"the rate was {three_digits(rate / allowed)} times what the curvature at the start allows"
    elif found.verdict == "diverged":
        said = f"the curvature at the start allows rates up to {three_digits(allowed)}"
    else:
        return found
    return replace(found, evidence=f"{found.evidence}; {said}")
