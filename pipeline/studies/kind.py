"""What a kind of study is: the functions that judge, tell, draw and show its points. kinds.py lists all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.config.schema import Config
from pipeline.drawing.axes import Drawings
from pipeline.points.point import Point
from pipeline.studies.charts import Charts
from pipeline.studies.explanations import Section
from pipeline.studies.grids import PointsByBackend
from pipeline.studies.images.data import Draw
from pipeline.studies.knobs import Knob

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = Sequence[Point]


@dataclass(frozen=True)
class Kind:
    """A kind of study.

    Attributes:
        name: for kinds recognizable from a single point, the name in `Config.kind`.
        matches: whether points of one backend are of this kind; called with maps only, or without any maps (`parts`).
        sentences: generates the summary sentences.
        headline: generates a one-line summary.
        numbers: generates the numbers for `dvc metrics show`.
        sections: generates additional sections of the study's page, with their headings.
        point_figures: draws the figures of one point, each with a name.
        sweep_figures: draws the figures of all points together, each with a name.
        study_figure: draws the study figure, given the study's name and the points of each backend.
        images: returns the functions that draw the images of a point, by image key.
        charts: returns the metrics on MLflow's page of a point's study.
        figure: name of the point's figure that MLflow shows instead of images.
        single: whether each point is reported separately: apart from points of other kinds, and without a table.
        networks: whether the snapshots of a point are weights of a network.
        untrained: text shown if a backend has not trained the study.
        further: returns the knobs besides the rate and the hidden size that are columns of tables of points.
    """

    name: str
    matches: Callable[[Points], bool]
    sentences: Callable[[Points], Iterable[str]]
    headline: Callable[[Points], str]
    numbers: Callable[[Points], dict[str, float]]
    sections: Callable[[Points], Sequence[Section]]
    point_figures: Callable[[Point], Drawings]
    sweep_figures: Callable[[Points], Drawings]
    study_figure: Callable[[str, PointsByBackend], Figure]
    images: Callable[[Config], Mapping[str, Draw]]
    charts: Callable[[Config], Charts]
    figure: str | None = None
    single: bool = False
    networks: bool = True
    untrained: str = "not run"
    further: Callable[[Points], Sequence[Knob]] = lambda points: []
