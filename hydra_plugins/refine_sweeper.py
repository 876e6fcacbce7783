"""A Hydra sweeper that refines the learning rate around the best one, for each combination of the other knobs.

The search itself knows nothing of Hydra: `pipeline/sweep/refinement.py` chooses the rates of one combination, and
`pipeline/sweep/combinations.py` makes rounds of them. Each round is one call of the launcher, and so one stack.
"""

import importlib
import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import IntervalSweep
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins import stacked_sweeper
from pipeline.sweep.combinations import RATE, Combination, combinations, next_round
from pipeline.system.errors import LabError

# A process that looks for plugins twice, as tests do, executes all their modules anew, this one before the one with the
# class that it derives from. That would be the class from the first import, whose base is no longer in its module.
importlib.reload(stacked_sweeper)

# The number of rates per decade into which an interval is divided, ends included, and the smallest number in all.
RATES_PER_DECADE = 2
LEAST_RATES = 5
TOLERANCES = (0.01, 1.0)
MOST_BEYOND = 10.0


class RefineSweeper(stacked_sweeper.StackedSweeper):
    """Trains some of the rates of a grid, then rates around the best, until it is known to a tolerance.

    Args:
        tolerance: decades between the best rate and the rates next to it at which its search ends.
        every: the search begins with every n-th of the listed rates.
        beyond: decades by which rates may lie beyond those listed, on each side.
        most_points: maximum number of trainings of the command, each seed counted; None: no limit.
        options: those of the stacked sweeper.
    """

    def __init__(self, tolerance: float, every: int, beyond: float, most_points: int | None, **options: Any) -> None:
        super().__init__(**options)
        self.tolerance = tolerance
        self.every = every
        self.beyond = beyond
        self.most_points = most_points

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher.

        Raises:
            LabError: a value of the sweeper or the launcher cannot be used.
        """
        _check_decades("tolerance", self.tolerance, *TOLERANCES)
        _check_decades("beyond", self.beyond, 0.0, MOST_BEYOND)
        stacked_sweeper.check_number("every", self.every, 1, "every rate")
        stacked_sweeper.check_number("most_points", self.most_points, 1, "no limit")
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        # `cli.run` has wrapped the task to catch its errors.
        task: Any = inspect.unwrap(task_function)
        self.command = getattr(task, "__self__", None)

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Run the rounds of all searches, and return their jobs.

        Args:
            arguments: the overrides as typed.

        Raises:
            LabError: the sweep has no learning rates that can be refined, or does not fit in the budget.
        """
        # `setup` has made both.
        config: Any = self.config
        launcher: Any = self.launcher
        members = combinations(self._grid(arguments), self.tolerance, self.beyond)
        folder = Path(str(config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        # As Hydra's basic sweeper does.
        OmegaConf.save(config, folder / "multirun.yaml")
        for one in members:
            one.repeats = int(self._compose(one.overrides).get("repeats", 1))
        returns: list[Sequence[JobReturn]] = []
        number = 0
        while batch := next_round(members, self.every or 1, self.most_points):
            jobs = launcher.launch([one.point(rate) for one, rate in batch], initial_job_idx=number)
            number += len(batch)
            returns.append(jobs)
            for (one, rate), job in zip(batch, jobs, strict=True):
                score = job.return_value
                # The score of a task of another kind is a plain number.
                one.known[rate] = getattr(score, "by_seed", None) or (float(score),)
        self._leave_lines(members)
        return returns

    def _grid(self, arguments: list[str]) -> Sequence[Sequence[str]]:
        """Return all points of the grid from which the search begins, each as a list of overrides."""
        arguments = self._written_out(arguments, self.config)
        points = self._points_of_choices(arguments)
        if not points:
            (points,) = self.split_arguments(self._parsed([*self._parse_config(), *arguments]), None)
        return points

    def _written_out(self, overrides: list[str], config: Any) -> list[str]:
        """Return overrides with their spaced values written out, and an interval of learning rates with them."""
        lines = []
        for text, override in zip(overrides, self._parsed(overrides), strict=True):
            line = text
            interval = override.value()
            if isinstance(interval, IntervalSweep) and override.key_or_group == RATE:
                line = f"{override.get_key_element()}={_listed(interval)}"
            lines.append(line)
        return super()._written_out(lines, config)

    def _leave_lines(self, members: Sequence[Combination]) -> None:
        """Leave the command a line on each combination; none if it has not trained, as in a dry run."""
        if self.command is not None and not getattr(self.command, "idle", True):
            self.command.last_lines += ["", *(one.line() for one in members)]


def _listed(interval: IntervalSweep) -> str:
    """Return the spaced rates of an interval as an override has them."""
    start = interval.start
    end = interval.end
    if start is None or end is None or not 0 < start < end < math.inf:
        raise LabError(
            "hydra/sweeper=refine cannot use this interval of learning rates.",
            expected="interval(START,END) with 0 < START < END",
            received=f"{RATE}=interval({start},{end})",
            fix=f"{RATE}=interval(0.001,0.1)",
        )
    count = max(LEAST_RATES, RATES_PER_DECADE * math.ceil(math.log10(end) - math.log10(start)) + 1)
    return f"logspace({start!r},{end!r},{count})"


def _check_decades(key: str, value: object, least: float, most: float) -> None:
    """Check a key of the sweeper that counts decades.

    Raises:
        LabError: the value is not a number between the two.
    """
    # In Python True is an int too.
    if isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most:
        return
    raise LabError(
        f"hydra.sweeper.{key} cannot be used.",
        expected=f"a number of decades from {least:g} to {most:g}",
        received=repr(value),
        fix=f"hydra.sweeper.{key}={most:g}",
    )
