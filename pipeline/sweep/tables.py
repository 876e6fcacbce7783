"""Format tables for the terminal: the plan of a command, and its results."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.points.job import Job
from pipeline.points.point import Outcome
from pipeline.system.wording import aligned

# The final metrics that get a column, in this order, if any point has them.
METRICS = (
    "train/loss",
    "train/accuracy",
    "test/loss",
    "test/accuracy",
    "test/mean_absolute_error",
    "map/converged_share",
    "map/best_loss",
)
# The outcome to show for points that this command did not complete; then numbers of an earlier command are not shown.
INCOMPLETE = {"failed": "failed", "killed": "stopped", "to run": "not trained", "to continue": "not trained"}


def plan_table(jobs: Sequence[Job]) -> str:
    """Format the points of a dry run: their knobs, signature and state."""
    names = _knobs(jobs)
    rows = [[*names, "signature", "state"]]
    rows += [[*(job.knobs.get(name, "") for name in names), job.signature, job.state] for job in jobs]
    return aligned(rows)


def points_table(jobs: Sequence[Job]) -> str:
    """Format the points of a command: their knobs, outcome, final metrics and seconds."""
    points = [job.point for job in jobs if job.point is not None]
    # The metric that the config names judges, and comes last if it is no other column.
    chosen = [job.config.report.metric for job in jobs if job.config.report.metric is not None]
    wanted = dict.fromkeys([*METRICS, *chosen])
    metrics = [name for name in wanted if any(name in point.outcome.final for point in points)]
    names = _knobs(jobs)
    rows = [[*names, "outcome", *metrics, "seconds"]]
    for job in jobs:
        knobs = [job.knobs.get(name, "") for name in names]
        if job.point is None or job.state in INCOMPLETE:
            rows.append([*knobs, INCOMPLETE.get(job.state, job.state)])
        else:
            rows.append([*knobs, *_outcome_cells(job.point.outcome, metrics)])
    # The rows of points without numbers are shorter, while `aligned` needs rows of one length.
    width = len(rows[0])
    return aligned([row + [""] * (width - len(row)) for row in rows])


def _outcome_cells(outcome: Outcome, metrics: Sequence[str]) -> list[str]:
    """Format the outcome of a point, some of its final metrics, and its seconds."""
    ended: str = outcome.outcome
    if ended != "finished":
        ended = f"diverged at update {outcome.diverged_step}"
    finals = [f"{outcome.final[name]:.5g}" if name in outcome.final else "" for name in metrics]
    return [ended, *finals, f"{outcome.seconds:.1f}"]


def _knobs(jobs: Sequence[Job]) -> list[str]:
    """Return the names of the knobs of any point, each once, in the order of their first use."""
    # A dictionary keeps the order, which a set would not.
    return list(dict.fromkeys(name for job in jobs for name in job.knobs))
