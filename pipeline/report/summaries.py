"""What `dvc metrics show` and `dvc plots show` read: a line of numbers for each study and backend, and its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.points.point import Point
from pipeline.studies.grids import cell_metric, recorded
from pipeline.studies.kinds import study_kind
from pipeline.studies.networks import best_point

CURVES = ("train/loss", "train/mean_absolute_error", "train/accuracy", "test/loss", "test/accuracy", "weights/weight")


def study_metrics(points: Sequence[Point]) -> dict[str, Any]:
    """The best point of one backend's, what their kind counts, and their training time in seconds."""
    best = best_point(points)
    metric = cell_metric(points)
    counted = study_kind(points).numbers(points)
    seconds = round(sum(point.outcome.seconds for point in points), 3)
    numbers: dict[str, Any] = {"points": len(points)}
    if best is not None:
        numbers["best"] = {
            metric: best.outcome.final[metric],
            "optimizer.learning_rate": best.learning_rate,
            "model.hidden_size": best.hidden_size,
        }
    return numbers | counted | {"seconds": seconds}


def curve_rows(backends: Mapping[str, Sequence[Point]]) -> list[dict[str, Any]]:
    """The recorded curves of a study: one row for each point and epoch, with the knobs under their config names."""
    points = [point for members in backends.values() for point in members]
    names = [name for name in CURVES if recorded(points, name)]
    rows = []
    for point in points:
        knobs = {
            "backend": point.config.backend.name,
            "point": point.name,
            "optimizer.learning_rate": point.learning_rate,
            "model.hidden_size": point.hidden_size,
        }
        by_epoch: dict[int, dict[str, Any]] = {}
        for metric in point.history.metrics:
            if metric.name in names:
                by_epoch.setdefault(metric.step, {})[metric.name] = metric.value
        rows += [knobs | {"epoch": epoch} | {n: by_epoch[epoch].get(n) for n in names} for epoch in sorted(by_epoch)]
    return rows
