"""What a command asks for, and what earlier commands have done of it; prints it, where that is all that is wanted.

Like jobs.py, this imports nothing that trains, draws or writes to MLflow.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.points.checked import CheckedPoints
from pipeline.points.job import Job, summary
from pipeline.points.point import Outcome
from pipeline.sweep.jobs import JobMaker
from pipeline.sweep.tables import plan_table
from pipeline.system.last_line import doing

log = logging.getLogger(__name__)


class Plan:
    """The points of one command, with their states.

    Args:
        maker: makes the jobs.
        read: whether to read all points that are done, also those that have been read and have not changed since.

    Attributes:
        jobs: all points requested so far, by signature, in the order of the requests.
    """

    def __init__(self, maker: JobMaker, read: bool) -> None:
        self.maker = maker
        self.jobs: dict[str, Job] = {}
        self._read = read
        self._checked = CheckedPoints(maker.root)

    @property
    def name(self) -> str:
        """Study and backend, for instance `three_bits numpy`, as a name for messages and the parent run."""
        return f"{self.maker.first.study} {self.maker.first.backend.name}"

    def request(self, requests: Sequence[tuple[Config, list[str]]]) -> tuple[list[Job], list[Job]]:
        """Make the jobs of further points, and read from disk what earlier commands have done for them.

        Args:
            requests: the config of each point, and the overrides typed for it.

        Returns:
            The jobs in the order of the requests, and those of them that are new: points with the same signature are
            one job.

        Raises:
            LabError: the data of a point is missing; or Keras has no engine.
        """
        with doing("preparing points", len(requests)) as step:
            requested = []
            for config, overrides in requests:
                requested.append(self.maker.job(config, overrides))
                step.count(len(requested), len(requests))
        # `setdefault` returns the first job with a signature, so a repeated point is not new.
        new = [job for job in requested if self.jobs.setdefault(job.signature, job) is job]
        with doing("reading earlier points", len(new)) as step:
            for number, job in enumerate(new, start=1):
                self._checked.look(job, self._read)
                # With `force` no earlier result counts, not even one that this machine cannot read.
                if self.maker.first.force and job.state != "to run":
                    job.state = "to run"
                step.count(number, len(new))
        return requested, new

    def keep(self) -> None:
        """Keep which points are complete, so that the next command knows it without reading them."""
        for job in self.jobs.values():
            if job.state == "complete":
                self._checked.add(job)
        self._checked.save()

    def announce(self, requested: Sequence[Job], new: Sequence[Job]) -> None:
        """Log how many points are done, and which results of earlier commands cannot be used."""
        for job in new:
            if job.error is not None and job.state != "failed":
                log.warning(f"{job.name} is retrained. {job.error}")
        if new:
            log.info(f"{self.name}: {summary(new, len(requested) - len(new))}")


class DryRun:
    """Stands for the sweep of a command that only prints what it would train.

    Args:
        project: folder that holds data/.
        first: config of the first point.

    Raises:
        LabError: the data of the first point is missing.
    """

    def __init__(self, project: Path, first: Config) -> None:
        self._plan = Plan(JobMaker(project, first), read=False)

    def train_all(
        self, requests: Sequence[tuple[Config, list[str]]], _batch_size: int | None = None
    ) -> list[Outcome | None]:
        """Note points, and return None for each, because it has no outcome."""
        requested, new = self._plan.request(requests)
        self._plan.announce(requested, new)
        return [None for _ in requested]

    def finish(self) -> None:
        """Print the table of points."""
        print(plan_table(list(self._plan.jobs.values()), self._plan.name, columns()), flush=True)


def columns() -> int | None:
    """Return the width of the terminal; None if stdout is no terminal, so that nothing has to fit."""
    if not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns
