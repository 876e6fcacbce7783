"""The kinds of study, one entry each: how points of a kind are summarized, plotted, counted and shown in MLflow.

Two things are called a kind. `Config.kind` is the kind of a single point; diagnosis/networks.py and backends/choose.py
look up its diagnosis function and its trainer by that name. A `Kind` is the kind of an entire study. Most have the name
of their points' kind. Networks whose curvature was recorded on full batches are `stability`. Some kinds show only in
several points: networks that differ in method or feature (`variants`), and networks whose best rate is followed along a
knob (`widths`, `depths`, `batches`).

Three things are drawn. Figures show a point or a sweep after training (matplotlib); the study figure is the only one on
a study's page. Images show a point at a single epoch, for MLflow's slider (PIL).

To add a kind, write a module with its functions and add an entry to `KINDS`. If a single point is also of a new kind,
add its name to `Config.kind`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from pipeline.config.metrics import last_part
from pipeline.config.schema import Config
from pipeline.drawing.axes import Drawings, Figures
from pipeline.points.point import Point
from pipeline.studies import explanations
from pipeline.studies.charts import BALL_CHARTS, MAP_CHARTS, network_charts
from pipeline.studies.curves.answers import curve_answers, curve_headline
from pipeline.studies.curves.pictures import balls_by_rate, balls_figure, basin_figure
from pipeline.studies.grids import PointsByBackend
from pipeline.studies.images.curves import balls_images
from pipeline.studies.images.networks import network_images
from pipeline.studies.kind import Kind, Points
from pipeline.studies.knobs import RATE, SEED, differ_in, further_knobs
from pipeline.studies.landscape_picture import landscape_study, show_landscapes
from pipeline.studies.landscape_sentences import landscape_headline, landscape_sections, landscape_sentences
from pipeline.studies.maps import map_figure, map_headline, map_numbers, map_sentences
from pipeline.studies.network_figures import network_figures
from pipeline.studies.networks import network_headline, network_sections, network_sentences, verdict_counts
from pipeline.studies.range_picture import range_figures, range_study, range_sweep_figures
from pipeline.studies.range_tests import range_headline, range_numbers, range_sentences
from pipeline.studies.stability import are_full_batch_curvatures
from pipeline.studies.stability_picture import stability_study
from pipeline.studies.stability_sentences import (
    stability_headline,
    stability_numbers,
    stability_sections,
    stability_sentences,
)
from pipeline.studies.study_pictures import network_study
from pipeline.studies.sweep_figures import network_sweep_figures
from pipeline.studies.transfer.best_rates import is_transfer
from pipeline.studies.transfer.picture import transfer_study
from pipeline.studies.transfer.rows import ROWS, Transfer
from pipeline.studies.transfer.sentences import transfer_sentences
from pipeline.studies.variants.picture import variants_study
from pipeline.studies.variants.table import comparison
from pipeline.studies.variants.variants import knob
from pipeline.studies.warm_ups.picture import warm_up_study
from pipeline.studies.warm_ups.sentences import warm_up_sentences
from pipeline.studies.warm_ups.warm_ups import are_warm_ups
from pipeline.system.failures import Apart, together
from pipeline.system.wording import paragraph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Maximum number of sentences on the results of a study; pictures and tables have what is left out.
MOST_SENTENCES = 5


def _first_point_is(kind: str) -> Callable[[Points], bool]:
    """Return a function for `Kind.matches`: whether the first of the points has this `Config.kind`."""
    return lambda points: points[0].config.kind == kind


def _first(backends: PointsByBackend) -> Points:
    """Return the points of the first backend."""
    return next(iter(backends.values()))


def _are_variants(points: Points) -> bool:
    """Whether points differ in a method or a feature, and else only in rate and seed, and are judged by losses."""
    key = knob(points)
    return key is not None and differ_in(points, RATE, SEED, key) and _losses_judge(points)


def _losses_judge(points: Points) -> bool:
    """Whether the config names no metric besides the loss: transfers and variants are compared by losses alone."""
    named = [point.config.report.metric for point in points]
    return all(metric is None or last_part(metric) == "loss" for metric in named)


def _map_figure(points: Points) -> Figure:
    """Draw the first of several maps."""
    return map_figure(points[0].config, points[0].history.map_arrays)


NETWORKS = Kind(
    name="network",
    # The fallback: it comes last in `KINDS`.
    matches=lambda points: True,
    sentences=network_sentences,
    headline=network_headline,
    numbers=verdict_counts,
    sections=network_sections,
    point_figures=network_figures,
    sweep_figures=network_sweep_figures,
    study_figure=network_study,
    images=network_images,
    charts=network_charts,
    further=further_knobs,
)
RANGE_TESTS = replace(
    NETWORKS,
    name="range_test",
    matches=lambda points: all(point.config.kind == "range_test" for point in points),
    sentences=range_sentences,
    headline=range_headline,
    numbers=range_numbers,
    sections=explanations.range_sections,
    point_figures=range_figures,
    sweep_figures=range_sweep_figures,
    study_figure=range_study,
)
LANDSCAPES = replace(
    NETWORKS,
    name="landscape",
    matches=show_landscapes,
    sentences=landscape_sentences,
    headline=landscape_headline,
    sections=landscape_sections,
    study_figure=landscape_study,
)
WARM_UPS = replace(
    NETWORKS,
    name="warm_ups",
    matches=are_warm_ups,
    sentences=warm_up_sentences,
    headline=lambda points: paragraph(warm_up_sentences(points)),
    sections=explanations.warm_up_sections,
    study_figure=warm_up_study,
)
STABILITY = replace(
    NETWORKS,
    name="stability",
    matches=are_full_batch_curvatures,
    sentences=stability_sentences,
    headline=stability_headline,
    numbers=stability_numbers,
    sections=stability_sections,
    study_figure=stability_study,
)
VARIANTS = replace(
    NETWORKS,
    name="variants",
    matches=_are_variants,
    sentences=comparison,
    headline=lambda points: paragraph(comparison(points)),
    sections=explanations.variant_sections,
    study_figure=variants_study,
    further=lambda points: [],
)


def _transfer(row: Transfer) -> Kind:
    """Return the kind of the studies of how the best rate moves along the knob of a row."""
    return replace(
        NETWORKS,
        name=row.kind,
        matches=lambda points: _losses_judge(points) and is_transfer(row, points),
        sentences=partial(transfer_sentences, row),
        headline=lambda points: paragraph(transfer_sentences(row, points)),
        sections=partial(explanations.transfer_sections, row),
        study_figure=partial(transfer_study, row),
        further=lambda points: [],
    )


TRANSFERS = tuple(_transfer(row) for row in ROWS)
MAPS = Kind(
    name="map",
    matches=_first_point_is("map"),
    sentences=map_sentences,
    headline=map_headline,
    numbers=map_numbers,
    sections=lambda points: [],
    point_figures=lambda point: [("map", lambda: _map_figure([point]))],
    sweep_figures=lambda points: [],
    study_figure=lambda study, backends: _map_figure(_first(backends)),
    images=lambda config: {},
    charts=lambda config: MAP_CHARTS,
    figure="map",
    single=True,
    networks=False,
    untrained="NumPy only (map study)",
)
BASINS = replace(
    MAPS,
    name="basins",
    matches=_first_point_is("basins"),
    point_figures=lambda point: [("map", lambda: basin_figure([point]))],
    study_figure=lambda study, backends: basin_figure(_first(backends)),
    charts=lambda config: replace(MAP_CHARTS, question="In which minimum does each ball end?"),
)
BALLS = Kind(
    name="balls",
    matches=_first_point_is("balls"),
    sentences=curve_answers,
    headline=curve_headline,
    numbers=verdict_counts,
    sections=lambda points: [],
    point_figures=lambda point: [("balls", lambda: balls_figure(point))],
    sweep_figures=lambda points: [("balls_by_rate", lambda: balls_by_rate(points))],
    study_figure=lambda study, backends: balls_by_rate(_first(backends)),
    images=balls_images,
    charts=lambda config: BALL_CHARTS,
    networks=False,
    untrained="NumPy only",
)
# In order: the first match wins. NETWORKS matches all points and is the fallback, so it must be last. Range tests,
# landscapes, recorded curvatures, transfers and variants are networks as well, so they come before it. Who names a
# picture or records the curvature of full batches asks for it, whatever else the points differ in.
KINDS = (BALLS, BASINS, MAPS, RANGE_TESTS, LANDSCAPES, STABILITY, *TRANSFERS, WARM_UPS, VARIANTS, NETWORKS)
BY_NAME = {kind.name: kind for kind in KINDS}


def kind_of(config: Config) -> Kind:
    """Return the kind of one point."""
    return BY_NAME[config.kind]


def study_kind(points: Points) -> Kind:
    """Return the kind of study of the points of one backend, at least one point."""
    return next(kind for kind in KINDS if kind.matches(points))


def parts(points: Points) -> list[tuple[Kind, Points]]:
    """Split the points of one backend into maps, which are reported separately, and all others; add their kinds."""
    single = [point for point in points if kind_of(point.config).single]
    others = [point for point in points if not kind_of(point.config).single]
    return [(study_kind(members), members) for members in (single, others) if members]


def answers(points: Points) -> Iterator[str]:
    """Yield the summary sentences of one backend's points, computed from these points: at most `MOST_SENTENCES`.

    Of maps there are as many as there are maps: no table has the rest.
    """
    for kind, members in parts(points):
        most = None if kind.single else MOST_SENTENCES
        yield from islice(kind.sentences(members), most)


def headline(points: Points) -> str:
    """Return a one-line summary of one backend's points."""
    return "; ".join(kind.headline(members) for kind, members in parts(points))


def point_figures(point: Point, apart: Apart = together) -> Figures:
    """Draw the figures of one point, each with a name and guarded by `apart`. Nothing here writes files."""
    yield from _drawn(kind_of(point.config).point_figures(point), apart)


def sweep_figures(points: Points, apart: Apart = together) -> Figures:
    """Draw the figures of a sweep, each with a name and guarded by `apart`; maps are excluded."""
    for kind, members in parts(points):
        yield from _drawn(kind.sweep_figures(members), apart)


def _drawn(drawings: Drawings, apart: Apart) -> Figures:
    for name, draw in drawings:
        figure = None
        with apart(name):
            figure = draw()
        if figure is not None:
            yield name, figure


def study_figure(study: str, backends: PointsByBackend) -> Figure:
    """Draw the figure that answers a study's question.

    Args:
        study: the study's name, for the title.
        backends: the points of each backend; at least one backend with at least one point.
    """
    return study_kind(_first(backends)).study_figure(study, backends)
