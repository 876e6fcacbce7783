"""One command's points in a real MLflow store: points trained, skipped or resumed; runs, folders, results."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from mlflow import MlflowClient

from pipeline.backends.contract import Checkpoints
from pipeline.backends.numpy import training
from pipeline.backends.shared.history import History
from pipeline.config.schema import Config, flatten
from pipeline.data.arrays import Arrays
from pipeline.points.folder import PointFolder
from pipeline.points.identity import signature
from pipeline.points.point import Outcome
from pipeline.points.reading import read_point
from pipeline.points.sweep_record import all_sweeps
from pipeline.sweep import command_record as record_module
from pipeline.sweep import pacing
from pipeline.sweep import sweep as sweep_module
from pipeline.sweep import training as training_module
from pipeline.sweep.plan import DryRun
from pipeline.sweep.sweep import Sweep
from pipeline.system.errors import LabError
from pipeline.tracking.pages import presentation
from pipeline.tracking.store import store_uri
from pipeline.tracking.sync.sweep import Sync
from pipeline.tracking.tracker import NOT_PARAMS
from tests.support.damage import rewrite
from tests.support.once import made_once
from tests.support.swept import (
    STUDY,
    Request,
    at_epoch,
    begun,
    by_name,
    helper,
    in_mlflow,
    interrupt,
    killed,
    left_in_points,
    numbers,
    on_disk,
    rates,
    request,
    runs_of,
    statuses,
    swept,
    told_once,
)

pytestmark = pytest.mark.usefixtures("sketched", "unadorned")
real_train = training.train


@pytest.fixture(scope="module")
def unadorned() -> Iterator[None]:
    """Runs in MLflow without images by step and models, which test_presentation and test_rebuild look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presentation, "image_files", lambda folder, *arguments: (folder / "images").mkdir())
        patch.setattr("pipeline.tracking.sync.points.log_models", lambda *arguments: None)
        yield


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[float]]]:
    """For each stack that is trained, the epoch after which it starts and the rates of its points."""
    seen: list[tuple[int, list[float]]] = []

    def train(points: Sequence[Config], arrays: Arrays, histories: Any, report: Any, checkpoints: Checkpoints) -> None:
        seen.append((checkpoints.epoch, [point.optimizer.learning_rate for point in points]))
        real_train(points, arrays, histories, report, checkpoints)

    monkeypatch.setattr(training, "train", train)
    return seen


@pytest.fixture(scope="module")
def calm(sketched: None, unadorned: None, tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A project where a sweep of three rates, one of which diverges, was never disturbed."""
    return made_once(tmp_path_factory, "sweep", lambda project: swept(with_store(project, empty_store), rates(*THREE)))


def with_store(project: Path, store: Path) -> Path:
    """A project with an MLflow store that is ready."""
    (project / "mlruns").mkdir()
    shutil.copy(store, project / "mlruns" / "mlflow.db")
    return project


THREE = ("0.01", "5", "0.1")


# --- a grid that goes well; one of its points diverges


Grid = tuple[Path, Sweep, list[Request], list[Any]]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Grid:
    project = with_store(tmp_path_factory.mktemp("grid"), empty_store)
    common = (*STUDY, "training.epochs=200", "results=results/line_y2x/numpy")
    requests = [request(f"optimizer.learning_rate={rate}", common=common) for rate in THREE]
    sweep = Sweep(project, requests[0][0], 3)
    outcomes = sweep.train_all(requests)
    sweep.finish()
    return project, sweep, requests, outcomes


CHILDREN = ["learning_rate=0.01", "learning_rate=5", "learning_rate=0.1"]


def test_outcomes_come_in_the_order_asked_for(grid: Grid) -> None:
    outcomes = grid[3]
    assert [outcome.outcome for outcome in outcomes] == ["finished", "diverged", "finished"]
    assert outcomes[2].final["train/loss"] < outcomes[0].final["train/loss"]


def test_one_experiment_with_a_parent_and_a_child_for_each_point(grid: Grid) -> None:
    project = grid[0]
    client = MlflowClient(store_uri(project))
    assert sorted(experiment.name for experiment in client.search_experiments()) == ["Default", "line_y2x"]
    runs = by_name(project)
    assert sorted(runs) == sorted(["line_y2x numpy", *CHILDREN])
    parent = runs["line_y2x numpy"]
    assert "mlflow.parentRunId" not in parent.data.tags
    for name in CHILDREN:
        assert runs[name].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert set(statuses(project).values()) == {"FINISHED"}
    assert all(run.info.end_time >= run.info.start_time for run in runs.values())


def test_tags_say_where_a_run_comes_from(grid: Grid) -> None:
    project, _, requests, _ = grid
    runs = by_name(project)
    for name, (own, overrides) in zip(CHILDREN, requests, strict=True):
        tags = runs[name].data.tags
        checksum = tags["data.table"]
        assert tags["signature"] == signature(own, {"table": checksum})
        assert tags["overrides"] == " ".join(overrides)
        assert (tags["study"], tags["backend"], tags["lab.role"]) == ("line_y2x", "numpy", "point")
    assert runs["line_y2x numpy"].data.tags["lab.role"] == "sweep"
    assert [runs[name].data.tags["outcome"] for name in CHILDREN] == ["finished", "diverged", "finished"]


def test_every_key_of_the_config_is_a_parameter_under_its_hydra_name(grid: Grid) -> None:
    project, _, requests, _ = grid
    runs = by_name(project)
    for name, (own, _) in zip(CHILDREN, requests, strict=True):
        params = dict(runs[name].data.params)
        rate = own.optimizer.learning_rate
        assert float(params.pop("log10_learning_rate")) == pytest.approx(math.log10(rate), rel=1e-5)
        leaves = {key: value for key, value in flatten(own) if key not in NOT_PARAMS}
        assert set(params) == set(leaves)
        for key, value in leaves.items():
            assert params[key] == (value if isinstance(value, str) else json.dumps(value))
        assert float(params["optimizer.learning_rate"]) == rate


def test_the_rate_is_a_metric_too_for_the_axis_of_a_chart(grid: Grid) -> None:
    runs = by_name(grid[0])
    assert [runs[name].data.metrics["hp/learning_rate"] for name in CHILDREN] == [0.01, 5, 0.1]
    assert not any("hp/hidden_size" in runs[name].data.metrics for name in CHILDREN)  # the line has no hidden layer


def test_the_outcome_of_a_run(grid: Grid) -> None:
    project, _, _, outcomes = grid
    runs = by_name(project)
    for name, outcome in zip(CHILDREN, outcomes, strict=True):
        metrics = runs[name].data.metrics
        ended = outcome.outcome == "finished"
        logarithm = {"log10_loss": math.log10(outcome.final["train/loss"])} if ended else {}
        final = {k.removeprefix("final/"): v for k, v in metrics.items() if k.startswith("final/")}
        assert final == outcome.final | logarithm
        assert {k.removeprefix("best/"): v for k, v in metrics.items() if k.startswith("best/")} == outcome.best
        assert metrics["diverged"] == (outcome.outcome == "diverged")
        assert metrics.get("diverged_step") == outcome.diverged_step
        assert metrics["last_finite_loss"] == outcome.last_finite_loss
        assert metrics["time/seconds"] == outcome.seconds
    assert "diverged_step" in runs[CHILDREN[1]].data.metrics


def test_the_journal_is_the_history_in_mlflow_and_nothing_is_infinite(grid: Grid) -> None:
    project, sweep, _, _ = grid
    client = MlflowClient(store_uri(project))
    runs = by_name(project)
    for point in (job.point for job in sweep.jobs.values() if job.point):
        with (point.folder / "metrics.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        run_id = runs[point.name].info.run_id
        names = {row["name"] for row in rows}
        assert {"train/loss", "weights/weight", "weights/bias", "gradient_norm"} <= names
        for name in names:
            kept = {(m.step, m.timestamp, m.value) for m in client.get_metric_history(run_id, name)}
            assert kept == {(int(r["step"]), int(r["timestamp"]), float(r["value"])) for r in rows if r["name"] == name}
    for run in runs.values():
        for name in run.data.metrics:
            assert all(math.isfinite(m.value) for m in client.get_metric_history(run.info.run_id, name)), name


def test_the_parent_has_the_best_values_of_its_children(grid: Grid) -> None:
    project, _, _, outcomes = grid
    metrics = by_name(project)["line_y2x numpy"].data.metrics
    assert metrics["points"] == 3
    assert metrics["best/train/loss"] == outcomes[2].final["train/loss"]


def test_artifacts(grid: Grid) -> None:
    project = grid[0]
    client = MlflowClient(store_uri(project))
    runs = by_name(project)
    for name in CHILDREN:
        run_id = runs[name].info.run_id
        files = {file.path for file in client.list_artifacts(run_id)}
        assert {"config.json", "run.json", "metrics.csv", "weights.npz", "outcome.json", "plots"} <= files
        assert "plots/curves.png" in {file.path for file in client.list_artifacts(run_id, "plots")}
    parent = runs["line_y2x numpy"].info.run_id
    assert "plots/curves_by_rate.png" in {file.path for file in client.list_artifacts(parent, "plots")}
    assert (project / "mlruns" / "artifacts" / "line_y2x" / parent).is_dir()


def test_results_hold_every_point(grid: Grid) -> None:
    project, sweep, requests, outcomes = grid
    results = project / "results" / "line_y2x" / "numpy"
    record = json.loads((results / "sweep.json").read_text())
    assert (record["study"], record["backend"]) == ("line_y2x", "numpy")
    assert [row["name"] for row in record["points"]] == CHILDREN
    assert sorted(path.name for path in results.parent.iterdir()) == ["numpy"]
    assert sorted(path.name for path in results.iterdir()) == sorted(
        [*(r["folder"] for r in record["points"]), "plots", "sweep.json"]
    )
    for row, (own, _), outcome in zip(record["points"], requests, outcomes, strict=True):
        point = read_point(results / row["folder"], row["name"])
        assert point.config == own
        assert point.outcome == outcome
        trained = sweep.jobs[row["signature"]].point
        assert trained is not None
        assert point.history.metrics == trained.history.metrics
    assert left_in_points(project) == sorted(row["signature"] for row in record["points"])


def test_a_trained_point_is_on_disk_once(grid: Grid) -> None:
    project, sweep, _, _ = grid
    results = project / "results" / "line_y2x" / "numpy"
    runs = by_name(project)
    for row in json.loads((results / "sweep.json").read_text())["points"]:
        folder = sweep.jobs[row["signature"]].folder.final
        run = runs[row["name"]].info.run_id
        for place in (results / row["folder"], project / "mlruns" / "artifacts" / "line_y2x" / run / "artifacts"):
            for name in ("weights.npz", "metrics.csv", "SHA256SUMS", "plots/curves.png"):
                assert (place / name).samefile(folder / name)


# --- what is done is not trained again


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_sweep_again_trains_nothing_and_changes_nothing(
    project: Path, trained: list[tuple[int, list[float]]], capsys: pytest.CaptureFixture[str]
) -> None:
    grid = rates(*THREE, more=["results=results/a"])
    swept(project, grid)
    runs = in_mlflow(project, when=True)
    results = files(project / "results")
    table = capsys.readouterr().out
    shutil.rmtree(project / "results")
    trained.clear()
    swept(project, grid)
    assert trained == []
    assert in_mlflow(project, when=True) == runs
    assert files(project / "results") == results
    shown = capsys.readouterr()
    assert shown.out == table
    assert "3 points: 3 done\n" in shown.err


def test_one_more_rate_trains_only_that_one_and_all_runs_move_below_the_newest_sweep(
    project: Path, trained: list[tuple[int, list[float]]]
) -> None:
    swept(project, rates("0.01", "0.1"))
    before = {run.info.run_id for run in runs_of(project)}
    swept(project, rates("0.01", "0.1", "0.2"))
    assert [points for _, points in trained] == [[0.01, 0.1], [0.2]]
    runs = runs_of(project)
    parents = [run.info.run_id for run in runs if run.data.tags["lab.role"] == "sweep"]
    points = {run.data.tags["overrides"]: run for run in runs if run.data.tags["lab.role"] == "point"}
    assert (len(runs), len(parents), len(points)) == (5, 2, 3)
    (newest,) = set(parents) - before
    assert {run.data.tags["mlflow.parentRunId"] for run in points.values()} == {newest}
    assert len(before & {run.info.run_id for run in points.values()}) == 2
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_two_studies_that_share_a_point_train_it_once_and_both_have_it(
    project: Path, trained: list[tuple[int, list[float]]]
) -> None:
    for study in ("one", "two"):
        swept(project, rates("0.1", "0.2", more=[f"study={study}", f"results=results/{study}"]))
    assert len(trained) == 1
    for study in ("one", "two"):
        assert statuses(project, study) == {
            f"{study} numpy": "FINISHED", "learning_rate=0.1": "FINISHED", "learning_rate=0.2": "FINISHED"
        }  # fmt: skip
        for run in by_name(project, study).values():
            assert run.data.tags["study"] == study
        point = read_point(project / "results" / study / "learning_rate=0.1", "learning_rate=0.1")
        assert (point.config.study, point.config.results) == (study, f"results/{study}")
    one, two = in_mlflow(project, "one", when=True), in_mlflow(project, "two", when=True)
    for name in ("learning_rate=0.1", "learning_rate=0.2"):
        assert one[name]["metrics"] == two[name]["metrics"]
        assert one[name]["id"] != two[name]["id"]


def test_a_single_run_has_no_parent(project: Path) -> None:
    swept(project, rates("0.1"))
    assert statuses(project) == {"learning_rate=0.1": "FINISHED"}
    assert not (project / "results").exists()


def test_a_single_training_is_judged_beside_its_study(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swept(project, rates("0.0001"))
    assert "improving: loss" in capsys.readouterr().out
    swept(project, rates("0.01", "0.1"))
    capsys.readouterr()
    swept(project, rates("0.0001"))
    shown = capsys.readouterr().out
    assert "too slow" in shown
    assert "behind the best of 3 trainings" in shown
    run = by_name(project)["learning_rate=0.0001"]
    assert run.data.tags["diagnosis"] == "too slow"
    assert "behind the best of 3 trainings" in run.data.tags["mlflow.note.content"]


def test_a_point_that_is_asked_for_twice_trains_once(
    project: Path, trained: list[tuple[int, list[float]]], capsys: pytest.CaptureFixture[str]
) -> None:
    requests = rates("5", "0.1", "5.0", "0.1", more=["training.epochs=200"])
    sweep = Sweep(project, requests[0][0], 4)
    outcomes = sweep.train_all(requests)
    assert outcomes[0] is outcomes[2]
    assert outcomes[1] is outcomes[3]
    assert outcomes[0] is not outcomes[1]
    sweep.finish()
    assert trained == [(0, [5, 0.1])]
    assert sorted(by_name(project)) == ["learning_rate=0.1", "learning_rate=5", "line_y2x numpy"]
    shown = capsys.readouterr()
    assert "2 points (2 duplicates skipped): 2 to run" in shown.err
    table = [line.split("  ") for line in shown.out.partition("\n\n")[0].splitlines()]
    assert [line[0].strip() for line in table] == ["line_y2x numpy: 200 epochs", "learning rate", "5", "0.1"]
    assert outcomes[0] is not None
    assert f"diverged at update {outcomes[0].diverged_step}" in "  ".join(table[2])
    assert "converged" in "  ".join(table[3])


def test_points_that_come_one_by_one_share_the_parent(project: Path, trained: list[tuple[int, list[float]]]) -> None:
    first, second = rates("0.1", "0.01")
    for _ in range(2):
        sweep = Sweep(project, first[0], None)
        for one in (first, second, first):
            assert sweep.train_all([one])[0] is not None
        sweep.finish()
    assert [points for _, points in trained] == [[0.1], [0.01]]
    runs = by_name(project)
    parent = runs.pop("line_y2x numpy")
    assert len(runs) == 2
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"


def test_a_finished_command_whose_points_come_one_by_one_keeps_them_when_its_repetition_is_stopped(
    project: Path,
) -> None:
    def record() -> tuple[str, list[str]]:
        ((_, sweep),) = all_sweeps(project)
        return sweep.status, [point.name for point in sweep.points]

    first, second, third = rates("0.1", "0.01", "0.5")
    sweep = Sweep(project, first[0], None)
    for one in (first, second):
        sweep.train_all([one])
    sweep.finish()
    before = record()
    assert before == ("FINISHED", ["learning_rate=0.1", "learning_rate=0.01"])
    repeated = Sweep(project, first[0], None)
    repeated.train_all([first])
    # What a command leaves that is killed now, ...
    assert record() == before
    # ... and one that is interrupted.
    repeated.finish()
    assert record() == before
    # Other points than before, as a sweeper that searches may choose.
    other = Sweep(project, first[0], None)
    other.train_all([third])
    assert record() == ("RUNNING", ["learning_rate=0.5", *before[1]])
    other.finish()
    assert record() == ("FINISHED", ["learning_rate=0.5"])


def test_hidden_sizes_are_metrics_and_names(project: Path) -> None:
    common = ("experiment=three_bits", "training.epochs=5")
    requests = [
        request("optimizer.learning_rate=10", f"model.hidden_size={size}", "seed=2", common=common) for size in (4, 32)
    ]
    swept(project, requests)
    runs = by_name(project, "three_bits")
    assert sorted(runs) == [
        "learning_rate=10 hidden_size=32 seed=2",
        "learning_rate=10 hidden_size=4 seed=2",
        "three_bits numpy",
    ]
    assert runs["learning_rate=10 hidden_size=4 seed=2"].data.metrics["hp/hidden_size"] == 4


def test_two_backends_in_one_sweep_have_names_of_their_own(project: Path) -> None:
    requests = [request(f"backend={name}", "optimizer.learning_rate=0.1") for name in ("numpy", "keras")]
    swept(project, requests)
    assert {"learning_rate=0.1", "learning_rate=0.1 backend=keras"} <= set(by_name(project))


def planned(project: Path, requests: list[Request]) -> None:
    """Run a command that only prints what it would train."""
    dry = DryRun(project, requests[0][0])
    assert dry.train_all(requests) == [None] * len(requests)
    dry.finish()


def test_a_missing_gpu_is_reported_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    requests = rates("0.1", "0.2", more=["backend.array_module=cupy"])
    with pytest.raises(LabError, match="CuPy or a library that it needs cannot be imported"):
        begun(tmp_path, requests)
    assert list(tmp_path.rglob("*")) == []
    planned(tmp_path, rates("0.1", more=["backend.array_module=cupy", "dry_run=true"]))


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(
    tmp_path: Path,
    empty_store: Path,
    trained: list[tuple[int, list[float]]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dry(*values: str, force: str) -> list[Request]:
        return rates(*values, more=["dry_run=true", f"force={force}", "results=results/a"])

    for force in ("false", "true"):
        grid = dry("0.1", "0.2", "0.1", force=force)
        planned(tmp_path, grid)
    assert list(tmp_path.iterdir()) == []
    with_store(tmp_path, empty_store)
    at_epoch(monkeypatch, 9, interrupt)
    killed(tmp_path, rates("0.3"))
    swept(tmp_path, rates("0.1"))
    before = files(tmp_path)
    trained.clear()
    for force, states, plan in (
        ("false", ["done", "to run", "to continue"], "3 points: 1 done, 1 to continue, 1 to run"),
        ("true", ["to run"] * 3, "3 points: 3 to run"),
    ):
        capsys.readouterr()
        planned(tmp_path, dry("0.1", "0.2", "0.3", force=force))
        shown = capsys.readouterr()
        assert [line.rsplit("  ", 1)[-1].strip() for line in shown.out.splitlines()[1:]] == ["state", *states]
        assert plan in shown.err
    assert files(tmp_path) == before
    assert trained == []


# --- what was started goes on


def signatures(project: Path) -> dict[str, str]:
    return {name: run.data.tags["signature"] for name, run in by_name(project).items() if "signature" in run.data.tags}


def test_a_sweep_that_is_killed_several_times_ends_like_one_that_was_not(
    project: Path, calm: Path, trained: list[tuple[int, list[float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first epoch, in the middle, and before the last."""
    at_epoch(monkeypatch, 1, interrupt)
    killed(project, rates(*THREE))
    stopped = by_name(project)
    assert {run.info.status for run in stopped.values()} == {"KILLED"}
    assert len(stopped) == 4
    assert "train/loss" in stopped["learning_rate=0.1"].data.metrics
    for epoch in (8, 29):
        at_epoch(monkeypatch, epoch, interrupt)
        killed(project, rates(*THREE))
    swept(project, rates(*THREE))
    assert [after for after, _ in trained] == [0, 1, 8, 29]
    assert on_disk(project) == on_disk(calm)
    assert in_mlflow(project) == in_mlflow(calm)
    ended = by_name(project)
    assert {name: run.info.run_id for name, run in ended.items()} == {n: r.info.run_id for n, r in stopped.items()}
    for name, sign in signatures(project).items():
        told_once(project, read_point(project / ".points" / sign, name), ended[name].info.run_id)


def test_points_of_different_epochs_go_on_in_stacks_of_their_own(
    project: Path, calm: Path, trained: list[tuple[int, list[float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for epoch, rate in ((7, "0.01"), (19, "0.1")):
        at_epoch(monkeypatch, epoch, interrupt)
        killed(project, rates(rate))
    trained.clear()
    swept(project, rates(*THREE))
    assert trained == [(19, [0.1]), (7, [0.01]), (0, [5])]
    assert on_disk(project) == on_disk(calm)


def test_a_point_that_is_trained_but_not_complete_is_only_completed(
    project: Path, calm: Path, trained: list[tuple[int, list[float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(PointFolder, "write_history", lambda *arguments: interrupt())
        killed(project, rates(*THREE))
    swept(project, rates(*THREE))
    assert [after for after, _ in trained] == [0]
    assert on_disk(project) == on_disk(calm)
    assert in_mlflow(project) == in_mlflow(calm)


def test_a_sealed_point_that_was_not_renamed_is_renamed(
    project: Path, calm: Path, trained: list[tuple[int, list[float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(PointFolder, "put_in_place", lambda *arguments: interrupt())
        killed(project, rates(*THREE))
    swept(project, rates(*THREE))
    assert [after for after, _ in trained] == [0]
    assert on_disk(project) == on_disk(calm)
    assert in_mlflow(project) == in_mlflow(calm)


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    rewrite(file, content)


def test_a_damaged_checkpoint_is_reported_and_its_point_starts_from_the_beginning(
    project: Path, calm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_epoch(monkeypatch, 9, interrupt)
    killed(project, rates(*THREE))
    folders = sorted((project / ".points").glob("*.training"))
    for folder, name in zip(folders, ("checkpoint.npz", "metrics.csv", "checkpoint.npz"), strict=True):
        damage(folder / name)
    swept(project, rates(*THREE))
    assert capsys.readouterr().err.count("restarts from scratch: its checkpoint cannot be read") == 3
    assert on_disk(project) == on_disk(calm)
    # The runs of the attempts that were given up are gone.
    assert in_mlflow(project) == in_mlflow(calm)


def test_damaged_points_are_reported_and_trained_again(
    project: Path, calm: Path, trained: list[tuple[int, list[float]]], capsys: pytest.CaptureFixture[str]
) -> None:
    swept(project, rates(*THREE))
    # Every file and every bit: tests/points/test_points.py.
    for rate, name in (("5", "weights.npz"), ("0.1", "SHA256SUMS")):
        damage(project / ".points" / signatures(project)[f"learning_rate={rate}"] / name)
    swept(project, rates(*THREE))
    printed = capsys.readouterr().err
    for rate in ("5", "0.1"):
        assert f"learning_rate={rate} is retrained. The trained point in" in printed
    assert [points for _, points in trained] == [[0.01, 5, 0.1], [5, 0.1]]
    assert on_disk(project) == on_disk(calm)
    assert in_mlflow(project) == in_mlflow(calm)


# --- force


def test_force_trains_again_and_replaces_the_run_unless_it_is_given_up(
    project: Path, calm: Path, trained: list[tuple[int, list[float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    swept(project, rates(*THREE))
    before = {name: run.info.run_id for name, run in by_name(project).items()}
    at_epoch(monkeypatch, 9, interrupt)
    killed(project, rates(*THREE, more=["force=true"]))
    trained.clear()
    swept(project, rates(*THREE))
    # The complete points are still there.
    assert trained == []
    assert on_disk(project) == on_disk(calm)
    # Each point has one run, and it is the earlier one.
    assert {name: run.info.run_id for name, run in by_name(project).items()} == before
    assert in_mlflow(project) == in_mlflow(calm)
    swept(project, rates(*THREE, more=["force=true"]))
    assert len(trained) == 1
    after = {name: run.info.run_id for name, run in by_name(project).items()}
    assert set(before) == set(after)
    for name in CHILDREN:
        assert after[name] != before[name]
        assert MlflowClient(store_uri(project)).get_run(before[name]).info.lifecycle_stage == "deleted"
    assert on_disk(project) == on_disk(calm)
    assert in_mlflow(project) == in_mlflow(calm)


# --- what goes wrong


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException, float], None]:
    """Return a function that makes the training of a stack with a point of this rate raise an error.

    It raises after the first record.

    Example:
        failing(KeyboardInterrupt(), 0.2)
    """

    def set_up(error: BaseException, rate: float) -> None:
        def train(
            points: Sequence[Config], arrays: Arrays, histories: Sequence[History], report: Any, checkpoints: Any
        ) -> None:
            if any(point.optimizer.learning_rate == rate for point in points):
                histories[0].record(0, {"train/loss": 1.0})
                raise error
            real_train(points, arrays, histories, report, checkpoints)

        monkeypatch.setattr(training, "train", train)

    return set_up


def two_stacks() -> list[Request]:
    return [
        request("optimizer.learning_rate=0.1"),
        request("optimizer.learning_rate=0.2", "training.epochs=50"),
    ]


NAMES = ("learning_rate=0.1", "learning_rate=0.2 epochs=50")


def test_an_interruption_before_the_first_checkpoint_leaves_killed_runs_that_go_on(
    project: Path, failing: Callable[[BaseException, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(KeyboardInterrupt(), 0.2)
    killed(project, two_stacks())
    assert statuses(project) == {"line_y2x numpy": "KILLED", NAMES[0]: "FINISHED", NAMES[1]: "KILLED"}
    before = {name: run.info.run_id for name, run in by_name(project).items()}
    monkeypatch.setattr(training, "train", real_train)
    swept(project, two_stacks())
    assert set(statuses(project).values()) == {"FINISHED"}
    assert {name: run.info.run_id for name, run in by_name(project).items()} == before
    point = read_point(project / ".points" / signatures(project)[NAMES[1]], "killed")
    told_once(project, point, before[NAMES[1]])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LabError("No room.", fix="make room"), r"learning_rate=0.1 failed. No room.\n.*make room"),
        (MemoryError(), r"learning_rate=0.1 failed. Out of memory"),
    ],
)
def test_a_point_that_fails_leaves_the_others_and_is_tried_again(
    project: Path,
    failing: Callable[[BaseException, float], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    message: str,
) -> None:
    failing(error, 0.1)
    requests = [(own.model_copy(update={"results": "results/mine"}), typed) for own, typed in two_stacks()]
    sweep = Sweep(project, requests[0][0], 2)
    outcomes = sweep.train_all(requests)
    assert outcomes[0] is None
    assert isinstance(outcomes[1], Outcome)
    with pytest.raises(LabError, match=message):
        sweep.finish()
    assert statuses(project) == {"line_y2x numpy": "FAILED", NAMES[0]: "FAILED", NAMES[1]: "FINISHED"}
    assert str(error) in by_name(project)[NAMES[0]].data.tags["error"]
    assert not (project / "results").exists()
    table = [line.split() for line in capsys.readouterr().out.partition("\n\n")[0].splitlines()]
    assert [row[:2] for row in table[2:]] == [["0.1", "failed"], ["0.2", "50"]]
    before = {name: run.info.run_id for name, run in by_name(project).items()}
    monkeypatch.setattr(training, "train", real_train)
    swept(project, requests)
    assert set(statuses(project).values()) == {"FINISHED"}
    assert {name: run.info.run_id for name, run in by_name(project).items()} == before
    assert (project / "results" / "mine" / "sweep.json").exists()


def test_every_failure_is_reported(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(points: Sequence[Config], *others: Any) -> None:
        raise LabError(f"No luck with {points[0].optimizer.learning_rate}.")

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(LabError) as refusal:
        swept(project, two_stacks())
    for name, rate in zip(NAMES, ("0.1", "0.2"), strict=True):
        assert f"{name} failed. No luck with {rate}." in str(refusal.value)


def test_a_bug_of_ours_stays_with_its_stack_and_is_called_one(
    project: Path, failing: Callable[[BaseException, float], None]
) -> None:
    failing(ZeroDivisionError("a bug"), 0.1)
    requests = two_stacks()
    sweep = Sweep(project, requests[0][0], 2)
    outcomes = sweep.train_all(requests)
    assert [outcome is None for outcome in outcomes] == [True, False]
    with pytest.raises(LabError) as refusal:
        sweep.finish()
    said = str(refusal.value)
    assert f"{NAMES[0]} failed. This is an error of this program, not of your command or your files." in said
    assert "Traceback" in said
    assert said.endswith("ZeroDivisionError: a bug")
    assert statuses(project) == {"line_y2x numpy": "FAILED", NAMES[0]: "FAILED", NAMES[1]: "FINISHED"}
    assert "ZeroDivisionError: a bug" in by_name(project)[NAMES[0]].data.tags["error"]


def test_a_bug_at_the_end_of_a_sweep_leaves_no_run_open(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def extremes(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(record_module, "extremes", extremes)
    sweep = begun(project, rates("0.1", "0.2"))
    with pytest.raises(LabError, match="ZeroDivisionError: a bug"):
        sweep.finish()
    assert statuses(project) == dict.fromkeys(["learning_rate=0.1", "learning_rate=0.2"], "FINISHED") | {
        "line_y2x numpy": "FAILED"
    }
    assert "ZeroDivisionError: a bug" in by_name(project)["line_y2x numpy"].data.tags["error"]
    assert [sweep.status for _, sweep in all_sweeps(project)] == ["FAILED"]


def test_points_that_cannot_be_judged_together_are_judged_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def judged_in_study(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(sweep_module, "judged_in_study", judged_in_study)
    sweep = begun(project, rates("0.1", "0.2", more=["results=results/a"]))
    with pytest.raises(LabError, match="ZeroDivisionError: a bug"):
        sweep.finish()
    assert [sweep.status for _, sweep in all_sweeps(project)] == ["FINISHED"]
    assert set(statuses(project).values()) == {"FINISHED"}
    assert (project / "results" / "a" / "sweep.json").exists()
    table = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in table[2:]] == ["0.1", "0.2"]


def test_a_record_that_cannot_be_corrected_does_not_replace_the_error(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwritable(*_: object) -> None:
        raise LabError("The disk is full.")

    def gather(*_: object) -> None:
        monkeypatch.setattr(record_module, "write_sweep", unwritable)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(record_module, "gather", gather)
    sweep = begun(project, rates("0.1", "0.2", more=["results=results/a"]))
    with pytest.raises(LabError, match="ZeroDivisionError: a bug"):
        sweep.finish()
    assert statuses(project)["line_y2x numpy"] == "FAILED"


def test_a_network_that_does_not_fit_in_memory_is_refused_before_it_is_made(project: Path) -> None:
    common = ("experiment=three_bits", "training.epochs=3")
    grid = [request(f"model.hidden_size={size}", common=common) for size in ("3", "1000000000000")]
    with pytest.raises(
        LabError, match=r"hidden_size=1000000000000 failed\. The network does not fit in memory"
    ) as refusal:
        swept(project, grid)
    assert str(refusal.value).count("failed") == 1
    assert len(left_in_points(project)) == 1


def test_points_that_cannot_be_written(project: Path) -> None:
    (project / ".points").write_text("a file in the way")
    sweep = Sweep(project, rates("0.1")[0][0], 1)
    with pytest.raises(LabError, match="cannot be written"):
        sweep.train_all(rates("0.1"))
    # Nothing was recorded, and the error has been raised already.
    sweep.finish()
    assert (project / ".points").read_text() == "a file in the way"


def test_missing_data_opens_no_run(project: Path) -> None:
    one = request(common=("experiment=mnist",))
    with pytest.raises(LabError, match=r"python -m pipeline\.fetch data=mnist"):
        Sweep(project, one[0], None)
    assert MlflowClient(store_uri(project)).get_experiment_by_name("mnist") is None
    assert not (project / ".points").exists()


# --- results folders


def test_a_folder_that_was_filled_during_training_is_left_alone(project: Path) -> None:
    sweep = begun(project, rates("0.1", "0.01", more=["results=thesis"]))
    (project / "thesis").mkdir()
    (project / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(LabError, match="thesis is not a results folder"):
        sweep.finish()
    assert [(file.name, file.read_text()) for file in (project / "thesis").iterdir()] == [
        ("chapter.tex", "years of work")
    ]
    assert [sweep.status for _, sweep in all_sweeps(project)] == ["FAILED"]
    assert by_name(project)["line_y2x numpy"].info.status == "FAILED"
    assert len(left_in_points(project)) == 2


def test_results_of_an_earlier_sweep_are_replaced(project: Path) -> None:
    swept(project, rates("0.1", "0.01", more=["results=results/a"]))
    swept(project, rates("0.1", "0.02", more=["results=results/a"]))
    names = {path.name for path in (project / "results" / "a").iterdir()}
    assert names == {"learning_rate=0.1", "learning_rate=0.02", "plots", "sweep.json"}
    assert [path.name for path in (project / "results").iterdir()] == ["a"]


def test_an_empty_folder_may_be_filled(project: Path) -> None:
    (project / "results" / "a").mkdir(parents=True)
    swept(project, rates("0.1", more=["results=results/a"]))
    assert (project / "results" / "a" / "sweep.json").exists()


def test_results_that_cannot_be_written_cost_no_point(project: Path, trained: list[tuple[int, list[float]]]) -> None:
    (project / "results").write_text("a file")
    grid = rates("0.1", more=["results=results/a"])
    with pytest.raises(LabError, match="results"):
        swept(project, grid)
    assert (project / "results").read_text() == "a file"
    (project / "results").unlink()
    swept(project, grid)
    assert len(trained) == 1
    assert (project / "results" / "a" / "sweep.json").exists()


# --- another command at the same time

HOLD = """
import shutil, sys
from pathlib import Path
from pipeline.points.folder import PointFolder
folder = PointFolder(Path(sys.argv[1]), sys.argv[2])
assert folder.lock()
print("held", flush=True)
sys.stdin.read()
if len(sys.argv) > 3:
    shutil.copytree(sys.argv[3], folder.final)
"""


@pytest.fixture
def holder(project: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a process which holds a point until its input ends.

    With `done`, a folder, the process then leaves that as the complete point.

    Example:
        process = holder(signature, done)
    """
    processes: list[subprocess.Popen[str]] = []

    def hold(sign: str, done: Path | None = None) -> subprocess.Popen[str]:
        more = [] if done is None else [str(done)]
        process = helper(HOLD, str(project), sign, *more)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("ends", ["finished", "killed"])
def test_a_point_that_another_process_trains_is_waited_for(
    project: Path,
    calm: Path,
    holder: Callable[..., subprocess.Popen[str]],
    trained: list[tuple[int, list[float]]],
    capsys: pytest.CaptureFixture[str],
    ends: str,
) -> None:
    sign = signatures(calm)["learning_rate=5"]
    other = holder(sign, calm / ".points" / sign)
    polls = []

    def sleep(seconds: float) -> None:
        polls.append(seconds)
        if len(polls) == 2:
            if ends == "killed":
                other.kill()
            other.communicate()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training_module, "time", Clock(sleep))
        sweep = begun(project, rates(*THREE))
    sweep.finish()
    assert len(polls) == 2
    assert [points for _, points in trained] == [[0.01, 0.1]] + ([[5]] if ends == "killed" else [])
    assert "waiting for 1 point that another command is training: learning_rate=5" in capsys.readouterr().err
    assert on_disk(project) == on_disk(calm)
    assert in_mlflow(project) == in_mlflow(calm)


class Clock:
    """`time` with another `sleep`, for one module."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self.sleep = sleep
        self.time_ns = time.time_ns
        self.monotonic = time.monotonic


def test_a_signal_while_a_point_trains_ends_it_after_the_epoch(
    project: Path, calm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(pacing, "FIRST_SECONDS", 0.0)
    stopped: list[int] = []

    def train(points: Any, arrays: Any, histories: Any, report: Any, checkpoints: Checkpoints) -> None:
        def stopping(epoch: int, loss: float) -> None:
            if epoch == 11 and not stopped:
                stopped.append(epoch)
                os.kill(os.getpid(), signal.SIGTERM)
            assert not stopped or epoch == 11 or checkpoints.epoch == 11

        real_train(points, arrays, histories, stopping, checkpoints)

    monkeypatch.setattr(training, "train", train)
    killed(project, rates(*THREE))
    assert signal.getsignal(signal.SIGTERM) is before
    sweep = swept(project, rates(*THREE))
    assert {job.begun for job in sweep.jobs.values() if job.name != "learning_rate=5"} == {11}
    assert on_disk(project) == on_disk(calm)


# --- a disk that is full


class FullDisk:
    """Refuses every change below a folder after the first n: to make, truncate, rename or open a file for writing.

    It is an audit hook, which cannot be removed again. While `folder` is None it does nothing.
    """

    EVENTS: ClassVar = {"open": 0, "os.mkdir": 0, "os.truncate": 0, "os.rename": 1}

    def __init__(self) -> None:
        self.folder: str | None = None
        self.left = self.changes = 0
        self.lasts = True
        sys.addaudithook(self._see)

    def fill(self, folder: Path, after: int, lasts: bool = True) -> None:
        self.folder, self.left, self.changes, self.lasts = str(folder), after, 0, lasts

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None or event not in self.EVENTS:
            return
        path = arguments[self.EVENTS[event]]
        if not isinstance(path, str | os.PathLike) or not str(path).startswith(self.folder):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        # Making a folder that exists already changes nothing.
        if event == "os.mkdir" and Path(path).is_dir():
            return
        self.changes += 1
        if self.changes > self.left and (self.lasts or self.changes == self.left + 1):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@pytest.fixture(scope="module")
def full_disk() -> FullDisk:
    return FullDisk()


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No MLflow, no git and no figures: only what is written of a point."""
    monkeypatch.setattr(Sync, "send", lambda *arguments: None)
    monkeypatch.setattr(sweep_module, "code_state", lambda project: {})
    monkeypatch.setattr(training_module, "point_figures", lambda *arguments: [])
    monkeypatch.setattr(record_module, "sweep_figures", lambda *arguments: [])
    at_epoch(monkeypatch, 9, lambda: None, times=10**6)


def refused(project: Path, grid: Sequence[Request]) -> list[str]:
    """Return the messages of a command that may fail before training, in training, at its end, or in both."""
    messages = []
    try:
        sweep = Sweep(project, grid[0][0], len(grid))
    except LabError as error:
        return [str(error)]
    for step in (lambda: sweep.train_all(grid), sweep.finish):
        try:
            step()
        except LabError as error:
            messages.append(str(error))
    return messages


@pytest.mark.slow
@pytest.mark.parametrize("lasts", [True, False], ids=["for good", "for a moment"])
@pytest.mark.usefixtures("bare")
def test_a_disk_that_is_full_at_any_moment_loses_nothing(
    tmp_path: Path, calm: Path, full_disk: FullDisk, lasts: bool
) -> None:
    # The first of these rates diverges.
    grid = rates("5", "0.1", more=["results=results/a"])
    signed = signatures(calm)
    trained_alone = on_disk(calm)
    alone = {signed[name]: trained_alone[signed[name]] for name in ("learning_rate=5", "learning_rate=0.1")}
    after = 0
    while True:
        project = tmp_path / str(after)
        project.mkdir()
        full_disk.fill(project, after, lasts)
        try:
            messages = refused(project, grid)
        finally:
            full_disk.folder = None
        if full_disk.changes <= after:
            break
        # NumPy tries twice to open a file, and the second time a disk that was full for a moment has room. What only
        # saves time, such as the index of points, is left out in silence.
        assert messages or not lasts or on_disk(project) == alone, after
        assert all("No space left on device" in message for message in messages), after
        for folder in (project / ".points").glob("[0-9a-f]*"):
            if folder.suffix != ".training":
                assert numbers(read_point(folder, "complete")) == alone[folder.name], after
        assert refused(project, grid) == [], after
        assert on_disk(project) == alone, after
        assert len(list((project / "results" / "a").iterdir())) == 4, after
        assert list(project.rglob("*.partial-*")) == [], after
        after += 1
    assert messages == []
    # There were at least this many changes that could fail.
    assert after > 30


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [4, 12, 24, 40, 64, 96, 128, 192])
@pytest.mark.usefixtures("bare")
def test_a_disk_that_fills_up(tmp_path: Path, calm: Path, kilobytes: int) -> None:
    small = tmp_path / ".points"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(small)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the permission to mount a tmpfs")
    try:
        messages = refused(tmp_path, rates(*THREE))
        assert all("No space left on device" in message for message in messages)
        assert messages or kilobytes > 64
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        assert refused(tmp_path, rates(*THREE)) == []
        assert on_disk(tmp_path) == on_disk(calm)
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.usefixtures("bare")
def test_a_folder_without_permission_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / ".points"))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", refuse)
        (message,) = set(refused(tmp_path, rates("0.1")))
    assert "cannot be written" in message
    assert "Permission denied" in message
    assert refused(tmp_path, rates("0.1")) == []


def test_points_that_another_study_has_trained_are_shown_as_this_ones(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept(project, rates("0.01", "0.1"))
    shown: list[str] = []

    def drawn(points: Sequence[Any], *_: object) -> list[Any]:
        shown.extend(point.config.study for point in points)
        return []

    monkeypatch.setattr(record_module, "sweep_figures", drawn)
    swept(project, rates("0.01", "0.1", "0.5", more=["study=wider"]))
    assert shown == ["wider"] * 3
