"""Commands on described data: complete points with what the data is, resumed with the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.points.reading import read_point
from tests.support.described import SMALL, config_of, prepared
from tests.support.swept import Request, at_epoch, interrupt, killed, numbers, swept

pytestmark = pytest.mark.usefixtures("sketched", "plain_runs")
TASKS = ("iris", "breast_cancer", "diabetes")


def requests(name: str, *more: str) -> list[Request]:
    own = [[f"optimizer.learning_rate={rate}"] for rate in ("0.001", "0.01")]
    return [(config_of(name, *SMALL, "training.epochs=8", "study=own", *one, *more), one) for one in own]


# What Keras computes for each task: test_described_data.py.
@pytest.mark.parametrize(("name", "backend"), [*((name, "numpy") for name in TASKS), ("breast_cancer", "keras")])
def test_points_are_trained_and_read_with_their_description(project: Path, name: str, backend: str) -> None:
    data = prepared(name)
    data.write(project)
    sweep = swept(project, requests(name, f"backend={backend}"))
    assert [job.state for job in sweep.jobs.values()] == ["complete", "complete"]
    for job in sweep.jobs.values():
        point = read_point(job.folder.final, job.name)
        assert point.data == data.description
        assert point.outcome.final["train/baseline_loss"] > 0
        assert "train/baseline_loss" not in point.outcome.best
        assert "baseline" in point.diagnosis.evidence
    assert [job.state for job in swept(project, requests(name, f"backend={backend}")).jobs.values()] == ["done", "done"]


@pytest.mark.parametrize("backend", ["numpy", "keras"])
def test_a_killed_command_resumes_to_the_same_numbers(
    project: Path, backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    more = (f"backend={backend}", "training.batch_size=null")
    prepared("breast_cancer").write(project)
    with monkeypatch.context() as patch:
        at_epoch(patch, 5, interrupt)
        killed(project, requests("breast_cancer", *more))
    resumed = swept(project, requests("breast_cancer", *more))
    again = swept(project, [(point.model_copy(update={"force": True}), one) for point, one in
                            requests("breast_cancer", *more)])  # fmt: skip
    for one, other in zip(resumed.jobs.values(), again.jobs.values(), strict=True):
        assert one.point is not None
        assert other.point is not None
        assert numbers(one.point) == numbers(other.point)
        assert one.point.history.series("train/baseline_loss")[0].tolist() == [0]
