"""The rows of the report's tables, and of the files that DVC reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.points.point import Point
from pipeline.report.digits import ROUNDING, bound, shown, significant
from pipeline.report.earlier import Earlier, Rows
from pipeline.report.parity import Parity, parity
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
# The columns of timings.csv.
TIMING_COLUMNS = ("study", "backend", "name", "seconds", "seconds_per_epoch", "points_in_stack")
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
        found = [_parity_columns(difference) for difference in parity(results, study)]
        rows += found or earlier.parity.get(study, [])
    return rows


def _parity_columns(row: Parity) -> dict[str, Any]:
    if 0 < row.relative < ROUNDING:
        # Where rounding is largest is as random as its size.
        return row._asdict() | {"value": bound(row.value), "point": "", "epoch": None, "numpy": None, "keras": None}
    values = {"numpy": shown(row.quantity, row.numpy), "keras": shown(row.quantity, row.keras)}
    return row._asdict() | {"value": significant(row.value, 1)} | values


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
        "last_finite_loss": shown("loss", outcome.last_finite_loss),
    }
    columns |= {f"diagnosis/{name}": shown(name, value) for name, value in diagnosis.values.items()}
    # Sorted, because points record their metrics in different orders.
    columns |= {f"best/{name}": shown(name, value) for name, value in sorted(outcome.best.items())}
    columns |= {f"final/{name}": shown(name, value) for name, value in sorted(outcome.final.items())}
    return columns


def timing_rows(results: Results, earlier: Earlier) -> Rows:
    """Return how long each point trained, in seconds, and beside how many others, which decides that."""
    rows: Rows = [
        {
            "study": study,
            "backend": backend,
            "name": point.name,
            "seconds": point.outcome.seconds,
            "seconds_per_epoch": point.outcome.seconds_per_epoch,
            "points_in_stack": point.outcome.points_in_stack,
        }
        for study, backends in results.items()
        for backend, points in backends.items()
        for point in points
    ]
    return sorted([*rows, *earlier.timings], key=lambda row: (row["study"], row["backend"]))


def reproduction_rows(found: Sequence[reproduction.Cell], said: Sequence[Statement]) -> Rows:
    """Return published numbers and statements as rows with common columns: see `REPRODUCTION_COLUMNS`."""
    rows: Rows = []
    for cell in found:
        row = cell._asdict() | {"verdict": cell.verdict} | _shown_numbers(cell)
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


def _shown_numbers(cell: reproduction.Cell) -> dict[str, Any]:
    """Return the computed numbers of a row with the digits that hold: all printed ones if they match."""
    if cell.value is None:
        return {}
    if cell.agrees:
        value = cell.value
        if cell.printed_digits is not None:
            value = significant(value, cell.printed_digits)
        # Of a number that rounds to the published one, the rest is rounding.
        return {"value": value, "relative_difference": None}
    return {
        "value": shown(cell.quantity, cell.value),
        "relative_difference": significant(cell.relative_difference or 0.0, 1),
    }


def study_metrics(points: Sequence[Point]) -> dict[str, Any]:
    """Return the values for `dvc metrics show`: best values and kind-specific counts.

    Args:
        points: the points of a study on one backend.
    """
    counted = {name: shown(name, value) for name, value in study_kind(points).numbers(points).items()}
    return {"points": len(points)} | _best(points) | counted


def _best(points: Sequence[Point]) -> dict[str, Any]:
    """Return the best mean over the seeds with its interval, where it is, and which others are as good.

    Empty if no point trained. With one seed, the interval and the set of the best are missing; the set is missing too
    if a point with a seed that diverged is better where it trains. With a vertical axis, each of its values has a set.
    """
    axes = layout(points)
    ranking = overall(points, axes)
    best = ranking.best
    if best is None:
        return {}
    numbers: dict[str, Any] = {ranking.metric: shown(ranking.metric, best.value)}
    if best.estimate.interval is not None:
        low, high = (shown(ranking.metric, end) for end in best.estimate.interval)
        numbers |= {"interval_low": low, "interval_high": high}
    if best.estimate.asked > 1:
        numbers |= {"seeds": best.estimate.asked, "seeds_trained": best.estimate.trained}
    told = told_metric(points, ranking.metric)
    if told is not None:
        numbers[told] = shown(told, Cell(best.points, told).value)
    point = best.points[0]
    numbers |= {"optimizer.learning_rate": point.learning_rate, "model.hidden_size": point.hidden_size}
    further = (knob.key for knob in study_kind(points).further(points) if knob.key != SEED)
    numbers |= {key: point.settings.get(key) for key in further}
    found = compared_groups(points, axes)
    rankings = [ranking, *(group.ranking for group in found)]
    if any(one.better_where_trained or not one.found.tested for one in rankings):
        return {"best": numbers}
    # The same sets as the sentences name.
    names = [named_cells(group.ranking.members, group.ranking.tried, axes) for group in found]
    if not found:
        names = [named_cells([cell], ranking.tried, axes) for cell in ranking.members]
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
