"""Where MLflow shows the run of a point: below its sweep, or below the run of a point with several seeds."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.tracking.pages.presentation import COLOUR, RUN_NAME
from pipeline.tracking.pages.views import NEWEST, SEED

# The run below which MLflow shows another, and the run of the sweep, which stays the same when a seed moves below the
# run of its point.
PARENT = "mlflow.parentRunId"
SWEEP_RUN = "lab.sweep_run"


def adapted(tags: Mapping[str, str], placement: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that place the run of a point, without those that would undo how it is placed already.

    Args:
        tags: the tags of the run.
        placement: the tags of a run that is placed for the first time.
    """
    changed = dict(placement)
    if PARENT not in placement and PARENT in tags:
        # A command for this point alone. Its sweep has named and coloured it, and shows it.
        changed.pop(RUN_NAME, None)
        changed.pop(COLOUR, None)
        keeps = True
    else:
        # A seed that the same sweep has moved.
        keeps = PARENT in tags and tags.get(SWEEP_RUN) == placement.get(SWEEP_RUN) != tags[PARENT]
        if keeps:
            changed.pop(PARENT, None)
    if keeps and (tags.get(NEWEST), placement.get(NEWEST)) == (SEED, "true"):
        del changed[NEWEST]
    return changed
