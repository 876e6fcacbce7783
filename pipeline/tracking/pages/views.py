"""The charts that MLflow opens a study with: saved views, which are tags of an experiment.

MLflow 3.15 and later reads a tag `mlflow.sharedViewState.ID` as a view: its name, when it was made, and the state of
the experiment page as JSON. The format is MLflow's own and nowhere documented; tests/whole/test_browser.py
holds it to a real browser. A view shows the runs that are tagged NEWEST, the points that the newest sweep of its
backend asked for. With the search field emptied, or `true` in it made `false`, the page shows the earlier ones. No
mlflow here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.history import weight_metrics
from pipeline.config.data import TableData
from pipeline.config.schema import Config, flatten
from pipeline.studies.kinds import Charts, kind_of
from pipeline.studies.network_data import target_slope
from pipeline.tracking.pages.charts import Chart, bar, contour, image, line, parallel, scatter

TAG = "mlflow.sharedViewState."
TAG_BYTES = 20_000
"""What MLflow takes as the value of an experiment's tag."""
NEWEST = "lab.newest"
"""Tag of a point's run, `true` or `false`: whether the newest sweep of its backend asked for the point."""
LOG_LOSS = "final/log10_loss"
"""Metric of a finished point's run: log10 of its final training loss, as only MLflow's line charts have log axes."""
LEAST_LOSS = 1e-16
"""What a loss of 0 is drawn as there."""
RATE, LOG_RATE, SIZE = "optimizer.learning_rate", "log10_learning_rate", "model.hidden_size"
FIRST = [RATE, SIZE, "optimizer.name", "schedule.name", "feature"]
NOT_KNOBS = ("study", "results", "dry_run", "force", "tracking.", "backend.", "data.")
MOST_AXES, MOST_WEIGHTS, MOST_RUNS = 5, 4, 8
BACKENDS = {"numpy": "NumPy", "keras": "Keras"}


@dataclass(frozen=True)
class Section:
    """Charts below a heading, `columns` of them side by side, each `height` pixels high."""

    heading: str
    charts: Sequence[Chart]
    columns: int = 2
    height: int = 360


def view_tags(points: Sequence[Config], images: Callable[[Config], list[str]], created: int) -> dict[str, str]:
    """The saved views of a study, as tags of its MLflow experiment.

    `grid` always, `divergence` unless all are maps, `seeds` where points differ in their seed. Where there are points
    of both backends, these show NumPy's, `grid_keras` and the like show those of Keras, and `backends` shows the means
    of both; `difference` shows all their numbers side by side, where that is a handful of runs.

    Args:
        points: configs of the newest sweep of each backend, at least one.
        images: gives the keys of the images that a point's run has, in the order in which they are to be shown.
        created: milliseconds since 1970 that the first view says it was made at. The others say a little earlier, as
            MLflow lists the youngest first.

    Returns:
        Tags by name, `mlflow.sharedViewState.grid` and the like; a view of more than TAG_BYTES is left out.
    """
    tags: dict[str, str] = {}

    def add(name: str, title: str, state: dict[str, Any]) -> None:
        text = json.dumps(state, separators=(",", ":"))
        value = json.dumps({"name": title, "createdAt": created - len(tags), "state": text})
        if len(value.encode()) <= TAG_BYTES:
            tags[f"{TAG}{name}"] = value

    backends = [name for name in BACKENDS if any(point.backend.name == name for point in points)]
    for backend in backends:
        everything = [point for point in points if point.backend.name == backend]
        maps = [point for point in everything if kind_of(point).single]
        own = [point for point in everything if not kind_of(point).single] or maps
        knobs = _knobs(own)
        views = {"grid": _map(maps, images(maps[0])) if maps else []}
        if own != maps:
            keys = dict.fromkeys(key for point in own for key in images(point))
            views["grid"] += _grid(own, knobs, keys)
            views["divergence"] = _divergence(own)
        if "seed" in knobs:
            views["seeds"] = _seeds(own)
        for name, sections in views.items():
            identifier = name if backend == backends[0] else f"{name}_{backend}"
            means_over = [key for key in knobs if key != "seed"] or [RATE] if name == "seeds" else []
            state = _state(own, knobs, sections, means_over, f" AND tags.backend = '{backend}'")
            add(identifier, f"{name.capitalize()}, {BACKENDS[backend]}", state)
    if len(backends) > 1:
        knobs = _knobs(points)
        add("backends", "NumPy beside Keras", _state(points, knobs, _backends(points), ["backend.name"], ""))
        if len(points) <= MOST_RUNS:
            add("difference", "Differences of all runs", _state(points, knobs, _difference(points), [], ""))
    return tags


def _knobs(points: Sequence[Config]) -> list[str]:
    """Keys with more than one value among the points of a backend: those of FIRST, then the others."""
    values: dict[tuple[str, str], set[str]] = {}
    for point in points:
        for key, value in flatten(point):
            if not key.startswith(NOT_KNOBS):
                values.setdefault((point.backend.name, key), set()).add(json.dumps(value))
    varied = dict.fromkeys(key for (_, key), different in values.items() if len(different) > 1)
    return [key for key in FIRST if key in varied] + [key for key in varied if key not in FIRST]


def _charts(points: Sequence[Config]) -> Charts:
    """What is shown of the kind of the first point."""
    return kind_of(points[0]).charts(points[0])


def _judged_by(points: Sequence[Config]) -> str:
    judged = _charts(points).judged
    return LOG_LOSS if judged == "train/loss" else f"final/{judged}"


def _curves(points: Sequence[Config]) -> list[Chart]:
    """How training went: the loss, and what the kind draws beside it."""
    metric, log = _charts(points).second
    return [line("train/loss", log=True), line(metric, log=log)]


def _map(points: Sequence[Config], images: Collection[str]) -> list[Section]:
    pictures = [image(key, points[0].training.epochs) for key in images]
    filled = [line("map/converged_share"), line("map/best_loss", log=True)]
    return [
        Section(_charts(points).question, pictures, columns=1, height=900),
        Section("How the map filled, by block", filled),
    ]


def _grid(points: Sequence[Config], knobs: Sequence[str], images: Collection[str]) -> list[Section]:
    crossed = set.intersection(*({key for key, _ in flatten(point)} for point in points))  # a line crosses every axis
    if "feature" in knobs:
        crossed &= {*FIRST}  # the others are what a feature consists of
    axes = [LOG_RATE if key == RATE else key for key in knobs if key in crossed][:MOST_AXES]
    judged = _judged_by(points)
    sections = []
    if axes:
        best = "smallest loss" if judged == LOG_LOSS else "highest accuracy"
        metrics = [LOG_LOSS] if judged == LOG_LOSS else [LOG_LOSS, judged]
        answer = [parallel(axes, metrics)]
        if {RATE, SIZE} <= set(knobs):
            answer.append(contour(LOG_RATE, SIZE, judged))
        elif RATE in knobs:
            answer.append(scatter(LOG_RATE, judged))
        sections.append(Section(f"Which point ends with the {best}?", answer))
    sections.append(Section("How did it get there?", _curves(points)))
    weights = _single_weights(points)
    if weights:
        sections.append(Section("Where did the weights go?", weights))
    if images:
        charts = [image(key, points[0].training.epochs) for key in images]
        columns, height = (2, 400) if len(points) < 3 else (1, 600)  # a card has an image of each run
        sections.append(Section("Step by step: move the slider", charts, columns, height))
    return sections


def _divergence(points: Sequence[Config]) -> list[Section]:
    outcome = [scatter(LOG_RATE, "diverged"), bar("diverged_step"), bar("last_finite_loss")]
    curves = [line(name, log=True) for name in ("train/loss", "gradient_norm", "weights/update_ratio")]
    return [
        Section("Which diverged (1), when, from which loss?", outcome, columns=3),
        Section("Loss, gradient, update beside the weights", curves),
    ]


def _seeds(points: Sequence[Config]) -> list[Section]:
    return [
        Section("Mean over seeds, in its range", _curves(points)),
        Section("Mean at the end", [bar(_judged_by(points)), bar("diverged")]),
    ]


def _backends(points: Sequence[Config]) -> list[Section]:
    return [
        Section("Mean over the points, in its range", _curves(points)),
        Section("Mean at the end; mean seconds", [bar(_judged_by(points)), bar("time/seconds")]),
    ]


def _difference(points: Sequence[Config]) -> list[Section]:
    # No means here: the chart finds no numbers for groups of runs.
    groups = {"compareGroups": ["Parameters", "Model metrics"], "baselineColumnUuid": "", "showDifferencesOnly": True}
    change = {"showChangeFromBaseline": len(points) == 2}
    chart = {"type": "DIFFERENCE", "chartName": "NumPy beside Keras", **groups, **change}
    return [Section("What differs, and by how much", [chart], columns=1, height=800)]


def _single_weights(points: Sequence[Config]) -> list[Chart]:
    """The single weights of a network that has a handful of them and records them."""
    config = points[0]
    recorded = all(point.recording.weight_metrics and point.model.hidden_size is None for point in points)
    if not recorded or not isinstance(config.data, TableData):
        return []
    features = len(config.data.inputs[0])
    outputs = len(config.data.targets[0])
    arrays: dict[str, NDArray[np.floating]] = {"layer_0/weights": np.zeros((features, outputs))}
    if config.model.bias:
        arrays["layer_0/bias"] = np.zeros(outputs)
    slope = target_slope(config)
    limits = None if not slope else (slope - 3 * abs(slope), slope + 3 * abs(slope))  # what runs away leaves the chart
    charts = [line(name, limits=limits) | {"xAxisScaleType": "log"} for name in weight_metrics(arrays)]
    return charts if len(charts) <= MOST_WEIGHTS else []


def _state(
    points: Sequence[Config], knobs: Sequence[str], sections: Sequence[Section], means_over: Sequence[str], only: str
) -> dict[str, Any]:
    """The state of an experiment page.

    Args:
        points: what it shows.
        knobs: the keys that vary; columns of its table.
        sections: the charts that are open. MLflow adds one for every other metric; those get folded sections.
        means_over: parameters by whose values runs are grouped, so that means are drawn; empty: none.
        only: narrows the filter.
    """
    shown = _charts(points)
    columns = [f"params.`{key}`" for key in knobs] + [f"tags.`{key}`" for key in ("outcome", "diagnosis")]
    columns += [f"metrics.`{name}`" for name in shown.columns]
    widths = {"attributes.`Run Name`": 240} | {key: max(100, 6 * len(key) - 45) for key in columns}  # pixels
    headings: list[dict[str, Any]] = []
    charts: list[Chart] = []
    for place, section in enumerate(sections):
        heading = {"uuid": f"section-{place}", "name": section.heading, "display": True, "isGenerated": False}
        headings.append(heading | {"columns": section.columns, "cardHeight": section.height})
        for chart in section.charts:
            common = {"uuid": f"chart-{len(charts)}", "metricSectionId": heading["uuid"], "isGenerated": False}
            charts.append(common | {"deleted": False, "runsCountToCompare": 100} | chart)
    ends = [f"{end}/{prefix}" for end in ("best", "final") for prefix in shown.prefixes]
    prefixes = [*shown.prefixes, "weights", *ends]
    sized = [p.model for p in points if p.recording.weight_metrics and p.model.hidden_size is not None]
    layers = max((2 + len(model.further_hidden_sizes) for model in sized), default=0)
    prefixes += [f"weights/layer_{layer}" for layer in range(layers)]
    prefixes += ["final", "final/weights", "diagnosis", "hp", "time", "Model metrics", "System metrics"]
    headings += [{"uuid": name, "name": name, "display": False, "isGenerated": True} for name in prefixes]
    groups = [{"mode": "param", "groupByData": key} for key in means_over]
    return {
        "searchFilter": f"tags.`lab.role` = 'point' AND tags.`{NEWEST}` = 'true'{only}",
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
        "groupBy": {"aggregateFunction": "average", "groupByKeys": groups} if groups else None,
        "useGroupedValuesInCharts": True,
        "compareRunSections": [{"isReordered": False, "deleted": False} | heading for heading in headings],
        "compareRunCharts": charts,
    }
