"""The charts of MLflow's experiment page, as parts of the state that it keeps; see views.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Chart = dict[str, Any]


def parallel(params: Sequence[str], metrics: Sequence[str]) -> Chart:
    """Lines are coloured by the last metric."""
    return {"type": "PARALLEL", "selectedParams": params, "selectedMetrics": metrics, "showAllRuns": False}


def contour(x: str, y: str, z: str) -> Chart:
    """A metric over two parameters."""
    axes = {"xaxis": {"key": x, "type": "PARAM"}, "yaxis": {"key": y, "type": "PARAM"}}
    return {"type": "CONTOUR", **axes, "zaxis": {"key": z, "type": "METRIC"}}


def scatter(x: str, y: str) -> Chart:
    """A metric against a parameter."""
    return {"type": "SCATTER", "xaxis": {"key": x, "type": "PARAM"}, "yaxis": {"key": y, "type": "METRIC"}}


def line(metric: str, log: bool = False, limits: tuple[float, float] | None = None) -> Chart:
    """A metric over the epochs."""
    return {
        "type": "LINE",
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "scaleType": "log" if log else "linear",
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "selectedXAxisMetricKey": "",
        "lineSmoothness": 0,
        "range": {} if limits is None else {"yMin": limits[0], "yMax": limits[1]},
        "yAxisKey": "metric",
        "yAxisExpressions": [],
    }


def bar(metric: str) -> Chart:
    """The last value of a metric."""
    return {"type": "BAR", "metricKey": metric}


def image(key: str, step: int) -> Chart:
    """The image with a key at a step."""
    return {"type": "IMAGE", "imageKeys": [key], "step": step, "showRunParams": False}
