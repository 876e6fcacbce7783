"""The sentence that says on which rows points were compared, and on which rows the numbers of a page were measured."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipeline.config.metrics import has_test_rows, has_validation_rows
from pipeline.points.point import Point
from pipeline.studies.kinds import NETWORKS, VARIANTS, study_kind

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
    config = points[0].config
    tested = has_test_rows(config.data)
    if has_validation_rows(config.data):
        share = f"{config.data.model_dump()['validation_share']:.0%} of the training rows"
        held_back = f"Points are compared on validation rows, {share}, which no point was trained on"
        if tested:
            return f"{held_back}; test rows only tell how good the chosen ones are."
        return f"{held_back}; there are no test rows, so the chosen ones look better than they are."
    if not tested:
        return ""
    as_in_the_text = ""
    if config.study in AS_IN_THE_TEXT:
        as_in_the_text = ", as in the text"
    return f"Chosen and told on the test rows{as_in_the_text}: the best of several points looks better than it is."
