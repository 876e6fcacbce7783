"""Small sweeps for the tests of commands: run, stopped, and read back from disk and from MLflow."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache
from mlflow.tracking.request_header.databricks_request_header_provider import DatabricksRequestHeaderProvider
from PIL import Image

from pipeline.backends.contract import State
from pipeline.config.schema import Config
from pipeline.points.point import Point
from pipeline.points.reading import read_point
from pipeline.sweep import command_record as record_module
from pipeline.sweep import figures
from pipeline.sweep import training as training_module
from pipeline.sweep.pacing import StackCheckpoints
from pipeline.sweep.sweep import Sweep
from pipeline.system.project import PROJECT
from pipeline.tracking import models
from pipeline.tracking.pages import presentation
from pipeline.tracking.pages.labels import POINT_NAME
from pipeline.tracking.store import store_uri
from pipeline.tracking.sync import thread
from tests.support.trained import config

STUDY = ("experiment=line_y2x", "gradient=backpropagation", "training.epochs=30")
ELSEWHERE = ("study", "results", "tracking.name", "tracking.uri")
"""Parameters that say where a point is stored, not what it is."""
Request = tuple[Config, list[str]]
Content = dict[str, dict[str, Any]]


def sketch_figures(patch: pytest.MonkeyPatch) -> None:
    """Replace the figures of sweeps by one tiny file for each point and one for the sweep."""

    def sketch(_: object, stream: BytesIO) -> None:
        stream.write(b"\x89PNG\r\n\x1a\n")

    patch.setattr(training_module, "point_figures", lambda *arguments: [("curves", "sketch")])
    patch.setattr(record_module, "sweep_figures", lambda *arguments: [("curves_by_rate", "sketch")])
    patch.setattr(figures, "save_png", sketch)


def make_plain(patch: pytest.MonkeyPatch) -> None:
    """Let sweeps draw no figures, and log only one small image and models without weights to MLflow.

    Most of the time of logging a point to MLflow goes into the images of each snapshot and the models. A tenth goes
    into the search for packages of Databricks that are not installed, at every request to a server.
    """

    def sketch_of_a_model(folder: Path, *_: object) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "MLmodel").write_text("flavors: {}\n")

    sketch_figures(patch)
    patch.setattr(presentation, "_images", lambda point, apart: [("fit", 0, Image.new("RGB", (8, 8)))])
    patch.setattr(models, "write_model", sketch_of_a_model)
    patch.setattr(thread, "list_packages", lambda: None)
    patch.setattr(DatabricksRequestHeaderProvider, "in_context", lambda self: False)


def request(*overrides: str, common: Sequence[str] = STUDY) -> Request:
    return config(*common, *overrides), list(overrides)


def rates(*values: str, more: Sequence[str] = (), common: Sequence[str] = STUDY) -> list[Request]:
    """Return a grid over the learning rate; `more` applies to all its points and is not part of their names."""
    return [request(f"optimizer.learning_rate={value}", common=(*common, *more)) for value in values]


def begun(project: Path, requests: Sequence[Request]) -> Sweep:
    """Run a command that has trained but not finished."""
    sweep = Sweep(project, requests[0][0], len(requests))
    sweep.train_all(requests)
    return sweep


def swept(project: Path, requests: Sequence[Request]) -> Sweep:
    """Run a command to its end."""
    sweep = begun(project, requests)
    sweep.finish()
    return sweep


def killed(project: Path, requests: Sequence[Request]) -> Sweep:
    """Run a command that is interrupted while it trains, to its end."""
    sweep = Sweep(project, requests[0][0], len(requests))
    with pytest.raises(KeyboardInterrupt):
        sweep.train_all(requests)
    sweep.finish()
    return sweep


def at_epoch(monkeypatch: pytest.MonkeyPatch, wanted: int, act: Callable[[], None], times: int = 1) -> None:
    """Let the first `times` stacks keep a checkpoint only at one epoch, and call `act` then, which may raise."""
    left = [times]

    class Acting(StackCheckpoints):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._at, left[0] = self.epoch, left[0] - 1
            self._acts = left[0] >= 0

        def due(self) -> bool:
            self._at += 1
            return self._acts and self._at == wanted

        def keep(self, epoch: int, states: Sequence[State]) -> None:
            super().keep(epoch, states)
            act()

    monkeypatch.setattr(training_module, "StackCheckpoints", Acting)


def interrupt() -> None:
    raise KeyboardInterrupt


def runs_of(project: Path, study: str = "line_y2x", uri: str | None = None) -> list[Run]:
    client = MlflowClient(uri or store_uri(project))
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"]))


def by_name(project: Path, study: str = "line_y2x", uri: str | None = None) -> dict[str, Run]:
    runs = runs_of(project, study, uri)
    named = {full_name(run): run for run in runs}
    assert sorted(named) == sorted(map(full_name, runs))
    return named


def full_name(run: Run) -> str:
    """Return the full name of a point's run, and the name of any other run."""
    return run.data.tags.get(POINT_NAME, str(run.info.run_name))


def statuses(project: Path, study: str = "line_y2x", uri: str | None = None) -> dict[str, str]:
    return {name: run.info.status for name, run in by_name(project, study, uri).items()}


def in_mlflow(project: Path, study: str = "line_y2x", uri: str | None = None, when: bool = False) -> Content:
    """Return the content of a study's runs by name; times and durations only with `when`."""
    client = MlflowClient(uri or store_uri(project))
    runs = by_name(project, study, uri)
    names = {run.info.run_id: name for name, run in runs.items()}
    content = {}
    for name, run in runs.items():
        is_sweep = run.data.tags["lab.role"] == "sweep"
        histories = {
            key: sorted(client.get_metric_history(run.info.run_id, key), key=lambda metric: int(metric.timestamp))
            for key in run.data.metrics
        }
        rows = {  # a sweep's metrics are logged again whenever it is summarized: only the last values count
            key: sorted((m.step, m.value, *([m.timestamp] if when else [])) for m in history[-1 if is_sweep else 0 :])
            for key, history in histories.items()
            if when or not key.startswith("time/")
        }
        content[name] = {
            "status": run.info.status,
            "parent": names.get(run.data.tags.get("mlflow.parentRunId", "")),
            "params": {k: v for k, v in run.data.params.items() if k not in ELSEWHERE},
            "tags": {k: run.data.tags.get(k) for k in ("lab.role", "signature", "backend", "outcome", "error")},
            "metrics": rows,
            "artifacts": artifact_names(client, run.info.run_id),
        }
        if when:
            content[name] |= {"id": run.info.run_id, "when": (run.info.start_time, run.info.end_time)}
    return content


def artifacts(client: MlflowClient, run_id: str, path: str | None = None) -> Iterator[str]:
    """Yield the paths of all artifact files of a run."""
    for file in client.list_artifacts(run_id, path):
        if file.is_dir:
            yield from artifacts(client, run_id, file.path)
        else:
            yield file.path


def artifact_names(client: MlflowClient, run_id: str) -> list[str]:
    """Return the paths of all artifact files of a run, without the timestamps in the names of images."""
    return sorted(re.sub(r"\+timestamp\+\d+", "", path) for path in artifacts(client, run_id))


def told_once(project: Path, point: Point, run_id: str, uri: str | None = None) -> None:
    """Check that MLflow has exactly the rows of a point's journal, each once."""
    client = MlflowClient(uri or store_uri(project))
    for name in {metric.name for metric in point.history.metrics}:
        kept = [(m.step, m.timestamp, m.value) for m in client.get_metric_history(run_id, name)]
        assert sorted(kept) == [(m.step, m.timestamp, m.value) for m in point.history.metrics if m.name == name]


def numbers(point: Point) -> dict[str, Any]:
    """Return everything that training determines, without the time it took and the size of the stack."""
    shared = ("seconds", "seconds_per_epoch", "points_in_stack")
    return {
        "metrics": [(m.step, m.name, m.value) for m in point.history.metrics],
        "weights": {s: {n: a.tobytes() for n, a in w.items()} for s, w in point.history.snapshots.items()},
        "tables": point.history.tables,
        "outcome": {name: value for name, value in vars(point.outcome).items() if name not in shared},
    }


def forget_locations() -> None:
    """Let the next calls find artifacts as a new process does; MLflow remembers where those of each run are."""
    _artifact_repos_cache.clear()


def on_disk(project: Path) -> dict[str, dict[str, Any]]:
    """Return the numbers of every complete point by signature, and check that each can be read."""
    folders = [path for path in (project / ".points").glob("*") if not path.name.startswith(".")]
    assert [path for path in folders if path.suffix == ".training"] == []
    return {path.name: numbers(read_point(path, path.name)) for path in folders}


def left_in_points(project: Path) -> list[str]:
    return sorted(path.name for path in (project / ".points").glob("*") if not path.name.startswith("."))


def helper(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python process that reports its progress on stdout, and ends when its stdin is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
