"""The sentence that says on which rows points were compared, and on which rows the numbers of a page were measured."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipeline.config.metrics import last_part, metric_name
from pipeline.diagnosis.run import HELD_OUT
from pipeline.points.point import Point
from pipeline.studies.grids import cell_metric, recorded, told_metric
from pipeline.studies.kinds import NETWORKS, VARIANTS, study_kind
from pipeline.studies.row_numbers import rows_of

# The studies that repeat a text's own split, which has no validation rows.
AS_IN_THE_TEXT: Collection[str] = ("mnist",)
# The others compare training losses, or networks with themselves.
COMPARING = (NETWORKS, VARIANTS)


def compared_rows(points: Sequence[Point]) -> str:
    """Return the sentence on the rows that compare points and those that tell.

    It is empty if there are training rows only, and for kinds of study that compare training losses.

    Args:
        points: those of one study on one backend, at least one.
    """
    if len(points) < 2 or study_kind(points) not in COMPARING:
        return ""
    metric = cell_metric(points)
    if metric.startswith("validation/"):
        held_back = f"Points are compared on {_number(points, metric)}validation rows, which no point was trained on"
        if told_metric(points, metric) is not None:
            return f"{held_back}; test rows only tell how good the chosen ones are."
        return f"{held_back}; no test rows tell how good the chosen ones are, so these look better than they are."
    if metric.startswith("test/"):
        as_in_the_text = ""
        if points[0].config.study in AS_IN_THE_TEXT:
            as_in_the_text = ", as in the text"
        return f"Chosen and told on the test rows{as_in_the_text}: the best of several points looks better than it is."
    held_out = [f"{rows} rows" for rows in HELD_OUT if recorded(points, f"{rows}/{last_part(metric)}")]
    if not held_out:
        return ""
    return f"Points are compared on the rows that they were trained on, by the {metric_name(metric)}; " + (
        f"{' and '.join(held_out)} choose nothing, and tell how good the chosen ones are on other rows."
    )


def _number(points: Sequence[Point], metric: str) -> str:
    """Return the number of rows of a metric, with a space after it; empty if points differ in it, or it is unknown."""
    numbers = {rows_of(point, metric) for point in points}
    if len(numbers) > 1 or 0 in numbers:
        return ""
    return f"{numbers.pop():,} "
