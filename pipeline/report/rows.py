"""The rows of the report's tables, and of the files that DVC reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.points.point import Point
from pipeline.report.earlier import Earlier, Rows
from pipeline.report.parity import parity
from pipeline.report.published import reproduction
from pipeline.report.published.reproduction import Results
from pipeline.report.published.statements import Statement
from pipeline.studies.best_headline import compared_groups
from pipeline.studies.experiments import ordered
from pipeline.studies.grids import Cell, PointsByBackend, cell_metric, recorded, told_metric
from pipeline.studies.groups import overall
from pipeline.studies.kinds import study_kind
from pipeline.studies.knobs import SEED, layout
from pipeline.studies.named_values import named_cells

# Config keys that are columns of points.csv.
CONFIG_COLUMNS = (
    "seed",
    "dtype",
    "gradient",
    "loss",
    "optimizer.name",
    "optimizer.learning_rate",
    "model.hidden_size",
    "training.epochs",
    "training.batch_size",
)
# The columns of reproduction.csv. Published numbers have no `seen`, and statements only a few of the other columns.
REPRODUCTION_COLUMNS = (
    "study",
    "backend",
    "quantity",
    "model.hidden_size",
    "optimizer.learning_rate",
    "place",
    "value",
    "published",
    "relative_difference",
    "digits",
    "printed_digits",
    "rounding_smallest",
    "rounding_largest",
    "verdict",
    "seen",
)
# The columns of a file without curves, such as that of a map: DVC draws nothing then.
NO_CURVES = ("backend", "point", "epoch", "train/loss")
# Metrics that `dvc plots show` plots over the epochs.
CURVES = (
    "train/loss",
    "train/mean_absolute_error",
    "train/accuracy",
    "validation/loss",
    "validation/accuracy",
    "validation/mean_absolute_error",
    "test/loss",
    "test/accuracy",
    "test/mean_absolute_error",
    "weights/weight",
)


def points_rows(results: Results, earlier: Earlier) -> Rows:
    """Return one row for each point: its path, settings and outcome, and its best and final metrics."""
    rows: Rows = []
    for study in ordered(results, earlier.studies):
        trained = results.get(study, {})
        left = [backend for kept, backend in earlier.points if kept == study]
        # NumPy comes first, as in the results.
        for backend in sorted([*trained, *left], key=lambda name: name != "numpy"):
            if backend in left:
                rows += earlier.points[study, backend]
                continue
            further = _further_keys(trained[backend])
            for point in trained[backend]:
                rows.append({"study": study, "backend": backend, "name": point.name} | _point_columns(point, further))
    return rows


def parity_rows(results: Results, earlier: Earlier) -> Rows:
    """Return the differences between the backends, a row for each metric of a point."""
    rows: Rows = []
    for study in ordered(results, earlier.studies):
        found = [difference._asdict() for difference in parity(results, study)]
        rows += found or earlier.parity.get(study, [])
    return rows


def _further_keys(points: Sequence[Point]) -> list[str]:
    """Return the keys of the knobs of a study that are not columns of every table of points."""
    return [knob.key for knob in study_kind(points).further(points) if knob.key not in CONFIG_COLUMNS]


def _point_columns(point: Point, further: Sequence[str]) -> dict[str, Any]:
    columns: dict[str, Any] = {name: point.settings.get(name) for name in (*CONFIG_COLUMNS, *further)}
    if point.config.grid is not None:
        # A map has many values for these keys; the one in the config is not used.
        columns |= {axis.knob: None for axis in point.config.grid.axes}
    outcome = point.outcome
    diagnosis = point.diagnosis
    columns |= {
        "outcome": outcome.outcome,
        "diagnosis": diagnosis.label,
        "evidence": diagnosis.evidence,
        "diverged_step": outcome.diverged_step,
        "last_finite_loss": outcome.last_finite_loss,
        "seconds": outcome.seconds,
        "seconds_per_epoch": outcome.seconds_per_epoch,
        "points_in_stack": outcome.points_in_stack,
    }
    columns |= {f"diagnosis/{name}": value for name, value in diagnosis.values.items()}
    # Sorted, because points record their metrics in different orders.
    columns |= {f"best/{name}": value for name, value in sorted(outcome.best.items())}
    columns |= {f"final/{name}": value for name, value in sorted(outcome.final.items())}
    return columns


def reproduction_rows(found: Sequence[reproduction.Cell], said: Sequence[Statement]) -> Rows:
    """Return published numbers and statements as rows with common columns: see `REPRODUCTION_COLUMNS`."""
    rows: Rows = []
    for cell in found:
        row = cell._asdict() | {"verdict": cell.verdict}
        # In tables, settings have the same names as in the config.
        row["model.hidden_size"] = row.pop("hidden_size")
        row["optimizer.learning_rate"] = row.pop("learning_rate")
        rows.append(row)
    for one in said:
        rows.append(
            {
                "study": one.study,
                "backend": one.backend,
                "quantity": "statement",
                "place": f"{one.text} ({one.rule})",
                "verdict": one.verdict,
                "seen": one.seen,
            }
        )
    return rows


def study_metrics(points: Sequence[Point]) -> dict[str, Any]:
    """Return the values for `dvc metrics show`: best values, kind-specific counts and training time.

    Args:
        points: the points of a study on one backend.
    """
    counted = study_kind(points).numbers(points)
    seconds = round(sum(point.outcome.seconds for point in points), 3)
    return {"points": len(points)} | _best(points) | counted | {"seconds": seconds}


def _best(points: Sequence[Point]) -> dict[str, Any]:
    """Return the best mean over the seeds with its interval, where it is, and which others are as good.

    Empty if no point trained. With one seed, the interval and the set of the best are missing; the set is missing too
    if a point with a seed that diverged is better where it trains. With a vertical axis, each of its values has a set.
    """
    shown = layout(points)
    ranking = overall(points, shown)
    best = ranking.best
    if best is None:
        return {}
    numbers: dict[str, Any] = {ranking.metric: best.value}
    if best.estimate.interval is not None:
        low, high = best.estimate.interval
        numbers |= {"interval_low": low, "interval_high": high}
    if best.estimate.asked > 1:
        numbers |= {"seeds": best.estimate.asked, "seeds_trained": best.estimate.trained}
    told = told_metric(points, ranking.metric)
    if told is not None:
        numbers[told] = Cell(best.points, told).value
    point = best.points[0]
    numbers |= {"optimizer.learning_rate": point.learning_rate, "model.hidden_size": point.hidden_size}
    further = (knob.key for knob in study_kind(points).further(points) if knob.key != SEED)
    numbers |= {key: point.settings.get(key) for key in further}
    found = compared_groups(points, shown)
    rankings = [ranking, *(group.ranking for group in found)]
    if any(one.better_where_trained or not one.found.tested for one in rankings):
        return {"best": numbers}
    # The same sets as the sentences name.
    names = [named_cells(group.ranking.members, group.ranking.tried, shown) for group in found]
    if not found:
        names = [named_cells([cell], ranking.tried, shown) for cell in ranking.members]
    # DVC reads numbers and texts, and no lists.
    numbers["cannot_be_told_apart"] = "; ".join(names)
    return {"best": numbers}


def curve_rows(backends: PointsByBackend) -> Rows:
    """Return the curves of a study: one row for each point and epoch, with the settings under their config names."""
    points = [point for members in backends.values() for point in members]
    names = [name for name in dict.fromkeys((*CURVES, cell_metric(points))) if recorded(points, name)]
    further = dict.fromkeys(knob.key for members in backends.values() for knob in study_kind(members).further(members))
    rows = []
    for point in points:
        settings: dict[str, Any] = {
            "backend": point.config.backend.name,
            "point": point.name,
            "optimizer.learning_rate": point.learning_rate,
            "model.hidden_size": point.hidden_size,
        }
        settings |= {key: point.settings.get(key) for key in further}
        by_epoch: dict[int, dict[str, Any]] = {}
        for metric in point.history.metrics:
            if metric.name in names:
                by_epoch.setdefault(metric.step, {})[metric.name] = metric.value
        rows += [settings | {"epoch": epoch} | {n: by_epoch[epoch].get(n) for n in names} for epoch in sorted(by_epoch)]
    return rows
