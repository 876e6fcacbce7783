"""A run of one network as a diagnosis sees it: its loss beside the baseline, its trend, and what its group reached."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.diagnosis.reach import Reach
from pipeline.diagnosis.thresholds import (
    ENOUGH,
    GOAL,
    GROWN,
    OVERSHOT,
    OVERSHOT_OF_OTHERS,
    REVERSALS,
    ROUGH,
    SURE,
    SWING,
    SWING_OF_MINIBATCHES,
    TREND,
)
from pipeline.diagnosis.trends import Trend, reversals, roughness, second_half, trend

Floats = NDArray[np.floating]
# The rows that are not trained on, those that training may look at first.
HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Run:
    """A run whose losses are all finite.

    Attributes:
        config: config of the point.
        history: history of the point.
        steps: (records,) the recorded epochs.
        losses: (records,) the training losses at these epochs.
        baseline: the loss of the best constant answer.
        reach: what its group reached.
        values: the numbers of the diagnosis, by name, filled in as they are found.
    """

    config: Config
    history: History
    steps: NDArray[np.int64]
    losses: Floats
    baseline: float
    reach: Reach
    values: dict[str, float]

    @property
    def end(self) -> float:
        """The last loss."""
        return float(self.losses[-1])

    @cached_property
    def late(self) -> int:
        """Index of the first record of the second half: what happens at the start says little about the end."""
        # A single record has no trend, so that the second half has two if there are two.
        return max(0, min(second_half(self.steps), len(self.losses) - 2))

    @cached_property
    def trend(self) -> Trend:
        """The trend of the second half."""
        return trend(self.steps[self.late :], self.losses[self.late :])

    @property
    def falls(self) -> bool:
        """Whether the loss still falls, by more than a person sees and by more than noise explains.

        A single record has no trend. Training has just begun then, so that nothing says that the loss stands still.
        """
        if len(self.losses) == 1:
            return True
        return self.trend.fall > TREND * self.end and self._is_clear

    @property
    def grows(self) -> bool:
        """Whether the loss still grows, likewise."""
        # Relative to the first record: the last one is larger.
        return -self.trend.fall > TREND * float(self.losses[self.late]) and self._is_clear

    @property
    def _is_clear(self) -> bool:
        """Whether the trend is more than noise."""
        return self.trend.steady or abs(self.trend.fall) > SURE * self.trend.error

    @property
    def level(self) -> float:
        """The loss at the end; of one that stands still the mean of the second half, which no single record moves."""
        if self.falls or self.grows:
            return self.end
        # Divided first, because a sum of large values overflows.
        late = self.losses[self.late :]
        return float((late / len(late)).sum())

    @property
    def share(self) -> float:
        """The last loss as a share of the baseline, which is 0 if all targets are the same."""
        if self.baseline:
            return self.end / self.baseline
        if self.end:
            return math.inf
        return 0.0

    @property
    def is_low(self) -> bool:
        """Whether the loss is close to 0: no group is needed to see that it has converged."""
        return self.end <= GOAL * self.baseline

    @property
    def now(self) -> float:
        """The loss at the end of training.

        With minibatches the recorded loss is a mean over an epoch, in which the first steps may have been much worse
        than the last ones. The held-out rows, if there are any, see the weights at its end.
        """
        held_out = [self.final[f"{rows}/loss"] for rows in HELD_OUT if f"{rows}/loss" in self.final]
        if self.config.training.batch_size is None or not held_out:
            return self.level
        return min(self.level, held_out[0])

    @property
    def has_learnt(self) -> bool:
        """Whether the network is better than a constant answer, and has become better since the start, by GOAL.

        Nothing is better than a constant answer where all targets are the same.
        """
        if not self.baseline:
            return self._has_moved
        return self.now < (1 - GOAL) * self.baseline and self._has_moved

    @cached_property
    def _has_moved(self) -> bool:
        """Whether a loss has fallen by GOAL since before training; also if none was recorded before training."""
        for rows in ("train", *HELD_OUT):
            steps, losses = self.history.series(f"{rows}/loss")
            if len(steps) and steps[0] == 0:
                return float(losses.min()) < (1 - GOAL) * float(losses[0])
        return True

    @property
    def goal(self) -> float:
        """The loss from which on the run is near the best of its group; alone, GOAL of the baseline."""
        if self.reach.points == 1:
            return GOAL * self.baseline
        return self.reach.loss + self.reach.loss_tolerance(self.baseline)

    @property
    def loss_is_near(self) -> bool:
        """Whether the training loss is near the best of the group."""
        return self.level <= self.reach.loss + self.reach.loss_tolerance(self.baseline)

    @cached_property
    def final(self) -> dict[str, float]:
        """The last value of every metric."""
        return self.history.final()

    @property
    def metric_is_near(self) -> bool:
        """Whether the metric that judges is near the best of the group; not if the group or the point lacks it."""
        value = self.final.get(self.reach.metric, math.nan)
        return self.reach.behind(value) <= self.reach.metric_tolerance()

    @property
    def is_near(self) -> bool:
        """Whether the run ends near the best of its group, in the training loss or in the metric that judges."""
        return self.has_learnt and (self.loss_is_near or self.metric_is_near)

    @property
    def is_within_noise(self) -> bool:
        """Whether the run ends behind the best, but by no more than the seeds of its point differ."""
        value = self.final.get(self.reach.metric, math.nan)
        return self.has_learnt and self.reach.smaller_rate is None and self.reach.is_within_own_noise(value)

    @property
    def step(self) -> float:
        """Size of the last update as a share of the norm of the weights; 0 if it was not recorded.

        Weights close to 0 do not indicate their scale, so a norm below 1 counts as 1.
        """
        norm = self.final.get("weights/norm", 1.0)
        return self.final.get("weights/update_ratio", 0.0) * norm / max(norm, 1.0)

    @property
    def turns(self) -> bool:
        """Whether a weight goes back and forth."""
        return self.values.get("reversals", 0.0) >= REVERSALS

    @property
    def swings(self) -> bool:
        """Whether the loss goes up and down, by more than the minibatches explain."""
        if len(self.losses) < ENOUGH or self.values["roughness"] < ROUGH:
            return False
        least = SWING
        if self.config.training.batch_size is not None:
            least = SWING_OF_MINIBATCHES
        return self.trend.swing > least * self.level

    @cached_property
    def overshot(self) -> str:
        """How the loss rose before it fell, in words; empty if it did not rise."""
        first = float(self.losses[0])
        peak = float(self.losses.max())
        if peak > (1 + OVERSHOT) * max(first, self.baseline):
            return f"it first rose to {peak:.3g}"
        # Training with minibatches has no record at epoch 0, so the rise may have happened before the first record. If
        # the data has rows that are not trained on, their loss before training tells it from a loss that began higher.
        held_out = (self.history.series(f"{rows}/loss") for rows in HELD_OUT)
        before = [values[0] for steps, values in held_out if len(steps) and steps[0] == 0]
        most = GROWN * self.baseline
        if len(before):
            most = (1 + OVERSHOT_OF_OTHERS) * max(self.baseline, before[0])
        if self.steps[0] > 0 and first > most:
            return f"the loss after the first epoch, {first:.3g}, is above the baseline: the first steps overshot"
        return ""


def measure(run: Run) -> None:
    """Compute the values that every diagnosis of a network has."""
    if math.isfinite(run.share):
        run.values["loss_over_baseline"] = run.share
    run.values["roughness"] = roughness(run.losses[run.late :])
    # Not applicable to minibatches, whose updates are not counted here, or to annealing, whose best network can move
    # anywhere.
    if run.config.training.batch_size is None and run.config.optimizer.name != "annealing":
        turns = reversals(run.history)
        if turns is not None:
            run.values["reversals"] = turns
