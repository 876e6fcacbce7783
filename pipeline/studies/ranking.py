"""Compare the cells of a study with the best of them, and say whether anything was learned at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.config.data import IdxData
from pipeline.config.metrics import best_of, larger_is_better, last_part
from pipeline.config.model import Model
from pipeline.config.schema import Config
from pipeline.points.point import Point
from pipeline.studies.grids import Cell
from pipeline.studies.row_numbers import rows_of
from pipeline.studies.statistics.best import BestSet, best_set
from pipeline.studies.statistics.intervals import Estimate

# Methods that draw random numbers besides the initial weights and the order of the rows.
DRAWING = ("annealing", "aw_sgd")
# A training loss of at least this share of the baseline is that of a constant answer.
NOTHING_LEARNED = 0.98
# Guessing gives one class in so many; an accuracy up to this multiple of it is that of a constant answer, because one
# class may be more frequent than the others.
GUESSED = 1.5


@dataclass(frozen=True)
class Ranking:
    """Cells of one metric, and which of them cannot be told from the best.

    Attributes:
        cells: those that were compared. Of cells with several seeds and others with one, only the former are, if one of
            them has a better mean than each of the latter.
        metric: the metric.
        found: what the paired tests say; its numbers are indices of `cells`.
        left_out: the cells with one seed that were not compared.
    """

    cells: tuple[Cell, ...]
    metric: str
    found: BestSet
    left_out: tuple[Cell, ...] = ()

    @property
    def tried(self) -> tuple[Cell, ...]:
        """All cells, those that were not compared included."""
        return (*self.cells, *self.left_out)

    @property
    def better_where_trained(self) -> list[Cell]:
        """Cells of which a seed diverged, and whose others are better than the best that trained with every seed."""
        return [self.cells[index] for index in self.found.better_where_trained]

    @property
    def best(self) -> Cell | None:
        """The cell with the best mean; None if all diverged."""
        if self.found.best is None:
            return None
        return self.cells[self.found.best]

    @property
    def members(self) -> list[Cell]:
        """The cells that cannot be told from the best one; without a test, those that are exactly as good."""
        if self.best is None:
            return []
        if self.found.tested:
            return [self.cells[index] for index in self.found.members]
        complete = self.best.estimate.trained == self.best.estimate.asked
        equal = [cell for cell in self.cells if cell.value == self.best.value]
        return [cell for cell in equal if (cell.estimate.trained == cell.estimate.asked) == complete]

    @property
    def known(self) -> bool:
        """Whether the best one is known: by tests, or because nothing in the training is random."""
        return self.found.tested or (self.best is not None and not random(self.best.points[0].config))

    @property
    def behind(self) -> list[tuple[Cell, Estimate]]:
        """The cells that are told apart from the best one, and by how much they are worse."""
        return [(self.cells[index], worse) for index, worse in self.found.behind.items()]


def rank(found: Sequence[Cell], metric: str) -> Ranking:
    """Compare cells by paired tests over their seeds.

    A cell with one seed beside several others with more cannot be tested. If it is as good as the best of them, nothing
    is tested; otherwise it is left out.
    """
    repeated = _compared([cell for cell in found if len(cell.points) > 1], found, metric)
    single = tuple(cell for cell in found if len(cell.points) == 1)
    if repeated.best is None or len(repeated.cells) < 2 or not single:
        return _compared(found, found, metric)
    trained = [cell.value for cell in single if cell.estimate.trained]
    if trained and best_of(metric, [*trained, repeated.best.value]) in trained:
        return _compared(found, found, metric)
    return replace(repeated, left_out=single)


def _compared(compared: Sequence[Cell], found: Sequence[Cell], metric: str) -> Ranking:
    """Compare some of the cells that were found."""
    values = [cell.by_seed for cell in compared]
    return Ranking(tuple(compared), metric, best_set(values, larger_is_better(metric), resolution(found, metric)))


def resolution(found: Sequence[Cell], metric: str) -> float:
    """Return the smallest difference that a metric can show: one row of an accuracy; 0 for others or if unknown."""
    if not found or not last_part(metric).endswith("accuracy"):
        return 0.0
    rows = rows_of(found[0].points[0], metric)
    if not rows:
        return 0.0
    return 1 / rows


def random(config: Config) -> bool:
    """Whether anything in a training depends on its seed."""
    model = config.model
    constant = isinstance(model, Model) and model.initializer == "constant" and not model.dropout + model.drop_connect
    return not constant or config.training.batch_size is not None or config.optimizer.name in DRAWING


def nothing_learned(points: Sequence[Point], metric: str, best: Cell) -> bool:
    """Whether the best of some points is no better than a constant answer, and so no point has learned anything.

    Where all targets are the same, a constant answer is right, and nobody knows.
    """
    values = [point.diagnosis.values for point in points if not point.diverged]
    shares = [own["loss_over_baseline"] for own in values if "loss_over_baseline" in own]
    if min(shares, default=0.0) < NOTHING_LEARNED:
        return False
    if not last_part(metric).endswith("accuracy"):
        return True
    return best.value <= GUESSED / _classes(best.points[0])


def _classes(point: Point) -> int:
    """Return the number of classes; two if the data does not say it, as that of a table."""
    if point.data is not None:
        return max(len(point.data.classes), 2)
    if isinstance(point.config.data, IdxData):
        return point.config.data.classes
    return 2
