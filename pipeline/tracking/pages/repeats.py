"""The content of a repeated point's run: what its seeds have in common, and how far they are apart."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Sequence

from pipeline.backends.shared.history import Metric
from pipeline.config.data import SEEDS
from pipeline.config.metrics import METRIC_NAMES, judges
from pipeline.config.schema import MOST_REPEATS
from pipeline.points.point import Point
from pipeline.points.repeats import SPLIT_SEED, in_order, seeds_of, split_anew
from pipeline.studies.grids import Cell, cell_metric
from pipeline.studies.statistics.intervals import CONFIDENCE
from pipeline.system.wording import counted, listed
from pipeline.tracking.pages.sections import DEVIATION, HIGH, LEAST_LOSS, LOG_LOSS, LOG_RATE_METRIC, LOW, MEAN

# Overrides to omit from the command that trains all seeds.
NOT_REPEATED = {"results", "dry_run", "force", "breaking_rate", "budget", "seed", "repeats", "repeats_split"}


def result_of(points: Sequence[Point]) -> str:
    """Return the result of points that differ in nothing but their seed: `0.976 ± 0.003 (5)`, `0.976 (one seed)`.

    It is that of the metric which judges them; empty if they have none, such as a map.
    """
    metric = cell_metric(points)
    if not any(metric in point.outcome.final for point in points):
        return ""
    text = Cell(tuple(points), metric).estimate.text
    if len(points) == 1 and not points[0].diverged:
        return f"{text} (one seed)"
    return text


def repeat_values(points: Sequence[Point]) -> dict[str, float]:
    """Return the final metrics over the seeds.

    These are mean, sample standard deviation and 95 % interval of each metric that judges, and the mean again under the
    name that it has in the run of a single point, so that one chart has both. Seeds that diverged have no final value.
    """
    values: dict[str, float] = {"seeds": float(len(points))}
    trained = [point for point in points if not point.diverged]
    values["seeds_trained"] = float(len(trained))
    values["diverged"] = 1 - len(trained) / len(points)
    for name in dict.fromkeys(name for point in points for name in point.outcome.final if judges(name)):
        found = Cell(tuple(points), name).estimate
        if not found.trained:
            continue
        values[f"{MEAN}/{name}"] = found.mean
        values[f"final/{name}"] = found.mean
        if found.deviation is not None and found.interval is not None:
            values[f"{DEVIATION}/{name}"] = found.deviation
            values[f"{LOW}/{name}"], values[f"{HIGH}/{name}"] = found.interval
    loss = values.get("final/train/loss")
    if loss is not None:
        values[LOG_LOSS] = math.log10(max(loss, LEAST_LOSS))
    config = points[0].config
    # A map has many rates or sizes.
    if config.grid is None:
        values["hp/learning_rate"] = config.optimizer.learning_rate
        values[LOG_RATE_METRIC] = math.log10(config.optimizer.learning_rate)
    if config.grid is None and config.model.hidden_size is not None:
        values["hp/hidden_size"] = float(config.model.hidden_size)
    return {name: value for name, value in values.items() if math.isfinite(value)}


def mean_curves(points: Sequence[Point]) -> list[Metric]:
    """Return the mean over the seeds of each metric that judges, at each epoch that all of them have recorded.

    Seeds that diverged are left out. The time of a value is that of the last seed.
    """
    trained = [point for point in points if not point.diverged]
    recorded: dict[tuple[str, int], dict[int, Metric]] = {}
    for index, point in enumerate(trained):
        for metric in point.history.metrics:
            if judges(metric.name):
                recorded.setdefault((metric.name, metric.step), {})[index] = metric
    means = []
    for (name, step), by_seed in recorded.items():
        rows = by_seed.values()
        if len(rows) == len(trained):
            time = max(row.timestamp for row in rows)
            means.append(Metric(step, time, name, math.fsum(row.value for row in rows) / len(rows)))
    return means


def diagnosis_of(points: Sequence[Point]) -> str:
    """Return the diagnoses of the seeds, the most frequent first: `converged`, `converged (4), diverged (1)`."""
    counts = Counter(point.diagnosis.label for point in points).most_common()
    if len(counts) == 1:
        return counts[0][0]
    return ", ".join(f"{label} ({count})" for label, count in counts)


def outcome_of_seeds(points: Sequence[Point]) -> str:
    """Return `finished` or `diverged` if that is true of all seeds, else `4 of 5 trained`."""
    trained = sum(not point.diverged for point in points)
    if trained == len(points):
        return "finished"
    if not trained:
        return "diverged"
    return f"{trained} of {len(points)} trained"


def repeats_note(name: str, points: Sequence[Point], overrides: Sequence[str]) -> str:
    """Return the description of a repeated point: its result, its seeds, its diagnosis, and the command.

    Args:
        name: its full name, without a seed.
        points: its seeds, at least one.
        overrides: the Hydra overrides of one of them.
    """
    paragraphs = []
    result = result_of(points)
    # A map has none.
    if result:
        metric = cell_metric(points)
        told = f"**{METRIC_NAMES.get(metric, metric)} {result}**"
        if Cell(tuple(points), metric).estimate.interval is not None:
            told += f": the mean over its seeds, with the {CONFIDENCE:.0%} interval of Student's t"
        paragraphs.append(f"{told}.")
    diverged = [str(point.config.seed) for point in points if point.diverged]
    seeds = f"{counted(len(points), 'seed')}, all trained."
    if diverged:
        word = "seed" if len(diverged) == 1 else "seeds"
        seeds = f"{len(points) - len(diverged)} of {len(points)} seeds trained; {word} {listed(diverged)} diverged."
    not_kept = set(NOT_REPEATED)
    if split_anew(seeds_of(point.config) for point in points):
        seeds += " Each seed has a split of the rows of its own."
        not_kept.add(SPLIT_SEED)
    kept = [one for one in overrides if one.lstrip("+").split("=")[0] not in not_kept]
    paragraphs += [f"{seeds} Diagnosis: {diagnosis_of(points)}.", f"Point: `{name}`"]
    asked = _seed_overrides(points)
    if asked:
        command = shlex.join(["python", "-m", "pipeline.train", *kept, *asked])
        paragraphs.append(f"Run it again: `{command}`")
    return "\n\n".join(paragraphs)


def _seed_overrides(points: Sequence[Point]) -> list[str]:
    """Return the overrides that ask for the seeds of points; empty if no command can."""
    seeds = in_order(point.config.seed for point in points)
    if split_anew(seeds_of(point.config) for point in points):
        # No list of seeds has a split for each, so that seeds between them are asked for too.
        split_seed = dict(seeds_of(point.config) for point in points)[seeds[0]]
        repeats = (seeds[-1] - seeds[0]) % SEEDS + 1
        if repeats > MOST_REPEATS:
            return []
        return [f"seed={seeds[0]}", f"{SPLIT_SEED}={split_seed}", f"repeats={repeats}", "repeats_split=true"]
    if (seeds[-1] - seeds[0]) % SEEDS + 1 == len(seeds):
        return [f"seed={seeds[0]}", f"repeats={len(seeds)}"]
    return ["-m", f"seed={','.join(map(str, seeds))}", "repeats=1"]
