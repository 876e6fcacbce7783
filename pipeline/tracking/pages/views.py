"""Saved views: the charts shown when a study is opened in MLflow. They are stored as tags of its experiment.

MLflow 3.15 and later reads a tag `mlflow.sharedViewState.ID` as a view: its name, its creation time, and the state of
the experiment page as JSON (charts.py). This format is internal to MLflow and undocumented;
tests/whole/test_browser.py checks it in a real browser. A view shows the runs with the tag NEWEST, which are the points
of the newest sweep of each backend. To see earlier runs, clear the search field or change its `true` to `false`. This
module does not import mlflow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.history import weight_metrics
from pipeline.config.data import TableData
from pipeline.config.schema import Config, flatten
from pipeline.studies.kinds import Charts, kind_of
from pipeline.studies.network_data import target_slope
from pipeline.tracking.pages.charts import (
    Chart,
    Section,
    State,
    bar,
    contour,
    image,
    line,
    page_state,
    parallel,
    scatter,
)

TAG = "mlflow.sharedViewState."
# MLflow's maximum size of an experiment tag.
TAG_BYTES = 20_000
# Tag of a point's run, `true` or `false`: whether the newest sweep of its backend requested the point.
NEWEST = "lab.newest"
# Metric of a finished run: log10 of its final training loss, because only MLflow's line charts have logarithmic axes.
LOG_LOSS = "final/log10_loss"
# The value plotted for a loss of 0.
LEAST_LOSS = 1e-16
RATE = "optimizer.learning_rate"
LOG_RATE = "log10_learning_rate"
SIZE = "model.hidden_size"
# The order of the axes and columns; other keys follow.
FIRST = [RATE, SIZE, "optimizer.name", "schedule.name", "feature"]
# Keys that do not affect training, or that differ only between backends.
NOT_COMPARED = ("study", "results", "dry_run", "force", "tracking.", "backend.", "data.")
# Maximum number of axes, of weight curves, and of columns in the table of differences that fit on a screen.
MOST_AXES = 5
MOST_WEIGHTS = 4
MOST_RUNS = 8
BACKENDS = {"numpy": "NumPy", "keras": "Keras"}

# Returns the keys of the images in a point's run, in display order.
Images = Callable[[Config], list[str]]


@dataclass(frozen=True)
class View:
    """A saved view: its id, which is part of its URL, its title, and the state of the page."""

    identifier: str
    title: str
    state: State


def view_tags(points: Sequence[Config], images: Images, created: int) -> dict[str, str]:
    """Return the saved views of a study, as tags of its MLflow experiment.

    The views are `grid`; `divergence`, unless all points are maps; and `seeds`, if points differ in their seed. If both
    backends have points, these views show NumPy's points, and `grid_keras` etc. show Keras's. Then `backends` shows the
    means of both and, if there are only a few runs, `difference` shows all their numbers side by side.

    Args:
        points: configs of the newest sweep of each backend, at least one.
        images: returns the keys of the images in a point's run.
        created: creation time of the first view, in milliseconds since 1970; the others get slightly earlier times.

    Returns:
        Tags by name, for example `mlflow.sharedViewState.grid`; views larger than TAG_BYTES are omitted.
    """
    tags: dict[str, str] = {}
    for view in _views(points, images):
        text = json.dumps(view.state, separators=(",", ":"))
        # MLflow lists the newest view first, so each is a millisecond older than the previous one.
        value = json.dumps({"name": view.title, "createdAt": created - len(tags), "state": text})
        if len(value.encode()) <= TAG_BYTES:
            tags[f"{TAG}{view.identifier}"] = value
    return tags


def _views(points: Sequence[Config], images: Images) -> Iterator[View]:
    backends = [name for name in BACKENDS if any(point.backend.name == name for point in points)]
    for backend in backends:
        # The views of the first backend have no suffix, so that `make ui` finds `grid` for either backend.
        suffix = ""
        if backend != backends[0]:
            suffix = f"_{backend}"
        yield from _backend_views([point for point in points if point.backend.name == backend], suffix, images)
    if len(backends) == 1:
        return
    varied = _varied_keys(points)
    yield View("backends", "NumPy and Keras", _state(points, varied, _backends(points), ["backend.name"]))
    if len(points) <= MOST_RUNS:
        yield View("difference", "Differences between all runs", _state(points, varied, _difference(points)))


def _backend_views(points: Sequence[Config], suffix: str, images: Images) -> Iterator[View]:
    backend = points[0].backend.name
    maps = [point for point in points if kind_of(point).single]
    others = [point for point in points if not kind_of(point).single]
    # A map has many rates in one run, so maps are compared only if there are no other points.
    compared = others or maps
    varied = _varied_keys(compared)

    def view(name: str, sections: Sequence[Section], means_over: Sequence[str] = ()) -> View:
        state = _state(compared, varied, sections, means_over, f" AND tags.backend = '{backend}'")
        return View(f"{name}{suffix}", f"{name.capitalize()}, {BACKENDS[backend]}", state)

    grid: list[Section] = []
    if maps:
        grid += _map(maps, images(maps[0]))
    if others:
        # A dict keeps the order of the keys; a set would not.
        keys = dict.fromkeys(key for point in others for key in images(point))
        grid += _grid(others, varied, keys)
    yield view("grid", grid)
    if others:
        yield view("divergence", _divergence())
    if "seed" in varied:
        # MLflow needs a parameter to group by. If nothing else varies, all points have the same rate.
        yield view("seeds", _seeds(compared), [key for key in varied if key != "seed"] or [RATE])


def _varied_keys(points: Sequence[Config]) -> list[str]:
    """Return the keys that have more than one value among the points of a backend: those in FIRST, then the others."""
    values: dict[tuple[str, str], set[str]] = {}
    for point in points:
        for key, value in flatten(point):
            if not key.startswith(NOT_COMPARED):
                # JSON, because a list cannot be in a set.
                values.setdefault((point.backend.name, key), set()).add(json.dumps(value))
    varied = dict.fromkeys(key for (_, key), different in values.items() if len(different) > 1)
    return [key for key in FIRST if key in varied] + [key for key in varied if key not in FIRST]


def _charts(points: Sequence[Config]) -> Charts:
    """Return the charts for the kind of the first point."""
    return kind_of(points[0]).charts(points[0])


def _judged_by(points: Sequence[Config]) -> str:
    """Return the final metric by which points are compared."""
    judged = _charts(points).judged
    if judged == "train/loss":
        return LOG_LOSS
    return f"final/{judged}"


def _curves(points: Sequence[Config]) -> list[Chart]:
    """Return the training curves: the loss, and the second metric that this kind of study plots."""
    metric, log = _charts(points).second
    return [line("train/loss", log=True), line(metric, log=log)]


def _map(points: Sequence[Config], images: Collection[str]) -> list[Section]:
    pictures = [image(key, points[0].training.epochs) for key in images]
    progress = [line("map/converged_share"), line("map/best_loss", log=True)]
    return [
        Section(_charts(points).question, pictures, columns=1, height=900),
        Section("Map progress, block by block", progress),
    ]


def _grid(points: Sequence[Config], varied: Sequence[str], images: Collection[str]) -> list[Section]:
    sections = []
    answer = _answer(points, varied)
    if answer:
        best = "highest accuracy"
        if _judged_by(points) == LOG_LOSS:
            best = "smallest loss"
        sections.append(Section(f"Which point ends with the {best}?", answer))
    sections.append(Section("Training curves", _curves(points)))
    weights = _single_weights(points)
    if weights:
        sections.append(Section("Weights over time", weights))
    if images:
        charts = [image(key, points[0].training.epochs) for key in images]
        size = {"columns": 2, "height": 400}
        # A card shows one image per run. For three or more runs, it needs the full width.
        if len(points) >= 3:
            size = {"columns": 1, "height": 600}
        sections.append(Section("Step by step: move the slider", charts, **size))
    return sections


def _answer(points: Sequence[Config], varied: Sequence[str]) -> list[Chart]:
    """Return charts of the final results over the axes that vary; none for a single point."""
    # Parallel coordinates need every run to have every parameter: MLflow omits runs that lack one.
    shared = set.intersection(*({key for key, _ in flatten(point)} for point in points))
    if "feature" in varied:
        # The rest are the settings that a feature changes.
        shared &= {*FIRST}
    axes = [LOG_RATE if key == RATE else key for key in varied if key in shared][:MOST_AXES]
    if not axes:
        return []
    judged = _judged_by(points)
    metrics = [LOG_LOSS]
    if judged != LOG_LOSS:
        metrics.append(judged)
    charts = [parallel(axes, metrics)]
    if {RATE, SIZE} <= set(varied):
        charts.append(contour(LOG_RATE, SIZE, judged))
    elif RATE in varied:
        charts.append(scatter(LOG_RATE, judged))
    return charts


def _divergence() -> list[Section]:
    outcome = [scatter(LOG_RATE, "diverged"), bar("diverged_step"), bar("last_finite_loss")]
    curves = [line(name, log=True) for name in ("train/loss", "gradient_norm", "weights/update_ratio")]
    return [
        Section("Diverged points (1): when, and at what loss", outcome, columns=3),
        Section("Loss, gradient norm and relative update size", curves),
    ]


def _seeds(points: Sequence[Config]) -> list[Section]:
    return [
        Section("Mean and range over seeds", _curves(points)),
        Section("Mean at the end", [bar(_judged_by(points)), bar("diverged")]),
    ]


def _backends(points: Sequence[Config]) -> list[Section]:
    return [
        Section("Mean and range over points", _curves(points)),
        Section("Mean at the end, and mean training time", [bar(_judged_by(points)), bar("time/seconds")]),
    ]


def _difference(points: Sequence[Config]) -> list[Section]:
    # Not grouped: MLflow's chart of differences does not support grouped runs.
    groups = {"compareGroups": ["Parameters", "Model metrics"], "baselineColumnUuid": "", "showDifferencesOnly": True}
    # The change from a baseline is readable only if there is one other run.
    change = {"showChangeFromBaseline": len(points) == 2}
    chart = {"type": "DIFFERENCE", "chartName": "NumPy and Keras", **groups, **change}
    return [Section("What differs, and by how much?", [chart], columns=1, height=800)]


def _single_weights(points: Sequence[Config]) -> list[Chart]:
    """Return the curves of single weights for small networks that record them; otherwise none."""
    config = points[0]
    recorded = all(point.recording.weight_metrics and point.model.hidden_size is None for point in points)
    if not recorded or not isinstance(config.data, TableData):
        return []
    features = len(config.data.inputs[0])
    outputs = len(config.data.targets[0])
    # The names of the metrics depend only on the shapes, so the arrays may be zeros.
    arrays: dict[str, NDArray[np.floating]] = {"layer_0/weights": np.zeros((features, outputs))}
    if config.model.bias:
        arrays["layer_0/bias"] = np.zeros(outputs)
    limits: tuple[float, float] | None = None
    slope = target_slope(config)
    if slope:
        # Diverging weights are clipped by the chart instead of flattening all others.
        limits = (slope - 3 * abs(slope), slope + 3 * abs(slope))
    charts = [line(name, limits=limits) | {"xAxisScaleType": "log"} for name in weight_metrics(arrays)]
    if len(charts) > MOST_WEIGHTS:
        return []
    return charts


def _state(
    points: Sequence[Config],
    varied: Sequence[str],
    sections: Sequence[Section],
    means_over: Sequence[str] = (),
    only: str = "",
) -> State:
    """Return the state of an experiment page.

    Args:
        points: the points to show.
        varied: the keys that vary, which become columns of the table.
        sections: the expanded sections.
        means_over: parameters by which runs are grouped to show their means; empty to show each run.
        only: an additional search condition.
    """
    charts = _charts(points)
    columns = [f"params.`{key}`" for key in varied] + [f"tags.`{key}`" for key in ("outcome", "diagnosis")]
    columns += [f"metrics.`{name}`" for name in charts.columns]
    # MLflow adds a section for each metric prefix, and expands it unless the state lists it as collapsed.
    ends = [f"{end}/{prefix}" for end in ("best", "final") for prefix in charts.prefixes]
    folded = [*charts.prefixes, "weights", *ends]
    sized = [p.model for p in points if p.recording.weight_metrics and p.model.hidden_size is not None]
    layers = max((2 + len(model.further_hidden_sizes) for model in sized), default=0)
    folded += [f"weights/layer_{layer}" for layer in range(layers)]
    folded += ["final", "final/weights", "diagnosis", "hp", "time", "Model metrics", "System metrics"]
    query = f"tags.`lab.role` = 'point' AND tags.`{NEWEST}` = 'true'{only}"
    return page_state(query, columns, sections, folded, means_over)
