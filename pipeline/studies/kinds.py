"""The kinds of study, a row each: how points of a kind are told in sentences, drawn, counted and shown in MLflow.

What one point is says `Config.kind`; by that name diagnosis/networks.py has its judge, and backends/choose.py what
trains it. Some kinds show only in several points: networks whose methods or features differ, networks of several
parametrizations.

A new kind is a module with its functions and a row here; if one of its points is new too, a name in `Config.kind`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.config.schema import Config
from pipeline.drawing.axes import Figures
from pipeline.points.point import Point
from pipeline.studies.curves.answers import curve_answers, curve_headline
from pipeline.studies.curves.pictures import balls_by_rate, balls_figure, basin_figure
from pipeline.studies.explanations import Section, range_sections, transfer_sections, variant_sections
from pipeline.studies.grids import Backends
from pipeline.studies.images.curves import balls_images
from pipeline.studies.images.data import Draw
from pipeline.studies.images.networks import network_images
from pipeline.studies.maps import map_figure, map_headline, map_numbers, map_sentences
from pipeline.studies.network_figures import network_figures, network_sweep_figures
from pipeline.studies.networks import network_headline, network_sentences, verdict_counts
from pipeline.studies.range_picture import range_figures, range_study
from pipeline.studies.study_pictures import network_study
from pipeline.studies.variants.picture import variants_study
from pipeline.studies.variants.table import comparison
from pipeline.studies.variants.variants import knob
from pipeline.studies.width_transfer import parametrizations, transfer_sentences, transfer_study
from pipeline.system.wording import paragraph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = Sequence[Point]


@dataclass(frozen=True)
class Charts:
    """What MLflow's page of a study shows, by names of metrics.

    Attributes:
        columns: the metrics in its table.
        prefixes: of the metrics whose charts are folded away.
        judged: what the study is judged by at the end.
        second: what is drawn beside the training loss, and whether on a logarithmic axis.
        question: above the picture of a map.
    """

    columns: Sequence[str]
    prefixes: Sequence[str]
    judged: str = "train/loss"
    second: tuple[str, bool] = ("train/mean_absolute_error", True)
    question: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of study.

    Attributes:
        name: of a kind that one point shows, as in `Config.kind`.
        matches: whether the points of a backend, all that are no maps or all maps, are of this kind.
        sentences: what they say.
        headline: the same in a line.
        numbers: what `dvc metrics show` counts of them.
        sections: what stands on their page besides, by heading.
        point_figures: those of one point, by name.
        sweep_figures: those of all points together, by name.
        study_figure: the one picture of the study, from its name and the points of each backend.
        images: what draws a point's stepped images, by key.
        charts: what MLflow shows of the study of a point.
        figure: the point's figure that MLflow shows in place of stepped images.
        single: whether each point is told on its own, apart from points of other kinds, and needs no table.
        networks: whether the snapshots of a point are weights of a network.
        untrained: what stands where a backend has not trained the study.
    """

    name: str
    matches: Callable[[Points], bool]
    sentences: Callable[[Points], Iterable[str]]
    headline: Callable[[Points], str]
    numbers: Callable[[Points], dict[str, float]]
    sections: Callable[[Points], Sequence[Section]]
    point_figures: Callable[[Point], Figures]
    sweep_figures: Callable[[Points], Figures]
    study_figure: Callable[[str, Backends], Figure]
    images: Callable[[Config], Mapping[str, Draw]]
    charts: Callable[[Config], Charts]
    figure: str | None = None
    single: bool = False
    networks: bool = True
    untrained: str = "not run"


NUMBERS = Charts(columns=("final/train/loss", "final/train/mean_absolute_error"), prefixes=("train",))
CLASSES = Charts(
    columns=("final/train/loss", "final/test/accuracy"),
    prefixes=("train", "test"),
    judged="test/accuracy",
    second=("test/accuracy", False),
)
ROLLED = Charts(
    columns=("final/train/loss", "final/balls/settled_share"),
    prefixes=("train", "balls"),
    second=("balls/settled_share", False),
)
MAPPED = Charts(
    columns=("map/converged_share", "map/best_loss"),
    prefixes=("map",),
    question="Which pairs converge (blue)?",
)


def _of_one(kind: str) -> Callable[[Points], bool]:
    """Recognizes points by the first of them."""
    return lambda points: points[0].config.kind == kind


def _first(backends: Backends) -> Points:
    """The points of the first backend."""
    return next(iter(backends.values()))


NETWORKS = Kind(
    name="network",
    matches=lambda points: True,
    sentences=network_sentences,
    headline=network_headline,
    numbers=verdict_counts,
    sections=lambda points: [],
    point_figures=network_figures,
    sweep_figures=network_sweep_figures,
    study_figure=network_study,
    images=network_images,
    charts=lambda config: CLASSES if config.data.kind == "idx" else NUMBERS,
)
RANGE_TESTS = replace(
    NETWORKS,
    name="range_test",
    matches=_of_one("range_test"),
    headline=lambda points: points[0].diagnosis.evidence,
    sections=range_sections,
    point_figures=range_figures,
    study_figure=range_study,
)
WIDTHS = replace(
    NETWORKS,
    name="widths",
    matches=lambda points: bool(parametrizations(points)),
    sentences=transfer_sentences,
    headline=lambda points: paragraph(transfer_sentences(points)),
    sections=transfer_sections,
    study_figure=transfer_study,
)
VARIANTS = replace(
    NETWORKS,
    name="variants",
    matches=lambda points: knob(points) is not None,
    sentences=comparison,
    headline=lambda points: paragraph(comparison(points)),
    sections=variant_sections,
    study_figure=variants_study,
)
MAPS = Kind(
    name="map",
    matches=_of_one("map"),
    sentences=map_sentences,
    headline=map_headline,
    numbers=map_numbers,
    sections=lambda points: [],
    point_figures=lambda point: [("map", map_figure(point.config, point.history.map_arrays))],
    sweep_figures=lambda points: [],
    study_figure=lambda study, backends: map_figure(_first(backends)[0].config, _first(backends)[0].history.map_arrays),
    images=lambda config: {},
    charts=lambda config: MAPPED,
    figure="map",
    single=True,
    networks=False,
    untrained="a map, NumPy only",
)
BASINS = replace(
    MAPS,
    name="basins",
    matches=_of_one("basins"),
    point_figures=lambda point: [("map", basin_figure([point]))],
    study_figure=lambda study, backends: basin_figure(_first(backends)),
    charts=lambda config: replace(MAPPED, question="In which minimum does each ball end?"),
)
BALLS = Kind(
    name="balls",
    matches=_of_one("balls"),
    sentences=curve_answers,
    headline=curve_headline,
    numbers=verdict_counts,
    sections=lambda points: [],
    point_figures=lambda point: [("balls", balls_figure(point))],
    sweep_figures=lambda points: [("balls_by_rate", balls_by_rate(points))],
    study_figure=lambda study, backends: balls_by_rate(_first(backends)),
    images=balls_images,
    charts=lambda config: ROLLED,
    networks=False,
    untrained="NumPy only",
)
KINDS = (BALLS, BASINS, MAPS, RANGE_TESTS, WIDTHS, VARIANTS, NETWORKS)
"""All kinds; points are of the first that matches."""
BY_NAME = {kind.name: kind for kind in KINDS}


def kind_of(config: Config) -> Kind:
    """The kind of one point."""
    return BY_NAME[config.kind]


def study_kind(points: Points) -> Kind:
    """The kind of the points of one backend, at least one."""
    return next(kind for kind in KINDS if kind.matches(points))


def parts(points: Points) -> list[tuple[Kind, Points]]:
    """The points of one backend by kind: maps, each of which stands on its own, and the others."""
    single = [point for point in points if kind_of(point.config).single]
    others = [point for point in points if not kind_of(point.config).single]
    return [(study_kind(members), members) for members in (single, others) if members]


def answers(points: Points) -> Iterator[str]:
    """What one backend's points say, in sentences that are computed from them."""
    for kind, members in parts(points):
        yield from kind.sentences(members)


def headline(points: Points) -> str:
    """The answer in a line."""
    return "; ".join(kind.headline(members) for kind, members in parts(points))


def point_figures(point: Point) -> Figures:
    """The figures of one point by name. Nothing here writes files."""
    return kind_of(point.config).point_figures(point)


def sweep_figures(points: Points) -> Figures:
    """The figures of a sweep by name; maps have no part in them."""
    for kind, members in parts(points):
        yield from kind.sweep_figures(members)


def study_figure(study: str, backends: Backends) -> Figure:
    """The one picture of a study that answers its question.

    Args:
        study: its name, for the title.
        backends: the points of each backend; at least one of one.
    """
    return study_kind(_first(backends)).study_figure(study, backends)
