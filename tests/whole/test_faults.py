"""Complete commands, disturbed from outside: stopped or started twice. kills.py kills them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.points.reading import read_point
from pipeline.tracking.store import store_uri
from tests.support.cluster_runs import checkpoints, ended_with, go_on, make_lab, until

GRID = (
    "-m",
    "experiment=three_bits",
    "model.hidden_size=4,32",
    "optimizer.learning_rate=1",
    "training.epochs=2000",
    "results=results/three_bits/numpy",
    "recording.figures=none",
)
"""Two points, in stacks of their own, without the figures, which take a second."""


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.train", *arguments],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def runs_of(project: Path, study: str = "three_bits") -> list[Run]:
    client = MlflowClient(store_uri(project))
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


@pytest.mark.slow
def test_two_commands_at_once_train_each_point_once(tmp_path: Path, empty_store: Path) -> None:
    ready = make_lab(tmp_path, empty_store)
    both = [start(ready, *GRID) for _ in range(2)]
    told = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert "Traceback" not in told[0][1] + told[1][1], told
    assert sum(stderr.count(": 2000 epochs") for _, stderr in told) == 2  # stacks, of one point each
    runs = runs_of(ready)
    points = [run for run in runs if run.data.tags["lab.role"] == "point"]
    assert len(points) == len({run.data.tags["signature"] for run in points}) == 2
    assert len({run.data.tags["lab.attempt"] for run in points}) == 2
    assert [run.data.tags["lab.role"] for run in runs].count("sweep") == 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    results = ready / "results" / "three_bits" / "numpy"
    for row in json.loads((results / "sweep.json").read_text())["points"]:
        point = read_point(results / row["folder"], row["name"])
        run = next(run for run in points if run.data.tags["signature"] == row["signature"])
        attempt = json.loads((point.folder / "run.json").read_text())["attempt"]
        assert run.data.tags["lab.attempt"] == attempt  # nobody trained it a second time


@pytest.mark.slow
def test_a_pipeline_that_is_stopped_by_ctrl_c_goes_on(tmp_path: Path, empty_store: Path) -> None:
    ready = make_lab(tmp_path, empty_store, held=True)
    (ready / "dvc.yaml").write_text(
        "stages:\n  train:\n"
        f"    cmd: {sys.executable} -m pipeline.train {' '.join(GRID)}\n"
        "    outs: [results/three_bits/numpy]\n"
    )
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=ready, check=True)
    command = [sys.executable, "-m", "dvc", "repro"]
    with (ready / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ready, stdout=log, stderr=log, start_new_session=True)
        with ended_with(process):
            until(lambda: checkpoints(ready) or process.poll() is not None)
            os.killpg(process.pid, signal.SIGINT)
            until(lambda: "stopping after this epoch" in (ready / "log").read_text())
            go_on(ready)
            assert process.wait(100) != 0
    said = (ready / "log").read_text()
    assert "run the same command again to resume" in said
    assert {run.info.status for run in runs_of(ready)} == {"KILLED"}
    done = subprocess.run(command, cwd=ready, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "resuming after" in done.stderr
    assert {run.info.status for run in runs_of(ready)} == {"FINISHED"}
    assert len(runs_of(ready)) == 3
