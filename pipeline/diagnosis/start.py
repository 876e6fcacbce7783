"""Whether the first steps were too large: the loss above its start, and the rate that the curvature there allows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

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
    """Whether a recorded loss was more than 1 % above its start, or the training loss no longer finite."""
    if history.diverged_step is not None:
        return True
    losses = losses_from_start(history)
    return bool(len(losses)) and bool((losses > RISEN * losses[0]).any())


def losses_from_start(history: History) -> NDArray[np.float64]:
    """Return the recorded losses of the training rows, (records,), the first of them from before the first update.

    With minibatches the training loss is a mean over an epoch, computed while the weights change, with dropout and the
    statistics of the batches. Then they are those of the validation or test rows. If these have no loss from before
    the first update either, the losses are those of training all the same.
    """
    for name in ("train/loss", "validation/loss", "test/loss"):
        steps, losses = history.series(name)
        if len(steps) and steps[0] == 0:
            return losses
    _, losses = history.series("train/loss")
    return losses


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
    # A curvature that is not finite allows a rate of 0.
    if not allowed or not (found.verdict in TOO_FAR or found.cause in LARGE_STEPS):
        return found
    if rate > allowed:
        said = f"the rate was {three_digits(rate / allowed)} times what the curvature at the start allows"
    elif found.verdict == "diverged":
        said = f"the curvature at the start allows rates up to {three_digits(allowed)}"
    else:
        return found
    return replace(found, evidence=f"{found.evidence}; {said}")
