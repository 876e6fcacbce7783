"""The saved state of an experiment page in MLflow: its charts, its sections, and the whole page.

The keys are those that MLflow itself writes when a user arranges charts by hand and shares the view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Chart = dict[str, Any]
State = dict[str, Any]

# Width of the column with the names of runs, in pixels.
NAME_WIDTH = 240
# Width of a column with texts.
TAG_WIDTH = 150
# Maximum number of runs in a chart; MLflow's default is 10.
RUNS_IN_CHART = 100


@dataclass(frozen=True)
class Section:
    """Charts under a heading, in a number of columns; each chart is `height` pixels high."""

    heading: str
    charts: Sequence[Chart]
    columns: int = 2
    height: int = 360


def parallel(params: Sequence[str], metrics: Sequence[str]) -> Chart:
    """Return parallel coordinates: one line per run, coloured by the last metric."""
    return {"type": "PARALLEL", "selectedParams": params, "selectedMetrics": metrics, "showAllRuns": False}


def contour(x: str, y: str, z: str) -> Chart:
    """Return a contour plot of a metric over two parameters."""
    axes = {"xaxis": {"key": x, "type": "PARAM"}, "yaxis": {"key": y, "type": "PARAM"}}
    return {"type": "CONTOUR", **axes, "zaxis": {"key": z, "type": "METRIC"}}


def scatter(x: str, y: str) -> Chart:
    """Return a scatter plot of a metric against a parameter."""
    return {"type": "SCATTER", "xaxis": {"key": x, "type": "PARAM"}, "yaxis": {"key": y, "type": "METRIC"}}


def line(metric: str, log: bool = False, limits: tuple[float, float] | None = None) -> Chart:
    """Return the curve of a metric over the epochs; `limits` are the limits of the y axis."""
    visible = {}
    if limits is not None:
        visible = {"yMin": limits[0], "yMax": limits[1]}
    return {
        "type": "LINE",
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "scaleType": "log" if log else "linear",
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "selectedXAxisMetricKey": "",
        "lineSmoothness": 0,
        "range": visible,
        "yAxisKey": "metric",
        "yAxisExpressions": [],
    }


def against(x: str, metrics: Sequence[str], log: bool) -> Chart:
    """Return the last values of several metrics of each run, on one axis, against another metric."""
    chart = line(metrics[0], log) | {"selectedMetricKeys": list(metrics)}
    return chart | {"xAxisKey": "metric", "selectedXAxisMetricKey": x}


def bar(metric: str) -> Chart:
    """Return a bar chart of the last value of a metric in each run."""
    return {"type": "BAR", "metricKey": metric}


def image(key: str, step: int) -> Chart:
    """Return the images with a key: the one at `step`, and a slider for the other steps."""
    return {"type": "IMAGE", "imageKeys": [key], "step": step, "showRunParams": False}


def page_state(
    query: str, columns: Sequence[str], sections: Sequence[Section], folded: Sequence[str], means_over: Sequence[str]
) -> State:
    """Return the state of a whole page.

    Args:
        query: which runs to show, in MLflow's search language.
        columns: the columns of its table.
        sections: the expanded sections.
        folded: names of the sections that MLflow adds for all other metrics; these are collapsed.
        means_over: parameters by which runs are grouped to show their means; empty to show each run.
    """
    # The header of a column shows the key without its prefix, at about 6 pixels per character.
    widths = {"attributes.`Run Name`": NAME_WIDTH} | {key: max(100, 6 * len(key) - 45) for key in columns}
    # The values of tags are texts, such as `0.976 ± 0.003 (5)`.
    widths |= {key: TAG_WIDTH for key in columns if key.startswith("tags.")}
    headings, charts = _open_sections(sections)
    headings += [{"uuid": name, "name": name, "display": False, "isGenerated": True} for name in folded]
    grouping = None
    if means_over:
        groups = [{"mode": "param", "groupByData": key} for key in means_over]
        grouping = {"aggregateFunction": "average", "groupByKeys": groups}
    return {
        "searchFilter": query,
        "orderByKey": "metrics.`hp/learning_rate`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "columnOrder": list(widths),
        "columnWidths": widths,
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
        "autoRefreshEnabled": True,
        "isAccordionReordered": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        "groupBy": grouping,
        "useGroupedValuesInCharts": True,
        "compareRunSections": [{"isReordered": False, "deleted": False} | heading for heading in headings],
        "compareRunCharts": charts,
    }


def _open_sections(sections: Sequence[Section]) -> tuple[list[State], list[Chart]]:
    """Return the headings of sections, and their charts, which refer to a heading by its id."""
    headings: list[State] = []
    charts: list[Chart] = []
    for index, section in enumerate(sections):
        heading = {"uuid": f"section-{index}", "name": section.heading, "display": True, "isGenerated": False}
        headings.append(heading | {"columns": section.columns, "cardHeight": section.height})
        for chart in section.charts:
            common = {"uuid": f"chart-{len(charts)}", "metricSectionId": heading["uuid"], "isGenerated": False}
            charts.append(common | {"deleted": False, "runsCountToCompare": RUNS_IN_CHART} | chart)
    return headings, charts
