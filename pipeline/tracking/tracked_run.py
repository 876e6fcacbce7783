"""A run as MLflow has it, as far as this program needs it to compare the run with what is on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.tracking.location import local_path

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class TrackedRun:
    """A run in MLflow: its id, status, tags, the names of its parameters, and the last value of each metric.

    Attributes:
        folder: the folder of its artifacts; None if only a server has access to them.
        models: the ids of its models.
    """

    run_id: str
    status: str
    tags: dict[str, str]
    params: frozenset[str]
    metrics: dict[str, float] = field(default_factory=dict)
    folder: Path | None = None
    models: tuple[str, ...] = ()


def tracked_run(run: Run) -> TrackedRun:
    """Return a run of MLflow's client in this form."""
    models: tuple[str, ...] = ()
    if run.outputs:
        models = tuple(output.model_id for output in run.outputs.model_outputs)
    info, data = run.info, run.data
    folder = local_path(info.artifact_uri)
    params = frozenset(data.params)
    return TrackedRun(info.run_id, info.status, dict(data.tags), params, dict(data.metrics), folder, models)


def has_values(run: TrackedRun, values: Mapping[str, float]) -> bool:
    """Whether a run has these metrics, with these as their last values."""
    for name, value in values.items():
        if name not in run.metrics:
            return False
        # MLflow replaces infinite values, and some databases round the last digit.
        if math.isfinite(value) and not math.isclose(run.metrics[name], value, rel_tol=1e-9):
            return False
    return True
