"""Saved views: the charts shown when a study is opened in MLflow. They are stored as tags of its experiment.

MLflow 3.15 and later reads a tag `mlflow.sharedViewState.ID` as a view: its name, its creation time, and the state of
the experiment page as JSON (charts.py). This format is internal to MLflow and undocumented;
tests/whole/test_browser.py checks it in a real browser. A view shows runs by the tag NEWEST: the points of the newest
sweep of each backend, and those that were trained alone since. To see earlier runs, clear the search field or change
its `true` to `false`. This module does not import mlflow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.config.schema import Config, flatten
from pipeline.points.identity import NOT_SIGNED
from pipeline.points.repeats import groups_of_repeats
from pipeline.studies.kinds import kind_of
from pipeline.studies.knobs import NOT_SETTINGS, RATE
from pipeline.tracking.pages.charts import (
    Section,
    State,
    page_state,
)
from pipeline.tracking.pages.sections import (
    DEVIATION,
    FIRST,
    HIGH,
    LOW,
    MEAN,
    backend_sections,
    charts_of,
    difference_sections,
    divergence_sections,
    grid_sections,
    map_sections,
    seed_sections,
    stability_sections,
)

TAG = "mlflow.sharedViewState."
# MLflow's maximum size of an experiment tag.
TAG_BYTES = 20_000
# Tag of a point's run: `true` if the views show it, because the newest sweep of its backend requested the point; SEED
# if the run of its point, which has several seeds, is shown instead; `false` if neither.
NEWEST = "lab.newest"
SEED = "seed"
# The role of the run of a point with several seeds.
REPEATED = "repeated"
# Keys that are not compared: what is drawn and kept changes nothing, and each study has its data.
NOT_COMPARED = (*NOT_SETTINGS, "recording.figures", "recording.models", "data.")
# Maximum number of columns in the table of differences that fit on a screen.
MOST_RUNS = 8
# Which runs a view shows: of a point with several seeds, its own run or those of its seeds.
SHOWN = f"tags.`{NEWEST}` = 'true'"
EACH_SEED = f"tags.`lab.role` = 'point' AND tags.`{NEWEST}` != 'false'"
# The views that are named after a backend, or of both.
VIEWS = ("grid", "seeds", "every_seed", "stability", "divergence", "backends", "difference")
BACKENDS = {"numpy": "NumPy", "keras": "Keras"}

# Returns the keys of the images in a point's run, in display order.
Images = Callable[[Config], list[str]]


@dataclass(frozen=True)
class View:
    """A saved view: its id, which is part of its URL, its title, and the state of the page."""

    identifier: str
    title: str
    state: State


def view_tags(points: Sequence[Config], images: Images, created: int, diverged: Collection[str] = ()) -> dict[str, str]:
    """Return the saved views of a study, as tags of its MLflow experiment.

    The views are `grid`; `seeds` and `every_seed`, if points differ in nothing but their seed; `stability`, if the
    curvature is recorded; and `divergence`, if points diverged. If both backends have points, these views show NumPy's
    points, and `grid_keras` etc. show Keras's. Then `backends` shows the means of both and, if there are only a few
    runs, `difference` shows all their numbers side by side.

    Args:
        points: configs of the newest sweep of each backend, at least one.
        images: returns the keys of the images in a point's run.
        created: creation time of the first view, in milliseconds since 1970; the others get slightly earlier times.
        diverged: the backends of which points diverged.

    Returns:
        Tags by name, for example `mlflow.sharedViewState.grid`; views larger than TAG_BYTES are omitted.
    """
    tags: dict[str, str] = {}
    for view in _views(points, images, diverged):
        text = json.dumps(view.state, separators=(",", ":"))
        # MLflow lists the newest view first, so each is a millisecond older than the previous one.
        value = json.dumps({"name": view.title, "createdAt": created - len(tags), "state": text})
        if len(value.encode()) <= TAG_BYTES:
            tags[f"{TAG}{view.identifier}"] = value
    return tags


def own_views(tags: Iterable[str]) -> set[str]:
    """Return the tags among those of an experiment that are views of this program, not of a user."""
    suffixes = ("", *(f"_{name}" for name in BACKENDS))
    ours = {f"{TAG}{view}{suffix}" for view in VIEWS for suffix in suffixes}
    return ours & set(tags)


def _views(points: Sequence[Config], images: Images, diverged: Collection[str]) -> Iterator[View]:
    backends = [name for name in BACKENDS if any(point.backend.name == name for point in points)]
    for backend in backends:
        # The views of the first backend have no suffix, so that `make ui` finds `grid` for either backend.
        suffix = ""
        if backend != backends[0]:
            suffix = f"_{backend}"
        own = [point for point in points if point.backend.name == backend]
        yield from _backend_views(own, suffix, images, backend in diverged)
    if len(backends) == 1:
        return
    varied = _varied_keys(points)
    yield View("backends", "NumPy and Keras", _state(points, varied, backend_sections(points), ["backend.name"]))
    if len(points) <= MOST_RUNS:
        yield View("difference", "Differences between all runs", _state(points, varied, difference_sections(points)))


def _backend_views(points: Sequence[Config], suffix: str, images: Images, diverged: bool) -> Iterator[View]:
    backend = points[0].backend.name
    maps = [point for point in points if kind_of(point).single]
    others = [point for point in points if not kind_of(point).single]
    # A map has many rates in one run, so maps are compared only if there are no other points.
    compared = others or maps
    repeated = has_repeats(compared)
    varied = [key for key in _varied_keys(compared) if key != "seed" or not repeated]
    only = f" AND tags.backend = '{backend}'"

    def view(name: str, state: State) -> View:
        return View(f"{name}{suffix}", f"{name.capitalize().replace('_', ' ')}, {BACKENDS[backend]}", state)

    grid: list[Section] = []
    if maps:
        grid += map_sections(maps, images(maps[0]))
    # A dict keeps the order of the keys; a set would not.
    keys = dict.fromkeys(key for point in others for key in images(point))
    if others:
        grid += grid_sections(others, varied, keys, repeated)
    yield view("grid", _state(compared, varied, grid, query=SHOWN + only))
    if repeated:
        # MLflow needs a parameter to group by. If nothing else varies, all points have the same rate.
        state = _state(compared, [*varied, "seed"], seed_sections(compared), varied or [RATE], EACH_SEED + only)
        yield view("seeds", state)
        each = [*varied, "seed"]
        yield view(
            "every_seed", _state(compared, each, grid_sections(compared, each, keys, False), query=EACH_SEED + only)
        )
    curved = [point for point in others if point.recording.curvature]
    if curved:
        yield view("stability", _state(curved, varied, stability_sections(curved), query=EACH_SEED + only))
    if others and diverged:
        yield view("divergence", _state(compared, varied, divergence_sections(), query=EACH_SEED + only))


def has_repeats(points: Sequence[Config]) -> bool:
    """Whether some points differ in nothing but their seed, of what affects their results."""
    different = {point.model_dump_json(exclude=NOT_SIGNED) for point in points}
    return any(len(members) > 1 for members in groups_of_repeats([json.loads(one) for one in different]))


def _varied_keys(points: Sequence[Config]) -> list[str]:
    """Return the keys that have more than one value among the points of a backend: those in FIRST, then the others."""
    values: dict[tuple[str, str], set[str]] = {}
    for point in points:
        for key, value in flatten(point):
            if not key.startswith(NOT_COMPARED):
                # JSON, because a list cannot be in a set.
                values.setdefault((point.backend.name, key), set()).add(json.dumps(value))
    varied = dict.fromkeys(key for (_, key), different in values.items() if len(different) > 1)
    first = [key for key in (points[0].report.size, *FIRST) if key in varied]
    return list(dict.fromkeys([*(key for key in first if key == RATE), *first, *varied]))


def _state(
    points: Sequence[Config],
    varied: Sequence[str],
    sections: Sequence[Section],
    means_over: Sequence[str] = (),
    query: str = EACH_SEED,
) -> State:
    """Return the state of an experiment page.

    Args:
        points: the points to show.
        varied: the keys that vary, which become columns of the table.
        sections: the expanded sections.
        means_over: parameters by which runs are grouped to show their means; empty to show each run.
        query: which runs to show, in MLflow's search language.
    """
    charts = charts_of(points)
    # First what a person looks for: how each point ended.
    columns = [f"tags.`{key}`" for key in ("result", "diagnosis")]
    columns += [f"metrics.`{name}`" for name in charts.columns]
    columns += [f"params.`{key}`" for key in varied]
    # MLflow adds a section for each metric prefix, and expands it unless the state lists it as collapsed.
    parts = ["best", "final"]
    if has_repeats(points):
        parts += [MEAN, DEVIATION, LOW, HIGH]
    ends = [f"{part}/{prefix}" for part in parts for prefix in charts.prefixes]
    folded = [*charts.prefixes, "weights", *ends]
    sized = [p.model for p in points if p.recording.weight_metrics and p.model.hidden_size is not None]
    layers = max((2 + len(model.further_hidden_sizes) for model in sized), default=0)
    folded += [f"weights/layer_{layer}" for layer in range(layers)]
    if any(point.recording.curvature for point in points):
        folded += ["curvature", *(f"{part}/curvature" for part in parts)]
    folded += ["final", "final/weights", "diagnosis", "hp", "time", "Model metrics", "System metrics"]
    return page_state(query, columns, sections, folded, means_over)
