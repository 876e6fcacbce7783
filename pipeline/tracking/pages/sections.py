"""The sections of a saved view: which charts answer the question of a study. This module does not import mlflow."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.curvature.breaking import ADAPTIVE
from pipeline.backends.shared.history import weight_metrics
from pipeline.config.data import TableData
from pipeline.config.metrics import METRIC_NAMES, larger_is_better
from pipeline.config.schema import Config, flatten
from pipeline.studies.charts import Charts
from pipeline.studies.kinds import kind_of
from pipeline.studies.knobs import RATE, SIZE, numeric_keys
from pipeline.studies.network_data import target_slope
from pipeline.tracking.pages.charts import Chart, Section, against, bar, contour, image, line, parallel, scatter

# Metric of a finished run: log10 of its final training loss, because only MLflow's line charts have logarithmic axes.
LOG_LOSS = "final/log10_loss"
# The value plotted for a loss of 0.
LEAST_LOSS = 1e-16
LOG_RATE = "log10_learning_rate"
# The same as a metric, because only line charts show several metrics on one axis.
LOG_RATE_METRIC = "hp/log10_learning_rate"
# Prefixes of the metrics over the seeds of a point; see studies/statistics/intervals.py.
MEAN = "mean"
DEVIATION = "standard_deviation"
LOW = "interval_low"
HIGH = "interval_high"
# The order of the axes and columns; other keys follow.
FIRST = [RATE, SIZE, "optimizer.name", "schedule.name", "feature"]
# Maximum number of axes and of weight curves that fit on a screen.
MOST_AXES = 5
MOST_WEIGHTS = 4


def charts_of(points: Sequence[Config]) -> Charts:
    """Return the charts for the kind of the first point."""
    return kind_of(points[0]).charts(points[0])


def _judged_by(points: Sequence[Config]) -> str:
    """Return the final metric by which points are compared."""
    judged = charts_of(points).judged
    if judged == "train/loss":
        return LOG_LOSS
    return f"final/{judged}"


def _curves(points: Sequence[Config]) -> list[Chart]:
    """Return the training curves: the loss, and the second metric that this kind of study plots."""
    metric, log = charts_of(points).second
    return [line("train/loss", log=True), line(metric, log=log)]


def map_sections(points: Sequence[Config], images: Collection[str]) -> list[Section]:
    """Return the sections for maps: their pictures, and how far they are."""
    pictures = [image(key, points[0].training.epochs) for key in images]
    progress = [line("map/converged_share"), line("map/best_loss", log=True)]
    return [
        Section(charts_of(points).question, pictures, columns=1, height=900),
        Section("Map progress, block by block", progress),
    ]


def grid_sections(
    points: Sequence[Config], varied: Sequence[str], images: Collection[str], repeated: bool
) -> list[Section]:
    """Return the sections for the points of a grid: the answer, the curves and the images.

    Args:
        points: their configs.
        varied: the keys that vary.
        images: the keys of their images.
        repeated: whether the points are means over several seeds.
    """
    sections = []
    answer = _answer(points, varied)
    if answer:
        judged = charts_of(points).judged
        best = "smallest"
        if larger_is_better(judged):
            best = "highest"
        name = METRIC_NAMES.get(judged, "loss").removeprefix("test ").removeprefix("training ")
        sections.append(Section(f"Which point ends with the {best} {name}?", answer))
    if repeated and RATE in varied:
        heading = f"{name.capitalize()}: mean of the seeds, and 95 % interval"
        sections.append(Section(heading, [_interval(points)], columns=1))
    if repeated:
        # Weights and images are those of a seed.
        return [*sections, Section("Training curves, means of the seeds", _curves(points))]
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
    numeric = [LOG_RATE if key == RATE else key for key in numeric_keys(points) if key in shared]
    if len(numeric) > 1:
        charts.append(contour(numeric[0], numeric[1], judged))
    elif numeric:
        charts.append(scatter(numeric[0], judged))
    return charts


def _interval(points: Sequence[Config]) -> Chart:
    """Return the chart of the mean over the seeds and the ends of its interval, against the rate."""
    judged = charts_of(points).judged
    names = [f"{end}/{judged}" for end in (MEAN, LOW, HIGH)]
    return against(LOG_RATE_METRIC, names, log=not larger_is_better(judged))


def stability_sections(points: Sequence[Config]) -> list[Section]:
    """Return the sections for points whose curvature is recorded: the curvature, the breaking rate, and the loss.

    Args:
        points: their configs.
    """
    curves = [line("curvature/largest", log=True), line("curvature/breaking_rate", log=True)]
    scaled = [point for point in points if getattr(point.model, "parametrization", "standard") != "standard"]
    if scaled or any(point.optimizer.name in ADAPTIVE for point in points):
        curves.append(line("curvature/preconditioned", log=True))
    pictures = [image("curvature", points[0].training.epochs)]
    return [
        Section("How the curvature and the rate interact", pictures, columns=1, height=600),
        Section("Curvature, breaking rate, loss", [*curves, line("train/loss", log=True)]),
    ]


def divergence_sections() -> list[Section]:
    """Return the sections that show which points diverged, and how."""
    outcome = [scatter(LOG_RATE, "diverged"), bar("diverged_step"), bar("last_finite_loss")]
    curves = [line(name, log=True) for name in ("train/loss", "gradient_norm", "weights/update_ratio")]
    return [
        Section("Diverged points (1): when, and at what loss", outcome, columns=3),
        Section("Loss, gradient norm and relative update size", curves),
    ]


def seed_sections(points: Sequence[Config]) -> list[Section]:
    """Return the sections for points with several seeds: means with bands, from the lowest to the highest seed."""
    return [
        Section("Mean over the seeds; the band is from the lowest to the highest", _curves(points)),
        Section("Mean at the end", [bar(_judged_by(points))], columns=1),
    ]


def backend_sections(points: Sequence[Config]) -> list[Section]:
    """Return the sections that compare the backends: means over their points."""
    return [
        Section("Mean and range over points", _curves(points)),
        Section("Mean at the end, and mean training time", [bar(_judged_by(points)), bar("time/seconds")]),
    ]


def difference_sections(points: Sequence[Config]) -> list[Section]:
    """Return the section with a table of what differs between runs."""
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
    if config.dense.bias:
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
