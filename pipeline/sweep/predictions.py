"""What the curvature at the start says about the points of a command: the rate at which each breaks, as a table.

With `breaking_rate=true`, training is looked at as well: see bisection.py.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from pipeline.backends.curvature.breaking import FORMULAS
from pipeline.backends.curvature.prediction import predict
from pipeline.config.schema import NO_SETTINGS, Config
from pipeline.points.breaking_rates import (
    BreakingRate,
    add_breaking_rates,
    file_by_hand,
    file_for,
    network_of,
    read_breaking_rates,
    training_of,
)
from pipeline.points.destination import results_folder
from pipeline.points.job import Job
from pipeline.points.point import POINTS, Outcome
from pipeline.points.repeats import groups_of_repeats, seeds_of
from pipeline.studies.breaking import bisected_text, median_text
from pipeline.sweep.bisection import BISECTIONS, bisect
from pipeline.sweep.jobs import JobMaker
from pipeline.sweep.plan import columns
from pipeline.sweep.tables import knob_columns, seeds_text, table_title, titled_table, words
from pipeline.system.last_line import doing


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
        """Predict, print the table of points, and write it for the report.

        Raises:
            LabError: the file for the report cannot be written.
        """
        first = self._maker.first
        file = self._file()
        # Checked before the work, which may take minutes.
        read_breaking_rates(file)
        groups = _without_rates(list(self._jobs.values()))
        seeds = [_one_rate(group) for group in groups]
        jobs = [job for group in seeds for job in group]
        found: list[BreakingRate] = []
        with doing("predicting", len(jobs)) as step:
            for job in jobs:
                found.append(self._predict(job.config))
                step.count(len(found), len(jobs))
        add_breaking_rates(file, found)
        if first.breaking_rate:
            found = self._seen(jobs, found)
            add_breaking_rates(file, found)
        by_group = _parts(found, list(map(len, seeds)))
        print(_table(groups, by_group, f"{first.study} {first.backend.name}"))
        # A line each: in a column they would widen the table.
        for reason in dict.fromkeys(one.unclear for one in found if one.unclear):
            print(f"no prediction: {reason}")
        sys.stdout.flush()

    def _file(self) -> Path:
        """Return the file for the report."""
        first = self._maker.first
        if first.results is None:
            return file_by_hand(first.study, self._maker.root / POINTS)
        return file_for(results_folder(first.results, self._maker.project))

    def _predict(self, config: Config) -> BreakingRate:
        found = predict(config, self._maker.data.load(config), config.curvature.rows)
        return BreakingRate(
            network=network_of(config),
            seed=config.seed,
            split_seed=seeds_of(config)[1],
            batches=config.training.batch_size is not None,
            method=config.optimizer.name,
            curvature=_finite(found.curvature),
            predicted=_finite(found.breaking_rate),
            unclear=found.unclear,
        )

    def _seen(self, jobs: Sequence[Job], found: Sequence[BreakingRate]) -> list[BreakingRate]:
        """Return the predictions with the rates at which training was seen to hold and to break."""
        seen = list(found)
        starts = {
            index: one.predicted
            for index, (job, one) in enumerate(zip(jobs, found, strict=True))
            # The rate of a range test rises through all rates.
            if one.predicted is not None and job.config.kind == "network"
        }
        if not starts:
            return seen
        configs = [jobs[index].config for index in starts]
        total = BISECTIONS * len(starts)
        with doing("bisecting breaking rates", total, long=True) as step:
            for brackets in bisect(configs, list(starts.values()), self._maker.data):
                step.count(sum(bracket.bisections for bracket in brackets), total)
        for index, bracket in zip(starts, brackets, strict=True):
            training = training_of(jobs[index].config)
            seen[index] = replace(found[index], training=training, holds=bracket.holds, breaks=bracket.breaks)
        return seen


def _finite(value: float) -> float | None:
    if math.isfinite(value):
        return value
    return None


def _parts(found: Sequence[BreakingRate], lengths: Sequence[int]) -> list[list[BreakingRate]]:
    """Split a list into parts of these lengths."""
    left = iter(found)
    return [[next(left) for _ in range(length)] for length in lengths]


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


def _table(groups: Sequence[Sequence[Job]], found: Sequence[Sequence[BreakingRate]], title: str) -> str:
    """Format the predictions: of several seeds the median, with the smallest and the largest."""
    names, constant = knob_columns(groups)
    names = [name for name in names if name not in ("learning_rate", "seed")]
    headings = ["curvature L", "breaks at", "formula", "rates below", "rates above"]
    seen = any(one.training for group in found for one in group)
    if seen:
        headings.insert(2, "seen at")
    rows = [[*map(words, names), *headings]]
    for group, rates in zip(groups, found, strict=True):
        knobs = [group[0].knobs.get(name, "") for name in names]
        cells = _cells(group, rates)
        if seen:
            cells.insert(2, bisected_text(rates))
        rows.append([*knobs, *cells])
    head = table_title(title, constant, [job for group in groups for job in group])
    seeds = {seeds_text(_one_rate(group)) for group in groups}
    if len(seeds) == 1 and len(_one_rate(groups[0])) > 1:
        head.append(f"seeds {seeds.pop()}")
    return titled_table(head, rows, columns())


def _cells(group: Sequence[Job], found: Sequence[BreakingRate]) -> list[str]:
    """Return the curvature, the breaking rate, its formula, and the rates of the grid on either side of it."""
    breaking = [one.predicted for one in found if one.predicted is not None]
    curvature = [one.curvature for one in found if one.curvature is not None]
    if len(breaking) < len(found):
        return ["", "no prediction", "", "", ""]
    rates = sorted({job.config.optimizer.learning_rate for job in group})
    middle = median(breaking)
    below = ", ".join(f"{rate:g}" for rate in rates if rate < middle)
    above = ", ".join(f"{rate:g}" for rate in rates if rate >= middle)
    formula = FORMULAS[group[0].config.optimizer.name].text
    return [median_text(curvature), median_text(breaking), formula, below, above]
