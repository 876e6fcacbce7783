"""List the kinds of study. A kind says how its points are described, drawn, counted and shown in MLflow.

`Config.kind` names the kind of a single point. Under that name diagnosis/networks.py has the function that judges it,
and backends/choose.py the one that trains it. Some kinds are recognized only from several points: networks that differ
in method or feature, and networks of several parametrizations.

To add a kind, write a module with its functions and add it to `KINDS`. If its points are new too, also add a name to
`Config.kind`.
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
        prefixes: of the metrics whose charts are collapsed.
        judged: the final metric by which points are compared.
        second: the metric that is drawn beside the training loss, and whether its axis is logarithmic.
        question: the heading above the picture of a map.
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
        name: for a kind that a single point shows, the name in `Config.kind`.
        matches: whether the points of a backend are of this kind. They are either all maps or all not maps.
        sentences: describes the points.
        headline: describes them in a line.
        numbers: counts for `dvc metrics show`.
        sections: further sections of the study's page, with their headings.
        point_figures: draws one point; figures by name.
        sweep_figures: draws all points together; figures by name.
        study_figure: draws the one picture of the study from its name and the points of each backend.
        images: by key, the functions that draw a point's stepped images.
        charts: what MLflow shows of the study of a point.
        figure: name of the point's figure that MLflow shows instead of stepped images.
        single: whether each point is described on its own, apart from points of other kinds, without a table.
        networks: whether the snapshots of a point are weights of a network.
        untrained: what the report says of a backend that has not trained the study.
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


# Networks that predict numbers.
NUMBERS = Charts(columns=("final/train/loss", "final/train/mean_absolute_error"), prefixes=("train",))
# Networks that sort images into classes.
CLASSES = Charts(
    columns=("final/train/loss", "final/test/accuracy"),
    prefixes=("train", "test"),
    judged="test/accuracy",
    second=("test/accuracy", False),
)
# Balls on a curve: the training loss is their mean height.
ROLLED = Charts(
    columns=("final/train/loss", "final/balls/settled_share"),
    prefixes=("train", "balls"),
    second=("balls/settled_share", False),
)
# Maps, of networks or of curves.
MAPPED = Charts(
    columns=("map/converged_share", "map/best_loss"),
    prefixes=("map",),
    question="Which pairs converge (blue)?",
)


def _of_one(kind: str) -> Callable[[Points], bool]:
    """Return a function that recognizes points by the kind of the first of them."""
    return lambda points: points[0].config.kind == kind


def _first(backends: Backends) -> Points:
    """Return the points of the first backend."""
    return next(iter(backends.values()))


def _network_charts(config: Config) -> Charts:
    """Return the charts of a network: with accuracies if it sorts images into classes."""
    if config.data.kind == "idx":
        return CLASSES
    return NUMBERS


def _map_figure(points: Points) -> Figure:
    """Draw the first of several maps."""
    return map_figure(points[0].config, points[0].history.map_arrays)


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
    charts=_network_charts,
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
    point_figures=lambda point: [("map", _map_figure([point]))],
    sweep_figures=lambda points: [],
    study_figure=lambda study, backends: _map_figure(_first(backends)),
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
# Points are of the first kind that matches. NETWORKS matches all points, so it comes last. Range tests, widths and
# variants are networks as well, so they come before it.
KINDS = (BALLS, BASINS, MAPS, RANGE_TESTS, WIDTHS, VARIANTS, NETWORKS)
BY_NAME = {kind.name: kind for kind in KINDS}


def kind_of(config: Config) -> Kind:
    """Return the kind of one point."""
    return BY_NAME[config.kind]


def study_kind(points: Points) -> Kind:
    """Return the kind of the points of one backend, at least one point.

    Example:
        study_kind(points).headline(points)
    """
    return next(kind for kind in KINDS if kind.matches(points))


def parts(points: Points) -> list[tuple[Kind, Points]]:
    """Split the points of one backend into maps, each of which is described on its own, and all others."""
    single = [point for point in points if kind_of(point.config).single]
    others = [point for point in points if not kind_of(point.config).single]
    return [(study_kind(members), members) for members in (single, others) if members]


def answers(points: Points) -> Iterator[str]:
    """Yield sentences that describe one backend's points, with numbers computed from them."""
    for kind, members in parts(points):
        yield from kind.sentences(members)


def headline(points: Points) -> str:
    """Describe one backend's points in a line."""
    return "; ".join(kind.headline(members) for kind, members in parts(points))


def point_figures(point: Point) -> Figures:
    """Draw the figures of one point, each with its name. Nothing here writes files."""
    return kind_of(point.config).point_figures(point)


def sweep_figures(points: Points) -> Figures:
    """Draw the figures of a sweep, each with its name; maps are not part of them."""
    for kind, members in parts(points):
        yield from kind.sweep_figures(members)


def study_figure(study: str, backends: Backends) -> Figure:
    """Draw the one picture of a study that answers its question.

    Args:
        study: its name, for the title.
        backends: the points of each backend; at least one point of one backend.
    """
    return study_kind(_first(backends)).study_figure(study, backends)
