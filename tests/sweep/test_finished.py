"""A command with nothing to do says again what it said, and looks closer as soon as anything has changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.sweep import finished
from pipeline.sweep.finished import SUFFIX, scores_again
from pipeline.sweep.jobs import JobMaker
from tests.support.swept import Request, begun, rates, request, swept

pytestmark = pytest.mark.usefixtures("plain_runs")


def again(project: Path, requests: list[Request]) -> list[float] | None:
    return scores_again(JobMaker(project, requests[0][0]), requests)


def changed_and_back(file: Path, change: Callable[[], object], told: Callable[[], object]) -> None:
    """Change a file or folder, see that this is noticed, and put back what was there, with its times."""
    kept = file.with_name("kept")
    if file.is_dir():
        shutil.copytree(file, kept)
    else:
        shutil.copy2(file, kept)
    change()
    assert told() is None, file
    if file.is_dir():
        shutil.rmtree(file)
    kept.rename(file)
    assert told() is not None, file


def test_it_is_said_again_until_something_changes(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = rates("0.1", "0.01")
    assert again(project, requests) is None
    sweep = swept(project, requests)
    first = capsys.readouterr().out

    assert again(project, [*requests, requests[0]]) == [
        job.point.outcome.score for job in (*sweep.jobs.values(), next(iter(sweep.jobs.values()))) if job.point
    ]
    assert capsys.readouterr().out == first
    # Other points, another command.
    assert again(project, requests[:1]) is None
    assert again(project, [(one.model_copy(update={"force": True}), typed) for one, typed in requests]) is None
    assert again(project, [(one.model_copy(update={"question": "Why?"}), typed) for one, typed in requests]) is None
    with monkeypatch.context() as patch:
        patch.setattr(finished, "columns", lambda: 80)
        assert again(project, requests) is None

    def told() -> list[float] | None:
        return again(project, requests)

    point = next(iter(sweep.jobs.values())).folder.final
    weights = point / "weights.npz"
    [record] = (project / ".points" / ".sweeps").glob(f"*{SUFFIX}")
    changed_and_back(weights, weights.unlink, told)
    changed_and_back(weights, lambda: os.utime(weights), told)
    changed_and_back(record, lambda: record.write_text("{"), told)
    database = project / "mlruns" / "mlflow.db"
    changed_and_back(database, database.unlink, told)
    artifacts = next((project / "mlruns" / "artifacts").rglob("weights.npz"))
    changed_and_back(artifacts, artifacts.unlink, told)


def test_results_that_are_gone_are_copied_again(project: Path) -> None:
    requests = [request("optimizer.learning_rate=0.1", f"results={project / 'results' / 'line'}")]
    swept(project, requests)
    assert again(project, requests) is not None
    shutil.rmtree(project / "results" / "line")
    assert again(project, requests) is None
    swept(project, requests)
    assert (project / "results" / "line" / "sweep.json").exists()
    assert again(project, requests) is not None


def test_what_older_code_printed_is_not_said_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = project / "code" / "pipeline" / "module.py"
    module.parent.mkdir(parents=True)
    module.write_text("1\n")
    monkeypatch.setattr(finished, "PROJECT", project / "code")
    requests = rates("0.1")
    sweep = begun(project, requests)
    module.write_text("1  # edited during the training\n")
    sweep.finish()
    assert again(project, requests) is None
    swept(project, requests)
    assert again(project, requests) is not None
