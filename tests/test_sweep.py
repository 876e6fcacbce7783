"""One command's points in a real MLflow store: runs, statuses, folders, results."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pipeline.backends.numpy import training
from pipeline.config import Config, flatten
from pipeline.data import Arrays
from pipeline.errors import LabError
from pipeline.history import History
from pipeline.points import read_point, signature
from pipeline.sweep import Sweep
from pipeline.tracking import store_uri
from tests.trained import config

STUDY = ("experiment=line_y2x", "gradient=backpropagation", "training.epochs=200")
Request = tuple[Config, list[str]]
real_train = training.train


def request(*overrides: str, common: Sequence[str] = STUDY) -> Request:
    return config(*common, *overrides), list(overrides)


def runs_of(project: Path, study: str = "line_y2x") -> list[Run]:
    client = MlflowClient(store_uri(project))
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"]))


def by_name(project: Path, study: str = "line_y2x") -> dict[str, Run]:
    runs = runs_of(project, study)
    named = {str(run.info.run_name): run for run in runs}
    assert len(named) == len(runs)
    return named


def statuses(project: Path) -> dict[str, str]:
    return {name: run.info.status for name, run in by_name(project).items()}


def left_in_points(project: Path) -> list[str]:
    return sorted(path.name for path in (project / ".points").glob("*"))


# --- a grid that goes well; one of its points diverges


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sweep, list[Request], list[Any]]:
    project = tmp_path_factory.mktemp("grid")
    rates = ("optimizer.learning_rate=0.01", "optimizer.learning_rate=5", "optimizer.learning_rate=0.1")
    requests = [request(rate, common=(*STUDY, "results=results/line_y2x/numpy")) for rate in rates]
    sweep = Sweep(project, requests[0][0], 3)
    outcomes = sweep.train_all(requests)
    sweep.finish()
    return project, sweep, requests, outcomes


Grid = tuple[Path, Sweep, list[Request], list[Any]]
CHILDREN = ["learning_rate=0.01", "learning_rate=5", "learning_rate=0.1"]


def test_outcomes_come_in_the_order_asked_for(grid: Grid) -> None:
    outcomes = grid[3]
    assert [outcome.outcome for outcome in outcomes] == ["finished", "diverged", "finished"]
    assert outcomes[2].final["train/loss"] < outcomes[0].final["train/loss"]


def test_one_experiment_with_a_parent_and_a_child_for_each_point(grid: Grid) -> None:
    project = grid[0]
    client = MlflowClient(store_uri(project))
    assert sorted(e.name for e in client.search_experiments()) == ["Default", "line_y2x"]
    runs = by_name(project)
    assert sorted(runs) == sorted(["line_y2x numpy", *CHILDREN])
    parent = runs["line_y2x numpy"]
    assert "mlflow.parentRunId" not in parent.data.tags
    for name in CHILDREN:
        assert runs[name].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert set(statuses(project).values()) == {"FINISHED"}
    assert all(run.info.end_time >= run.info.start_time for run in runs.values())


def test_tags_tell_where_a_run_comes_from(grid: Grid) -> None:
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
        leaves = dict(flatten(own))
        assert set(params) == set(leaves)
        for key, value in leaves.items():
            assert params[key] == (value if isinstance(value, str) else json.dumps(value))
        assert float(params["optimizer.learning_rate"]) == rate


def test_the_rate_is_a_metric_too_for_the_axis_of_a_chart(grid: Grid) -> None:
    runs = by_name(grid[0])
    assert [runs[name].data.metrics["hp/learning_rate"] for name in CHILDREN] == [0.01, 5, 0.1]
    assert not any("hp/hidden_size" in runs[name].data.metrics for name in CHILDREN)  # the line has no hidden layer


def test_what_a_run_came_to(grid: Grid) -> None:
    project, _, _, outcomes = grid
    runs = by_name(project)
    for name, outcome in zip(CHILDREN, outcomes, strict=True):
        metrics = runs[name].data.metrics
        assert {k.removeprefix("final/"): v for k, v in metrics.items() if k.startswith("final/")} == outcome.final
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
    for point in sweep.points.values():
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


def test_the_parent_tells_the_best_of_its_children(grid: Grid) -> None:
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
    told = json.loads((results / "sweep.json").read_text())
    assert (told["study"], told["backend"]) == ("line_y2x", "numpy")
    assert [row["name"] for row in told["points"]] == CHILDREN
    assert sorted(path.name for path in results.parent.iterdir()) == ["numpy"]
    assert sorted(path.name for path in results.iterdir()) == sorted(
        [*(r["folder"] for r in told["points"]), "sweep.json"]
    )
    for row, (own, _), outcome in zip(told["points"], requests, outcomes, strict=True):
        point = read_point(results / row["folder"], row["name"])
        assert point.config == own
        assert point.outcome == outcome
        assert point.history.metrics == sweep.points[row["signature"]].history.metrics
    assert left_in_points(project) == sorted(row["signature"] for row in told["points"])


# --- single runs, repeated points


def test_a_single_run_has_no_parent(project: Path) -> None:
    one = request("optimizer.learning_rate=0.1")
    sweep = Sweep(project, one[0], 1)
    sweep.train_all([one])
    sweep.finish()
    assert statuses(project) == {"learning_rate=0.1": "FINISHED"}
    assert not (project / "results").exists()


def test_a_point_that_is_asked_for_twice_trains_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    requests = [request(f"optimizer.learning_rate={rate}") for rate in ("1", "0.1", "1.0", "0.1")]
    sweep = Sweep(project, requests[0][0], 4)
    outcomes = sweep.train_all(requests)
    assert outcomes[0] is outcomes[2]
    assert outcomes[1] is outcomes[3]
    assert outcomes[0] is not outcomes[1]
    sweep.finish()
    assert sorted(by_name(project)) == ["learning_rate=0.1", "learning_rate=1", "line_y2x numpy"]
    table = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in table] == ["point", "learning_rate=1", "learning_rate=0.1"]
    assert outcomes[0] is not None
    assert f"diverged at update {outcomes[0].diverged_step}" in table[1]
    assert "finished" in table[2]


def test_points_that_come_one_by_one_share_the_parent(project: Path) -> None:
    first, second = request("optimizer.learning_rate=0.1"), request("optimizer.learning_rate=0.01")
    sweep = Sweep(project, first[0], None)
    for one in (first, second, first):
        assert sweep.train_all([one])[0] is not None
    sweep.finish()
    runs = by_name(project)
    parent = runs.pop("line_y2x numpy")
    assert len(runs) == 2
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"


def test_the_same_point_again_replaces_its_folder_and_is_a_new_run(project: Path) -> None:
    one = request("optimizer.learning_rate=0.1")
    for _ in range(2):
        sweep = Sweep(project, one[0], 1)
        sweep.train_all([one])
        sweep.finish()
    assert len(runs_of(project)) == 2
    assert len(left_in_points(project)) == 1


def test_hidden_sizes_are_metrics_and_names(project: Path) -> None:
    common = ("experiment=three_bits", "training.epochs=5")
    requests = [
        request("optimizer.learning_rate=10", f"model.hidden_size={size}", "seed=2", common=common) for size in (4, 32)
    ]
    sweep = Sweep(project, requests[0][0], 2)
    sweep.train_all(requests)
    sweep.finish()
    runs = by_name(project, "three_bits")
    assert sorted(runs) == [
        "learning_rate=10 hidden_size=32 seed=2",
        "learning_rate=10 hidden_size=4 seed=2",
        "three_bits numpy",
    ]
    assert runs["learning_rate=10 hidden_size=4 seed=2"].data.metrics["hp/hidden_size"] == 4


# --- what goes wrong


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException, float], None]:
    """failing(error, rate): training a pass that has a point of this rate raises, after its first records."""

    def set_up(error: BaseException, rate: float) -> None:
        def train(points: Sequence[Config], arrays: Arrays, histories: Sequence[History], report: Any) -> None:
            if any(point.optimizer.learning_rate == rate for point in points):
                histories[0].record(0, {"train/loss": 1.0})
                raise error
            real_train(points, arrays, histories, report)

        monkeypatch.setattr(training, "train", train)

    return set_up


def two_passes() -> list[Request]:
    return [
        request("optimizer.learning_rate=0.1"),
        request("optimizer.learning_rate=0.2", "training.epochs=50"),
    ]


def test_an_interrupted_run_is_killed_and_leaves_nothing(
    project: Path, failing: Callable[[BaseException, float], None]
) -> None:
    failing(KeyboardInterrupt(), 0.2)
    requests = two_passes()
    sweep = Sweep(project, requests[0][0], 2)
    with pytest.raises(KeyboardInterrupt):
        sweep.train_all(requests)
    sweep.finish()
    assert statuses(project) == {
        "line_y2x numpy": "KILLED",
        "learning_rate=0.1": "FINISHED",
        "learning_rate=0.2 epochs=50": "KILLED",
    }
    assert left_in_points(project) == list(sweep.points)
    killed = by_name(project)["learning_rate=0.2 epochs=50"]
    assert killed.data.metrics["train/loss"] == 1  # what was known is kept


def test_a_point_that_fails_leaves_the_others(
    project: Path, failing: Callable[[BaseException, float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(LabError("No room.", fix="make room"), 0.1)
    requests = two_passes()
    sweep = Sweep(project, requests[0][0].model_copy(update={"results": "results/mine"}), 2)
    outcomes = sweep.train_all(requests)
    assert outcomes[0] is None
    assert outcomes[1] is not None
    with pytest.raises(LabError, match=r"learning_rate=0.1 failed. No room.\n.*make room"):
        sweep.finish()
    assert statuses(project) == {
        "line_y2x numpy": "FAILED",
        "learning_rate=0.1": "FAILED",
        "learning_rate=0.2 epochs=50": "FINISHED",
    }
    assert left_in_points(project) == list(sweep.points)
    assert not (project / "results").exists()
    assert "learning_rate=0.2 epochs=50  finished" in capsys.readouterr().out


def test_an_error_of_our_own_is_not_swallowed(project: Path, failing: Callable[[BaseException, float], None]) -> None:
    failing(ZeroDivisionError("a bug"), 0.2)
    requests = two_passes()
    sweep = Sweep(project, requests[0][0], 2)
    with pytest.raises(ZeroDivisionError):
        sweep.train_all(requests)
    sweep.finish()
    found = statuses(project)
    assert found["learning_rate=0.2 epochs=50"] == "FAILED"
    assert found["line_y2x numpy"] == "FAILED"
    assert left_in_points(project) == list(sweep.points)


def test_points_that_cannot_be_written(project: Path) -> None:
    (project / ".points").write_text("a file in the way")
    one = request("optimizer.learning_rate=0.1")
    sweep = Sweep(project, one[0], 1)
    assert sweep.train_all([one]) == [None]
    with pytest.raises(LabError, match="cannot be written"):
        sweep.finish()


def test_data_that_is_not_there_opens_no_run(project: Path) -> None:
    one = request(common=("experiment=mnist",))
    with pytest.raises(LabError, match=r"python -m pipeline\.fetch data=mnist"):
        Sweep(project, one[0], None)
    assert MlflowClient(store_uri(project)).get_experiment_by_name("mnist") is None


# --- results folders


def swept(project: Path, results: str, *rates: str) -> Sweep:
    requests = [request(f"optimizer.learning_rate={r}", common=(*STUDY, f"results={results}")) for r in rates]
    sweep = Sweep(project, requests[0][0], len(rates))
    sweep.train_all(requests)
    return sweep


def test_a_folder_that_is_not_of_results_is_left_alone(project: Path) -> None:
    (project / "thesis").mkdir()
    (project / "thesis" / "chapter.tex").write_text("years of work")
    sweep = swept(project, "thesis", "0.1", "0.01")
    with pytest.raises(LabError, match="thesis is not a results folder"):
        sweep.finish()
    assert [(file.name, file.read_text()) for file in (project / "thesis").iterdir()] == [
        ("chapter.tex", "years of work")
    ]
    assert by_name(project)["line_y2x numpy"].info.status == "FAILED"
    assert len(left_in_points(project)) == 2


def test_results_of_an_earlier_sweep_are_replaced(project: Path) -> None:
    swept(project, "results/a", "0.1", "0.01").finish()
    swept(project, "results/a", "0.1", "0.02").finish()
    names = {path.name for path in (project / "results" / "a").iterdir()}
    assert names == {"learning_rate=0.1", "learning_rate=0.02", "sweep.json"}
    assert [path.name for path in (project / "results").iterdir()] == ["a"]


def test_an_empty_folder_may_be_filled(project: Path) -> None:
    (project / "results" / "a").mkdir(parents=True)
    swept(project, "results/a", "0.1").finish()
    assert (project / "results" / "a" / "sweep.json").exists()


def test_results_where_a_file_is_in_the_way(project: Path) -> None:
    (project / "results").write_text("a file")
    with pytest.raises(LabError, match="results"):
        swept(project, "results/a", "0.1").finish()
    assert (project / "results").read_text() == "a file"


def test_a_server_that_goes_away_costs_no_point(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [request("optimizer.learning_rate=0.01"), request("optimizer.learning_rate=0.1")]
    sweep = Sweep(project, requests[0][0], 2)
    first = sweep.tracker.client.log_batch

    def gone(*arguments: Any, **named: Any) -> None:
        if any(metric.step > 0 for metric in named.get("metrics", ())):
            raise MlflowException("connection refused")
        first(*arguments, **named)

    monkeypatch.setattr(sweep.tracker.client, "log_batch", gone)
    assert sweep.train_all(requests) == [None, None]
    with pytest.raises(LabError, match=r"did not take(.|\n)*connection refused"):
        sweep.finish()
    for config_, _ in requests:
        folder = project / ".points" / signature(config_, sweep.jobs[next(iter(sweep.jobs))].arrays.checksums)
        trained = read_point(folder, "trained")
        assert trained.outcome.epochs == 200
        assert trained.history.series("train/loss")[0].tolist() == list(range(201))
    assert left_in_points(project) == sorted(sweep.jobs)
    assert set(statuses(project).values()) == {"FAILED"}


def test_two_backends_in_one_sweep_have_names_of_their_own(project: Path) -> None:
    requests = [request(f"backend={name}", "optimizer.learning_rate=0.1") for name in ("numpy", "keras")]
    sweep = Sweep(project, requests[0][0], 2)
    assert None not in sweep.train_all(requests)
    sweep.finish()
    assert {"learning_rate=0.1", "learning_rate=0.1 backend=keras"} <= set(by_name(project))
