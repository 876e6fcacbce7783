"""Training from the command line, from the config to MLflow and the results folder."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.config.schema import Config
from pipeline.points.reading import read_point
from pipeline.sweep.command import TrainCommand
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.tracking.store import store_uri
from tests.support.swept import full_name

HEAVY = {
    "mlflow",
    "sqlalchemy",
    "tensorflow",
    "keras",
    "torch",
    "jax",
    "matplotlib",
    "PIL",
    "pandas",
    "scipy",
    "sklearn",
}


def run(project: Path, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *options, "-m", "pipeline.train", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def ready(lab: Path, empty_store: Path) -> Path:
    """A copy of the project with an empty store."""
    (lab / "mlruns").mkdir()
    shutil.copy(empty_store, lab / "mlruns" / "mlflow.db")
    return lab


Here = Callable[..., tuple[str, str]]


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Return a function that runs the command in this process, and returns what it printed.

    This process has imported MLflow already.
    """
    monkeypatch.chdir(project)
    monkeypatch.setattr("pipeline.sweep.command.PROJECT", project)
    monkeypatch.setattr("pipeline.tracking.sync.process.launch", lambda first: None)

    def train(*arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        command = TrainCommand()
        assert cli.run(command.train_point, "config", command.finish) == 0
        said = capsys.readouterr()
        return said.out, said.err

    return train


def runs_of(project: Path, study: str) -> dict[str, Run]:
    client = MlflowClient(store_uri(project))
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    return {full_name(run): run for run in client.search_runs([experiment.experiment_id])}


def journal(folder: Path) -> list[tuple[str, str, str]]:
    """Read a journal without the times at which its rows were written."""
    with (folder / "metrics.csv").open(newline="") as stream:
        return [(row["step"], row["name"], row["value"]) for row in csv.DictReader(stream)]


def test_the_sync_process_of_a_sweep_is_started_once_and_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also with one that fails at once."""
    done: list[str] = []

    class Process:
        stdin = stdout = None

        def kill(self) -> None:
            done.append("killed")

        def wait(self) -> None:
            done.append("ended")

    def launch(first: Config) -> Process:
        done.append(f"started for {first.model.hidden_size}")
        return Process()

    def fail(*_: object) -> None:
        raise LabError("This sweep fails.")

    monkeypatch.setattr("pipeline.tracking.sync.process.launch", launch)
    monkeypatch.setattr("pipeline.sweep.sweep.Sweep", fail)
    points = ["experiment=three_bits", "model.hidden_size=3,4"]
    monkeypatch.setattr(sys, "argv", ["train", "-m", *points, f"hydra.sweep.dir={tmp_path}"])
    command = TrainCommand()
    assert cli.run(command.train_point, "config", command.finish) == 1
    assert done == ["started for 3", "killed", "ended"]


@pytest.mark.slow
def test_a_study_from_the_command_line_without_tensorflow_and_mlflow(ready: Path) -> None:
    # Models in MLflow take a second: test_best_models.py.
    typed = ("experiment=line_y2x", "results=results/line_y2x/numpy", "recording.models=none")
    done = run(ready, *typed, options=("-X", "importtime"))
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "numpy" in imported
    assert not imported & {"mlflow", "tensorflow", "keras", "torch", "jax"}
    title, head, *table = done.stdout.partition("\n\n")[0].splitlines()
    assert title == "line_y2x numpy: 1,000 epochs"
    assert head.split() == [
        "learning",
        "rate",
        "verdict",
        *["training", "loss", "training", "mean", "absolute", "error", "seconds"],
    ]
    assert [line.split()[:2] for line in table] == [["0.01", "converged"], ["0.1", "converged"], ["0.5", "stalled"]]
    assert "line_y2x numpy: points 1-3 of 3: 1000 epochs" in done.stderr
    runs = runs_of(ready, "line_y2x")
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert len(runs) == 4
    results = ready / "results" / "line_y2x" / "numpy"
    record = json.loads((results / "sweep.json").read_text())
    assert record["command"] == f"python -m pipeline.train {' '.join(typed)}"
    points = [read_point(results / row["folder"], row["name"]) for row in record["points"]]
    assert [point.learning_rate for point in points] == [0.01, 0.1, 0.5]
    assert points[1].outcome.final["weights/weight"] == pytest.approx(2, abs=1e-3)

    # Now there is nothing to do, which is told without what trains, draws, or writes to MLflow.
    for more in ([], ["dry_run=true"]):
        asked = run(ready, *typed, *more, options=("-X", "importtime"))
        imported = {line.split("|")[-1].strip().split(".")[0] for line in asked.stderr.splitlines() if "|" in line}
        assert not imported & HEAVY
        assert "line_y2x numpy: 3 points: 3 done" in asked.stderr
        assert asked.stdout == done.stdout or more
        assert asked.stdout.count("done") == len(more) * 3


@pytest.mark.usefixtures("plain_runs")
def test_a_single_run(project: Path, here: Here) -> None:
    out, err = here("experiment=two_bits", "training.epochs=50")
    title, head, *_ = out.splitlines()
    assert title == "two_bits numpy: learning rate 1, 50 epochs"
    assert head.startswith("verdict")
    assert "\nNext: `make ui`" in out
    assert "two_bits numpy: learning_rate=1 epochs=50: 50 epochs" in err
    runs = runs_of(project, "two_bits")
    assert {name: run.info.status for name, run in runs.items()} == {"learning_rate=1 epochs=50": "FINISHED"}
    assert len([path for path in (project / ".points").iterdir() if not path.name.startswith(".")]) == 1
    assert not (project / "results").exists()
    assert [path.name for path in (project / "outputs").iterdir()] == ["two_bits"]


def test_hydras_own_log_is_not_on_stdout(lab: Path) -> None:
    done = run(lab, "-m", "experiment=three_bits", "model.hidden_size=2,3", "dry_run=true", "hydra.verbose=true")
    lines = done.stdout.splitlines()
    assert lines[1].endswith("signature         state")
    assert all(line.endswith("to run") for line in lines[2:])


@pytest.mark.parametrize("mode", [(), ("-m",), ("-m", "hydra/launcher=basic")], ids=" ".join)
def test_variables_of_a_job_must_not_change_what_is_signed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: tuple[str, ...]
) -> None:
    monkeypatch.chdir(project)
    variables = "+hydra.job.env_set={KERAS_BACKEND: jax, MLFLOW_RUN_ID: another, MY_OWN: fine}"
    monkeypatch.setattr(sys, "argv", ["train", *mode, "experiment=two_bits", "dry_run=true", variables])
    command = TrainCommand()
    assert cli.run(command.train_point, "config", command.finish) == 1
    said = capsys.readouterr()
    assert "hydra.job.env_set contains variables that have no effect here" in said.err
    assert "received: KERAS_BACKEND, MLFLOW_RUN_ID\n" in said.err
    assert said.out == ""


@pytest.mark.usefixtures("plain_runs")
def test_the_basic_launcher_gives_the_same_numbers(project: Path, here: Here) -> None:
    common = ("-m", "experiment=three_bits", "optimizer.learning_rate=0.1,10", "training.epochs=60")
    _, stacked = here(*common, "model.hidden_size=2,3", "results=a")
    out, basic = here(*common, "model.hidden_size=3", "results=b", "force=true", "hydra/launcher=basic")
    # Only results: Hydra's own log would be the first lines.
    title, head, *rows = out.partition("\n\n")[0].splitlines()
    assert title == "three_bits numpy: hidden size 3, 60 epochs"
    assert head.startswith("learning rate  verdict")
    assert [line.split()[0] for line in rows] == ["0.1", "10"]
    points_a, points_b = (json.loads((project / name / "sweep.json").read_text())["points"] for name in ("a", "b"))
    assert [row["name"] for row in points_a] == [
        "learning_rate=0.1 hidden_size=2 epochs=60",
        "learning_rate=0.1 hidden_size=3 epochs=60",
        "learning_rate=10 hidden_size=2 epochs=60",
        "learning_rate=10 hidden_size=3 epochs=60",
    ]
    assert points_b == [points_a[1], points_a[3]]
    for row in points_b:
        a, b = project / "a" / row["folder"], project / "b" / row["folder"]
        assert journal(a) == journal(b)
        one, other = read_point(a, row["name"]), read_point(b, row["name"])
        assert one.history.tables == other.history.tables
        assert {s: {k: v.tobytes() for k, v in w.items()} for s, w in one.history.snapshots.items()} == {
            s: {k: v.tobytes() for k, v in w.items()} for s, w in other.history.snapshots.items()
        }
        assert (one.outcome.points_in_stack, other.outcome.points_in_stack) == (2, 1)
    assert "2 of 4 points" in stacked
    assert "point 2" in basic
    # The names of the folders are times.
    folders = sorted((project / "multirun" / "three_bits").iterdir())
    for folder, jobs in zip(folders, ({"0", "1", "2", "3"}, {"0", "1"}), strict=True):
        assert {path.name for path in folder.iterdir()} == jobs | {"multirun.yaml"}
        assert (folder / "1" / ".hydra" / "config.yaml").exists()
    client = MlflowClient(store_uri(project))
    experiment = client.get_experiment_by_name("three_bits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run.info.run_id for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 2
    children = [sum(run.data.tags.get("mlflow.parentRunId") == parent for run in runs) for parent in parents]
    # The points that were trained again have new runs, which replace the earlier ones.
    assert sorted(children) == [2, 2]
