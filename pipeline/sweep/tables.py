"""The tables of a terminal: what a command is going to do, and what it has done."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.points.job import Job
from pipeline.system.wording import aligned

METRICS = ("train/loss", "train/accuracy", "test/loss", "test/accuracy", "map/converged_share", "map/best_loss")
ENDED = {"failed": "failed", "killed": "stopped", "to run": "not trained", "to continue": "not trained"}


def plan_table(jobs: Sequence[Job]) -> str:
    """The points of a dry run: their knobs, signature, and where they stand."""
    names = _knobs(jobs)
    rows = [[*names, "signature", "state"]]
    rows += [[*(job.knobs.get(name, "") for name in names), job.signature, job.state] for job in jobs]
    return aligned(rows)


def points_table(jobs: Sequence[Job]) -> str:
    """The points of a command: their knobs, outcome, final metrics and seconds."""
    points = [job.point for job in jobs if job.point is not None]
    shown = [name for name in METRICS if any(name in point.outcome.final for point in points)]
    names = _knobs(jobs)
    rows = [[*names, "outcome", *shown, "seconds"]]
    for job in jobs:
        told = [job.knobs.get(name, "") for name in names]
        if job.point is None or job.state in ENDED:
            rows.append([*told, ENDED.get(job.state, job.state)])
            continue
        ended = job.point.outcome
        how = "finished" if ended.outcome == "finished" else f"diverged at update {ended.diverged_step}"
        finals = [f"{ended.final[name]:.5g}" if name in ended.final else "" for name in shown]
        rows.append([*told, how, *finals, f"{ended.seconds:.1f}"])
    width = len(rows[0])
    return aligned([row + [""] * (width - len(row)) for row in rows])


def _knobs(jobs: Sequence[Job]) -> list[str]:
    return list(dict.fromkeys(name for job in jobs for name in job.knobs))
