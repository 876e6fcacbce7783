"""What is said of the knobs of a study that are no axes: the best over all other knobs, and the spread over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.config.metrics import larger_is_better, metric_name
from pipeline.points.point import Point
from pipeline.studies.certainty import COMPLETE
from pipeline.studies.grids import Cell, cell_metric, cells, profile
from pipeline.studies.knobs import Knob, Layout
from pipeline.studies.named_values import span, values_of
from pipeline.studies.ranking import rank
from pipeline.system.wording import listed

# Maximum number of values of a knob to name in a sentence.
MOST_NAMED = 8


def profile_sentences(points: Sequence[Point], shown: Layout) -> Iterator[str]:
    """Yield for each knob without an axis the best result at each of its values, over all other knobs."""
    metric = cell_metric(points)
    where = ""
    if rank(cells(points, shown, metric), metric).better_where_trained:
        where = COMPLETE
    for knob in shown.apart:
        best = profile(points, shown, knob, metric)
        sentence = f"by {knob.name}, the best over all other knobs{where}: {metric_name(metric)} {_at(knob, best)}"
        yield "; ".join([sentence, *_set(knob, [cell for cell in best if cell is not None], metric)]) + "."


def _at(knob: Knob, best: Sequence[Cell | None]) -> str:
    """List the best results with the values of a knob; of many values only the best and the worst one."""
    texts = []
    for value, cell in zip(knob.values, best, strict=True):
        text = f"diverged at {knob.text(value)}"
        if cell is not None:
            text = f"{cell.estimate.number} at {knob.text(value)}"
        texts.append(text)
    if len(texts) <= MOST_NAMED:
        return listed(texts)
    trained = [cell for cell in best if cell is not None]
    ranked = sorted(trained, key=lambda cell: cell.value, reverse=larger_is_better(trained[0].metric))
    ends = [f"{cell.estimate.number} at {knob.text(knob.of(cell.points[0]))}" for cell in (ranked[0], ranked[-1])]
    return f"{' to '.join(ends)} ({len(texts)} values, in the figure)"


def _set(knob: Knob, best: Sequence[Cell], metric: str) -> Iterator[str]:
    """Yield which values of a knob cannot be told from the best one, as far as there are tests."""
    ranking = rank(best, metric)
    if not ranking.found.tested or len(best) < 2:
        return
    values = values_of(ranking.members, knob)
    names = span(values, values_of(best, knob), knob)
    if ranking.better_where_trained:
        return
    if len(values) == 1:
        yield f"{names} is the best"
    else:
        yield f"{names} cannot be told apart"


def seed_sentences(points: Sequence[Point], shown: Layout) -> Iterator[str]:
    """Yield the mean over the seeds and its spread, if nothing else varies."""
    metric = cell_metric(points)
    found = cells(points, shown, metric)
    if len(found) > 1 or len(shown.seeds) < 2 or not found[0].estimate.trained:
        return
    values = found[0].estimate.values
    yield (
        f"over {found[0].estimate.seeds} seeds, the {metric_name(metric)} is {found[0].estimate.number} "
        f"({min(values):.3g} to {max(values):.3g})."
    )
