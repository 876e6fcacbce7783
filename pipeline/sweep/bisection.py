"""Find the learning rates at which networks break by training them: double or halve until one breaks, then bisect.

All networks of one shape train as one stack, each at a rate of its own, so that ten bisections of many networks take as
long as ten trainings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.backends.choose import trainer
from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.diagnosis.start import loss_rose
from pipeline.sweep.grouping import check_memory, stacks
from pipeline.sweep.shared_arrays import SharedArrays

# After these, the rates on either side differ by a factor of 2 ** (1 / 1024), or 0.07 %, if the first two did by 2.
BISECTIONS = 10
# The factor between two rates is squared each time: 2, 4, 16, ... A network that none of so many breaks has no rate.
MOST_FACTORS = 6


@dataclass
class Bracket:
    """The rates between which a network breaks.

    Attributes:
        rate: the rate to train at next.
        holds: the largest rate tried at which the loss stayed at or below its start; None if there was none yet.
        breaks: the smallest rate tried at which it rose above its start; None if there was none yet.
        bisections: the number of trainings since both were known.
    """

    rate: float
    holds: float | None = None
    breaks: float | None = None
    bisections: int = 0
    _factor: float = 2.0
    _tried: int = 0

    @property
    def done(self) -> bool:
        """Whether no further training is needed: the bracket is narrow, or there is none."""
        return self.bisections == BISECTIONS or self._tried == MOST_FACTORS

    def note(self, rose: bool) -> None:
        """Note whether the loss rose at `rate`, and choose the next one."""
        bisected = self.holds is not None and self.breaks is not None
        if rose:
            self.breaks = self.rate
        else:
            self.holds = self.rate
        if self.holds is not None and self.breaks is not None:
            self.bisections += bisected
            # The product of the two may be beyond the numbers that there are.
            self.rate = math.sqrt(self.holds) * math.sqrt(self.breaks)
            return
        self._tried += 1
        if rose:
            self.rate /= self._factor
        else:
            self.rate *= self._factor
        self._factor **= 2


def bisect(configs: Sequence[Config], starts: Sequence[float], data: SharedArrays) -> Iterator[list[Bracket]]:
    """Narrow the rates at which networks break, and yield the brackets after each training of those not done yet.

    Args:
        configs: the networks, each with one seed.
        starts: the rate to begin with, for each of them.
        data: holds their data.

    Raises:
        LabError: a network does not fit in memory.
    """
    brackets = [Bracket(rate) for rate in starts]
    left = list(range(len(configs)))
    while left:
        changed = [_at(configs[index], brackets[index].rate) for index in left]
        outlines = [data.outline(config) for config in changed]
        for stack in stacks(list(zip(changed, outlines, strict=True))):
            members = [changed[position] for position in stack]
            check_memory(members[0], outlines[stack[0]])
            histories = [History() for _ in members]
            trainer(members[0])(members, data.load(members[0]), histories, _quiet)
            for position, history in zip(stack, histories, strict=True):
                brackets[left[position]].note(loss_rose(history))
        left = [index for index in left if not brackets[index].done]
        yield brackets


def _at(config: Config, rate: float) -> Config:
    """Return the config of a network at a rate, with no more records than are looked at."""
    optimizer = config.optimizer.model_copy(update={"learning_rate": rate})
    recording = config.recording.model_copy(update={"snapshots": 2, "curvature": False, "weight_metrics": False})
    return config.model_copy(update={"optimizer": optimizer, "recording": recording})


def _quiet(epoch: int, loss: float) -> None:
    """Show no progress of a single training: `doing` counts the trainings."""
