"""What the curvature at the start says about the points of a command: the rate at which each breaks, as a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from pipeline.backends.curvature.breaking import FORMULAS
from pipeline.backends.curvature.prediction import Prediction, predict
from pipeline.config.schema import NO_SETTINGS, Config
from pipeline.points.job import Job
from pipeline.points.point import Outcome
from pipeline.points.repeats import groups_of_repeats
from pipeline.sweep.jobs import JobMaker
from pipeline.sweep.plan import columns
from pipeline.sweep.tables import knob_columns, seeds_text, table_title, titled_table, words
from pipeline.system.last_line import doing
from pipeline.system.wording import three_digits


class Predictions:
    """Stands for the sweep of a command that predicts where its points break, and trains none.

    Args:
        project: folder that holds data/.
        first: config of the first point.

    Raises:
        LabError: the data of the first point is missing.
    """

    def __init__(self, project: Path, first: Config) -> None:
        self._maker = JobMaker(project, first)
        self._jobs: dict[str, Job] = {}

    def train_all(
        self, requests: Sequence[tuple[Config, list[str]]], _batch_size: int | None = None
    ) -> list[Outcome | None]:
        """Note points, and return None for each, because it has no outcome."""
        for config, overrides in requests:
            job = self._maker.job(config, overrides)
            self._jobs.setdefault(job.signature, job)
        return [None for _ in requests]

    def finish(self) -> None:
        """Predict, and print the table of points."""
        groups = _without_rates(list(self._jobs.values()))
        seeds = [_one_rate(group) for group in groups]
        found: list[list[Prediction]] = []
        with doing("predicting", sum(map(len, seeds))) as step:
            for group in seeds:
                found.append([])
                for job in group:
                    found[-1].append(self._predict(job.config))
                    step.count(sum(map(len, found)), sum(map(len, seeds)))
        first = self._maker.first
        print(_table(groups, found, f"{first.study} {first.backend.name}"))
        # A line each: in a column they would widen the table.
        for reason in dict.fromkeys(one.unclear for group in found for one in group if one.unclear):
            print(f"no prediction: {reason}")
        sys.stdout.flush()

    def _predict(self, config: Config) -> Prediction:
        return predict(config, self._maker.data.load(config), config.curvature.rows)


def _without_rates(jobs: Sequence[Job]) -> list[list[Job]]:
    """Return the jobs that differ in nothing but their learning rate and their seed together."""
    settings: list[dict[str, Any]] = []
    for job in jobs:
        own = job.config.model_dump(mode="json", exclude=NO_SETTINGS)
        del own["optimizer"]["learning_rate"]
        settings.append(own)
    return [[jobs[index] for index in members] for members in groups_of_repeats(settings)]


def _one_rate(group: Sequence[Job]) -> list[Job]:
    """Return one job for each seed: what is predicted does not depend on its rate."""
    return list({job.config.seed: job for job in group}.values())


def _table(groups: Sequence[Sequence[Job]], found: Sequence[Sequence[Prediction]], title: str) -> str:
    """Format the predictions: of several seeds the median, with the smallest and the largest."""
    names, constant = knob_columns(groups)
    names = [name for name in names if name not in ("learning_rate", "seed")]
    rows = [[*map(words, names), "curvature L", "breaks at", "formula", "rates below", "rates above"]]
    for group, predictions in zip(groups, found, strict=True):
        knobs = [group[0].knobs.get(name, "") for name in names]
        rows.append([*knobs, *_cells(group, predictions)])
    head = table_title(title, constant, [job for group in groups for job in group])
    seeds = {seeds_text(_one_rate(group)) for group in groups}
    if len(seeds) == 1 and len(_one_rate(groups[0])) > 1:
        head.append(f"seeds {seeds.pop()}")
    return titled_table(head, rows, columns())


def _cells(group: Sequence[Job], predictions: Sequence[Prediction]) -> list[str]:
    """Return the curvature, the breaking rate, its formula, and the rates of the grid on either side of it."""
    if any(one.unclear for one in predictions):
        return ["", "no prediction", "", "", ""]
    curvature = _range([one.curvature for one in predictions])
    breaking = [one.breaking_rate for one in predictions]
    rates = sorted({job.config.optimizer.learning_rate for job in group})
    middle = median(breaking)
    below = ", ".join(f"{rate:g}" for rate in rates if rate < middle)
    above = ", ".join(f"{rate:g}" for rate in rates if rate >= middle)
    return [curvature, _range(breaking), FORMULAS[group[0].config.optimizer.name].text, below, above]


def _range(values: Sequence[float]) -> str:
    """Return the median, and of several different values the smallest and the largest."""
    middle = three_digits(median(values))
    smallest = three_digits(min(values))
    largest = three_digits(max(values))
    if smallest == largest:
        return middle
    return f"{middle} ({smallest} to {largest})"
