"""Sweeps from the command line: over keys that a sweep has only once, in batches, with other launchers and sweepers.

Other sweepers are those that choose points by the results of earlier ones, such as Optuna's.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from pipeline import prepare
from pipeline.backends import choose
from pipeline.data.prepared import write_arrays
from pipeline.points import job
from pipeline.points.point import Point
from pipeline.points.reading import read_own_point, read_run
from pipeline.points.repeats import seeds_of
from pipeline.points.results import read_study
from pipeline.points.sweep_record import all_sweeps
from pipeline.report.study_page import study_page
from pipeline.studies.grids import cells
from pipeline.studies.knobs import layout
from pipeline.sweep.command import TrainCommand
from pipeline.sweep.sweep import Sweep
from pipeline.system import cli
from pipeline.tracking.store import store_uri
from pipeline.tracking.sync.thread import SyncThread
from tests.support.swept import full_name

pytestmark = pytest.mark.usefixtures("plain_runs")
LINE = ("experiment=line_y2x", "gradient=backpropagation", "training.epochs=3")

Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Return a function that runs the command in this process, and returns its exit code and what it printed."""
    monkeypatch.chdir(project)
    monkeypatch.setattr("pipeline.sweep.command.PROJECT", project)
    monkeypatch.setattr("pipeline.tracking.sync.process.launch", lambda first: None)

    def train(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        command = TrainCommand()
        code = cli.run(command.train_point, "config", command.finish)
        said = capsys.readouterr()
        return code, said.out, said.err

    return train


@pytest.fixture
def untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send nothing to MLflow, for tests that look only at the disk and at what is printed."""
    for name in ("start", "close", "unsent"):
        monkeypatch.setattr(SyncThread, name, lambda *_: None)


def tracked(project: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Return the names of the parent runs and of their points for each study; every run is finished."""
    client = MlflowClient(store_uri(project))
    found: dict[str, tuple[list[str], list[str]]] = {}
    for experiment in client.search_experiments():
        runs = client.search_runs([experiment.experiment_id])
        assert {run.info.status for run in runs} <= {"FINISHED"}
        parents = [full_name(run) for run in runs if "mlflow.parentRunId" not in run.data.tags]
        points = [full_name(run) for run in runs if "mlflow.parentRunId" in run.data.tags]
        if runs:
            found[experiment.name] = sorted(parents), sorted(points)
    return found


def recorded(project: Path) -> dict[str, tuple[str, int]]:
    """Return the status and the number of points of each sweep by its study; no study has two."""
    sweeps = [sweep for _, sweep in all_sweeps(project)]
    assert len({sweep.study for sweep in sweeps}) == len(sweeps)
    return {sweep.study: (sweep.status, len(sweep.points)) for sweep in sweeps}


def trained(project: Path) -> int:
    return sum(not folder.name.startswith(".") for folder in (project / ".points").glob("*"))


def overrides_of(project: Path) -> list[str]:
    """Return the overrides of each trained point, in one text."""
    runs = [read_run(folder) for folder in (project / ".points").glob("[0-9a-f]*")]
    return [" ".join(run.overrides) for run in runs if run is not None]


# --- what a sweep has only once


def test_two_studies_are_two_sweeps_with_their_own_grids_and_results(project: Path, here: Here) -> None:
    typed = ("experiment=line_y2x,line_y3x", "gradient=backpropagation", "training.epochs=3", "results=out/${study}")
    code, out, err = here("-m", *typed)
    assert code == 0, err
    assert recorded(project) == {"line_y2x": ("FINISHED", 3), "line_y3x": ("FINISHED", 3)}
    rates = {
        study: [point.learning_rate for point in read_study(project / "out" / study)] for study in recorded(project)
    }
    assert rates == {"line_y2x": [0.01, 0.1, 0.5], "line_y3x": [0.01, 0.1, 1]}
    assert {study: len(points) for study, (_, points) in tracked(project).items()} == {"line_y2x": 3, "line_y3x": 3}
    assert sum(line.startswith("learning rate") for line in out.splitlines()) == 2


def test_keys_that_a_sweep_has_only_once_are_used_for_each_point(project: Path, here: Here) -> None:
    code, out, err = here("-m", *LINE, "study=one,other", "optimizer.learning_rate=0.01,0.1", "results=r/${study}")
    assert code == 0, err
    assert trained(project) == 2
    assert recorded(project) == {"one": ("FINISHED", 2), "other": ("FINISHED", 2)}
    assert {study: len(points) for study, (_, points) in tracked(project).items()} == {"one": 2, "other": 2}
    assert [point.config.study for name in ("one", "other") for point in read_study(project / "r" / name)] == [
        *["one"] * 2,
        *["other"] * 2,
    ]
    # Nothing is trained again in the first sweep, and everything in the second.
    code, out, err = here("-m", *LINE, "optimizer.learning_rate=0.1", "results=x,y", "force=false,true", "dry_run=true")
    assert code == 0, err
    # Below each title and heading there is one point.
    assert [line.split()[-1] for line in out.splitlines()[2::3]] == ["done", "run", "done", "run"]


def test_points_that_are_done_are_not_read_again(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def reading(folder: Path, name: str, signature: str) -> Point:
        read.append(name)
        return read_own_point(folder, name, signature)

    monkeypatch.setattr(job, "read_own_point", reading)
    for more in ([], [], ["dry_run=true"]):
        code, _, err = here(*LINE, *more)
        assert code == 0, err
    assert read == []


# --- repeats


@pytest.mark.usefixtures("untracked")
def test_each_repeat_is_a_point_and_more_repeats_train_only_the_new_seeds(project: Path, here: Here) -> None:
    typed = ("-m", *LINE, "optimizer.learning_rate=0.01,0.1", "results=out/${study}")
    code, _, err = here(*typed, "repeats=2")
    assert code == 0, err
    seeds = [(point.learning_rate, point.config.seed) for point in read_study(project / "out" / "line_y2x")]
    assert seeds == [(0.01, 1), (0.01, 2), (0.1, 1), (0.1, 2)]
    before = trained(project)
    code, out, err = here(*typed, "repeats=3", "dry_run=true")
    assert code == 0, err
    assert [line.split()[1:] for line in out.splitlines() if line.startswith("0.1")] == [
        ["1", "to", "3", "2", "done,", "1", "to", "run"]
    ]
    code, _, err = here(*typed, "repeats=3")
    assert code == 0, err
    assert trained(project) == before + 2


def test_repeats_with_a_split_for_each_are_one_point_and_its_first_is_that_of_one_split(
    project: Path, here: Here
) -> None:
    generator = np.random.default_rng(1)
    arrays: dict[str, Any] = {}
    for part, rows in (("train", 60), ("test", 20)):
        labels = np.arange(rows) % 10
        arrays[f"{part}_targets"] = labels
        arrays[f"{part}_inputs"] = np.uint8(20 * labels[:, None] + generator.integers(0, 50, (rows, 4)))
    write_arrays(project / "data" / "prepared" / "mnist", {"name": "mnist", "classes": 10}, arrays, {})
    common = ("-m", "study=split", "data=mnist", "model.hidden_size=4", "training.epochs=1", "training.batch_size=20")
    grid = (*common, "optimizer.learning_rate=0.01,0.1", "results=out/split")
    code, _, err = here(*grid)
    assert code == 0, err
    before = trained(project)
    code, out, err = here(*grid, "repeats=3", "repeats_split=true")
    assert code == 0, err
    assert trained(project) == before + 4
    assert "seeds 1 to 3" in out.splitlines()[0]
    points = read_study(project / "out" / "split")
    assert [seeds_of(point.config) for point in points] == [(1, 1), (2, 2), (3, 3)] * 2
    assert [len(cell.points) for cell in cells(points, layout(points), "validation/loss")] == [3, 3]
    page = study_page("split", {"numpy": points}, {})
    assert "numpy: 2 points of 3 seeds, each seed with a split of the rows of its own, trained for 1 epoch." in page
    assert "split_seed" not in page
    client = MlflowClient(store_uri(project))
    (experiment,) = [one for one in client.search_experiments() if one.name == "split"]
    runs = client.search_runs([experiment.experiment_id], "tags.`lab.role` = 'repeated'")
    assert sorted(run.data.tags["lab.seeds"] for run in runs) == ["1 2 3", "1 2 3"]
    note = runs[0].data.tags["mlflow.note.content"]
    assert "Each seed has a split of the rows of its own." in note
    assert "data.split_seed" not in runs[0].data.params
    # The command of the description asks for the same points.
    again = shlex.split(note.rpartition("Run it again: `python -m pipeline.train ")[2].rstrip("`"))
    code, out, err = here(*again, "hydra.mode=MULTIRUN", "dry_run=true")
    assert code == 0, err
    assert out.splitlines()[-1].endswith("3 done")


def test_a_file_of_ones_own_is_split_for_each_repeat(
    project: Path, here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(1)
    rows = [f"{x:.3f},{'ab'[int(x > 0)]},{x * x:.3f}" for x in generator.normal(0, 1, 60)]
    (project / "own.csv").write_text("\n".join(["x,sign,y", *rows]))
    file = (f"data.path={project}/own.csv", "data.name=own", "data.target=y", "data.task=regression")

    def prepare_here(*more: str) -> None:
        monkeypatch.setattr(sys, "argv", ["prepare", "data=churn", *file, *more])
        monkeypatch.setattr("pipeline.prepare.PROJECT", project)
        assert cli.run(prepare.task, "data_stages") == 0
        capsys.readouterr()

    common = ("-m", "study=own", "data=churn", *file, "model.hidden_size=4", "training.epochs=1")
    grid = (*common, "training.batch_size=20", "optimizer.learning_rate=0.01,0.1", "results=out/own")
    prepare_here()
    code, _, err = here(*grid)
    assert code == 0, err
    asked = ("repeats=2", "repeats_split=true")
    code, _, err = here(*grid, *asked)
    assert code == 1
    assert "python -m pipeline.prepare data=own, with the same data keys, repeats and repeats_split as here" in err
    prepare_here(*asked)
    code, out, err = here(*grid, *asked)
    assert code == 0, err
    # The first repeat of each rate was trained before.
    assert trained(project) == 4
    assert "seeds 1, 2" in out.splitlines()[0]
    points = read_study(project / "out" / "own")
    assert [seeds_of(point.config) for point in points] == [(1, 1), (2, 2)] * 2
    means = [point.data.columns[0].mean for point in points if point.data is not None]
    assert means[:2] == means[2:]
    assert means[0] != means[1]
    client = MlflowClient(store_uri(project))
    (experiment,) = [one for one in client.search_experiments() if one.name == "own"]
    runs = client.search_runs([experiment.experiment_id])
    repeated = [run for run in runs if run.data.tags["lab.role"] == "repeated"]
    assert [run.data.tags["lab.seeds"] for run in repeated] == ["1 2", "1 2"]
    # A data set for each split.
    of_splits = {
        (run.data.params["data.split_seed"], one.dataset.digest)
        for run in runs
        if run.inputs is not None
        for one in run.inputs.dataset_inputs
    }
    assert sorted(split for split, _ in of_splits) == ["1", "2"]
    assert len({digest for _, digest in of_splits}) == 2


@pytest.mark.usefixtures("untracked")
@pytest.mark.parametrize(
    ("typed", "of_points", "of_the_sweep"),
    [("repeats=5", 0, True), ("repeats=4", 8, True), ("repeats=5 recording.figures=point", 10, True),
     ("repeats=2 recording.figures=sweep", 0, True), ("repeats=2 recording.figures=none", 0, False)],
)  # fmt: skip
def test_the_points_of_a_large_grid_are_not_drawn(
    project: Path, here: Here, typed: str, of_points: int, of_the_sweep: bool
) -> None:
    code, _, err = here("-m", *LINE, "optimizer.learning_rate=0.01,0.1", *typed.split())
    assert code == 0, err
    assert sum(any(folder.glob("plots/*.png")) for folder in (project / ".points").glob("[0-9a-f]*")) == of_points
    assert any((project / ".points" / ".sweeps").glob("*/plots/*.png")) == of_the_sweep


def test_what_is_drawn_does_not_make_another_point(project: Path, here: Here, untracked: None) -> None:
    for drawn in ("none", "sweep", "point"):
        code, _, err = here("-m", *LINE, "optimizer.learning_rate=0.1", f"recording.figures={drawn}")
        assert code == 0, err
        assert trained(project) == 1


def test_of_a_large_grid_only_the_best_point_has_models_unless_more_are_asked_for(
    project: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_all: list[float] = []
    of_best: list[float] = []
    monkeypatch.setattr(
        "pipeline.tracking.sync.points.log_models", lambda *given: of_all.append(given[3].learning_rate)
    )
    monkeypatch.setattr(
        "pipeline.tracking.sync.parent.log_models", lambda *given: of_best.append(given[3].learning_rate)
    )
    rates = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1]
    typed = ("-m", *LINE, f"optimizer.learning_rate={','.join(map(str, rates))}")
    code, _, err = here(*typed, "recording.models=none")
    assert code == 0, err
    assert (of_all, of_best) == ([], [])
    code, _, err = here(*typed)
    assert code == 0, err
    assert (of_all, of_best) == ([], [0.07])
    code, _, err = here(*typed, "recording.models=all")
    assert code == 0, err
    assert (sorted(of_all), of_best) == (rates, [0.07])
    assert trained(project) == len(rates)


@pytest.mark.usefixtures("untracked")
def test_points_that_come_one_by_one_are_not_drawn_because_nobody_knows_how_many_follow(
    project: Path, here: Here
) -> None:
    code, _, err = here("-m", "hydra/launcher=basic", *LINE, "optimizer.learning_rate=0.01,0.1")
    assert code == 0, err
    assert not any((project / ".points").glob("[0-9a-f]*/plots/*.png"))
    assert any((project / ".points" / ".sweeps").glob("*/plots/*.png"))


@pytest.mark.parametrize(
    ("scores", "mean", "warned"),
    [
        ([1.0, 2.0, 6.0], 3.0, ""),
        ([1.0, None, 6.0], 3.5, "The score of a point is the mean over 2 of its 3 seeds: others failed."),
        ([1.0, math.inf], math.inf, ""),
        ([None, math.inf], math.inf, "The score of a point is the mean over 1 of its 2 seeds: others failed."),
        ([None, None], math.nan, ""),
        ([math.nan, 1.0], math.nan, ""),
    ],
)
def test_a_search_gets_the_mean_over_the_seeds_that_trained(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    scores: list[float | None],
    mean: float,
    warned: str,
) -> None:
    """One that failed says nothing about the point, one that diverged does, and one without a loss cannot be judged."""
    outcomes: list[Any] = [score and SimpleNamespace(score=score) for score in scores]
    monkeypatch.chdir(project)
    monkeypatch.setattr("pipeline.sweep.command.PROJECT", project)
    monkeypatch.setattr("pipeline.tracking.sync.process.launch", lambda first: None)
    monkeypatch.setattr(Sweep, "train_all", lambda *_: outcomes)
    got: list[float] = []
    command = TrainCommand()

    def task(composed: Any) -> float:
        got.append(command.train_point(composed))
        return got[0]

    monkeypatch.setattr(sys, "argv", ["train", *LINE, "hydra.mode=RUN", f"repeats={len(scores)}"])
    assert cli.run(task, "config", command.finish) == 0
    assert got == pytest.approx([mean], nan_ok=True)
    # No point was really trained, so that this is all.
    assert capsys.readouterr().err.strip() == warned


@pytest.mark.usefixtures("untracked")
def test_a_single_point_can_have_repeats(project: Path, here: Here) -> None:
    code, _, err = here(*LINE, "hydra.mode=RUN", "repeats=3", "seed=5", "results=out")
    assert code == 0, err
    points = read_study(project / "out")
    assert [point.config.seed for point in points] == [5, 6, 7]
    # Typed again, the overrides of a run train that seed and no other.
    assert all("repeats=1" in run for run in overrides_of(project))


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ("x,x/y", "one inside the other: the second would replace the first"),
        ("x/y,./x", "one inside the other: the second would replace the first"),
        ("x,file", "file cannot be a results folder"),
    ],
)
def test_the_results_of_all_sweeps_are_checked_before_the_first_trains(
    project: Path, here: Here, results: str, words: str
) -> None:
    (project / "file").write_text("mine")
    code, _, err = here("-m", *LINE, "optimizer.learning_rate=0.1", f"results={results}")
    assert code == 1
    assert err.count("error:") == 1
    assert words in err
    assert trained(project) == 0
    assert not (project / "x").exists()


@pytest.mark.usefixtures("untracked")
@pytest.mark.parametrize("launcher", ["stacked", "basic"])
def test_two_sweeps_that_would_replace_each_other_are_refused_before_the_second_trains(
    project: Path, here: Here, launcher: str
) -> None:
    typed = ("-m", f"hydra/launcher={launcher}", *LINE, "optimizer.learning_rate=0.1")
    code, _, err = here(*typed, "study=one,other", "results=x")
    assert code == 1
    assert err.count("error:") == 1
    assert "the second would replace the first" in err
    assert "results='results/${study}'" in err
    assert trained(project) == (launcher == "basic")


def test_points_that_come_one_by_one_have_one_sweep_for_each_study(project: Path, here: Here) -> None:
    basic = ("-m", "hydra/launcher=basic", *LINE, "optimizer.learning_rate=0.1")
    code, _, err = here(*basic, "study=one,other", "seed=1,2")
    assert code == 0, err
    assert recorded(project) == {"one": ("FINISHED", 2), "other": ("FINISHED", 2)}
    code, _, err = here(*basic, "study=third", "results=x,y")
    assert code == 1
    assert "These points cannot share one sweep" in err
    assert recorded(project)["third"] == ("FINISHED", 1)


@pytest.mark.usefixtures("untracked")
def test_a_study_that_cannot_begin_does_not_keep_the_others_from_being_trained(project: Path, here: Here) -> None:
    code, _, err = here("-m", "experiment=mnist,two_bits", "training.epochs=3")
    assert code == 1
    assert err.count("error:") == 1
    assert "The data set mnist is not prepared yet" in err
    assert recorded(project) == {"two_bits": ("FINISHED", 1)}


@pytest.mark.usefixtures("syncs_end")
@pytest.mark.parametrize("method", ["train_all", "finish"])
def test_a_bug_of_ours_in_one_sweep_does_not_keep_the_others_from_being_trained_and_closed(
    project: Path, here: Here, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    real = getattr(Sweep, method)

    def broken(sweep: Sweep, *arguments: Any) -> Any:
        if sweep.first.study.startswith("broken"):
            raise ZeroDivisionError("a bug")
        return real(sweep, *arguments)

    monkeypatch.setattr(Sweep, method, broken)
    # The basic launcher closes all sweeps at the end.
    for launcher in ("stacked", "basic"):
        typed = (f"study=broken_{launcher},{launcher}", "optimizer.learning_rate=0.1", f"hydra/launcher={launcher}")
        code, _, err = here("-m", *LINE, *typed)
        assert code == 1
        assert err.count("error: This is an error of this program") == 1
        assert err.endswith("ZeroDivisionError: a bug\n")
        assert recorded(project)[launcher] == ("FINISHED", 1)


@pytest.mark.usefixtures("untracked")
def test_each_profile_thins_its_own_grid(project: Path, here: Here) -> None:
    code, _, err = here("-m", "experiment=three_bits", "profile=full,small", "dry_run=true")
    assert code == 0, err
    assert "22 points" in err


def test_a_server_that_does_not_answer_costs_nothing_but_a_command(
    project: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    shutil.rmtree(project / "mlruns")
    typed = ("experiment=two_bits", "training.epochs=20", "tracking=server", "tracking.uri=http://127.0.0.1:9")
    code, out, err = here(*typed)
    assert code == 0
    assert "Traceback" not in err
    assert "error: " not in err
    assert err.count("1 of 1 points are pending") == 1
    assert "python -m pipeline.rebuild tracking=server tracking.uri=http://127.0.0.1:9\n" in err
    assert "verdict" in out
    assert not (project / "mlruns").exists()


# --- batches


@pytest.mark.parametrize("size", ["1", "2"])
def test_batches_limit_what_trains_together_and_are_one_sweep(project: Path, here: Here, size: str) -> None:
    rates = "optimizer.learning_rate=0.01,0.1,0.2"
    code, out, err = here("-m", *LINE, rates, f"hydra.sweeper.max_batch_size={size}", "results=x")
    assert code == 0, err
    assert recorded(project) == {"line_y2x": ("FINISHED", 3)}
    (parents, points) = tracked(project)["line_y2x"]
    assert (len(parents), len(points)) == (1, 3)
    stacks = [point.outcome.points_in_stack for point in read_study(project / "x")]
    assert stacks == {"1": [1, 1, 1], "2": [2, 2, 1]}[size]
    assert len(out.partition("\n\n")[0].splitlines()) == 2 + 3
    # The same points without batches are the same sweep, of which nothing is left to do.
    code, _, err = here("-m", *LINE, rates, "results=x")
    assert "3 points: 3 done" in err
    assert recorded(project) == {"line_y2x": ("FINISHED", 3)}


@pytest.mark.parametrize("size", ["0", "true", "few"])
def test_a_batch_has_a_point_at_least(project: Path, here: Here, size: str) -> None:
    code, _, err = here("-m", *LINE, f"hydra.sweeper.max_batch_size={size}")
    assert code == 1
    assert err.startswith(
        "error: hydra.sweeper.max_batch_size cannot be used.\n  expected: a whole number from 1, or null"
    )
    assert trained(project) == 0


# --- the environment of the points


@pytest.mark.parametrize("mode", [(), ("-m",), ("-m", "hydra/launcher=basic")], ids=["one", "stacked", "basic"])
def test_variables_are_set_while_points_train_and_are_sent(
    here: Here, monkeypatch: pytest.MonkeyPatch, mode: tuple[str, ...]
) -> None:
    seen: list[str | None] = []
    monkeypatch.setattr("pipeline.sweep.training.trainer", observed(choose.trainer, seen))
    monkeypatch.setattr("pipeline.sweep.sweep.attempts", observed(sweep_attempts(), seen))
    code, _, err = here(*mode, "experiment=two_bits", "training.epochs=3", "+hydra.job.env_set.OF_THE_POINTS=yes")
    assert code == 0, err
    assert len(seen) > 1
    assert set(seen) == {"yes"}
    assert "OF_THE_POINTS" not in os.environ


def observed(function: Callable[..., Any], seen: list[str | None]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        seen.append(os.environ.get("OF_THE_POINTS"))
        return function(*given)

    return call


def sweep_attempts() -> Callable[..., Any]:
    from pipeline.tracking.sync.attempts import attempts

    return attempts


@pytest.mark.usefixtures("untracked")
@pytest.mark.parametrize("launcher", ["stacked", "basic"])
def test_points_with_other_variables_are_refused(project: Path, here: Here, launcher: str, tmp_path: Path) -> None:
    for name in ("yes", "no"):
        file = tmp_path / "conf" / "experiment" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        text = "defaults: [override /data: two_bits, override /model: linear]\nloss: mean_squared_error\n"
        file.write_text(f"# @package _global_\n{text}hydra: {{job: {{env_set: {{OF_THE_POINTS: '{name}'}}}}}}\n")
    typed = ("-m", f"hydra/launcher={launcher}", "experiment=yes,no", "training.epochs=3", "training.batch_size=null")
    code, _, err = here(*typed, f"hydra.searchpath=[file://{tmp_path / 'conf'}]")
    assert code == 1
    assert err.count("error:") == 1
    assert "{'OF_THE_POINTS': 'yes'}\n  received: {'OF_THE_POINTS': 'no'}" in err
    assert trained(project) == (launcher == "basic")


def test_a_variable_that_hydra_could_not_set_is_refused_before_training(project: Path, here: Here) -> None:
    code, _, err = here("-m", *LINE, "seed=1,2", "+hydra.job.env_set={SEED: '${seed}'}")
    assert code == 1
    assert "Interpolation key 'seed' not found" in err
    assert trained(project) == 0


# --- launchers and sweepers


@pytest.mark.parametrize(
    "typed",
    [
        "hydra/launcher=slurm",
        "hydra/sweeper=basic",
        "hydra.sweeper.params={seed: '1,2'}",
        "hydra.sweeper.max_batch_size=2",
    ],
)
def test_what_only_a_sweep_uses_is_refused_for_one_point(project: Path, here: Here, typed: str) -> None:
    code, _, err = here("experiment=two_bits", "training.epochs=3", typed)
    assert code == 1
    assert err.startswith("error: This command trains one point in this process")
    assert "add -m" in err
    assert trained(project) == 0


@pytest.mark.usefixtures("untracked")
@pytest.mark.parametrize("launcher", ["stacked", "basic", "joblib"])
def test_the_launchers_of_this_machine_may_be_named_for_one_point(project: Path, here: Here, launcher: str) -> None:
    code, _, err = here("experiment=two_bits", "training.epochs=3", f"hydra/launcher={launcher}")
    assert code == 0, err
    assert trained(project) == 1


def test_a_value_that_a_launcher_refuses_is_told_in_its_words(project: Path, here: Here) -> None:
    code, _, err = here("-m", *LINE, "hydra/launcher=joblib", "hydra.launcher.workers=0")
    assert code == 1
    assert err.startswith("error: hydra.launcher.workers cannot be used.\n  expected: a whole number from 1")
    assert trained(project) == 0


@pytest.mark.skipif(find_spec("submitit") is None, reason="needs the packages of `make cluster`")
def test_a_launcher_whose_points_would_not_be_recorded_is_refused(project: Path, here: Here) -> None:
    code, _, err = here("-m", *LINE, "hydra/launcher=submitit_local")
    assert code == 1
    assert err.startswith("error: hydra/launcher=submitit_local cannot be used here.")
    assert "joblib" in err
    assert trained(project) == 0


@pytest.mark.slow
@pytest.mark.skipif(find_spec("submitit") is None, reason="needs the packages of `make cluster`")
def test_so_is_one_that_the_sweeper_does_not_check(lab: Path) -> None:
    typed = ("-m", *LINE, "optimizer.learning_rate=0.1", "hydra/launcher=submitit_local", "hydra/sweeper=basic")
    done = command(lab, *typed)
    assert done.returncode == 1
    assert "error: hydra/launcher=submitit_local cannot be used here." in done.stderr
    assert "Traceback" not in done.stderr
    assert trained(lab) == 0


def command(lab: Path, *typed: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(path or "")}
    return subprocess.run(
        [sys.executable, "-m", "pipeline.train", *typed],
        cwd=lab,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


SEARCH = '''
"""A sweeper that asks for points by the scores of earlier ones, as Optuna's does."""
from pathlib import Path
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

ConfigStore.instance().store("search", {"_target_": "hydra_plugins.search.Search"}, group="hydra/sweeper")


class Search(Sweeper):
    def __init__(self, params):
        self.params = params

    def setup(self, *, hydra_context, task_function, config):
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        scores = {}
        batch = [0.01, 0.1, 10.0]
        for _ in range(2):
            jobs = self.launcher.launch(
                [[*arguments, f"optimizer.learning_rate={rate}"] for rate in batch], initial_job_idx=len(scores)
            )
            scores |= {rate: float(job.return_value) for rate, job in zip(batch, jobs)}
            best = min(scores, key=scores.get)
            batch = [best / 2, best * 2]
        Path("scores.txt").write_text(repr(scores))
'''


@pytest.mark.slow
def test_a_sweeper_chooses_points_by_the_losses_of_earlier_ones_and_all_are_one_sweep(
    lab: Path, tmp_path: Path
) -> None:
    (tmp_path / "plugins" / "hydra_plugins").mkdir(parents=True)
    (tmp_path / "plugins" / "hydra_plugins" / "search.py").write_text(SEARCH)
    typed = ("-m", *LINE, "training.epochs=200", "hydra/sweeper=search", "results=x")
    done = command(lab, *typed, path=tmp_path / "plugins")
    assert done.returncode == 0, done.stderr
    scores = eval((lab / "scores.txt").read_text(), {"inf": math.inf})
    assert list(scores) == [0.01, 0.1, 10.0, 0.05, 0.2]
    assert scores[10.0] == math.inf
    for point in read_study(lab / "x"):
        loss = math.inf
        if not point.diverged:
            loss = point.outcome.final["train/loss"]
        assert scores[point.learning_rate] == loss
    assert recorded(lab) == {"line_y2x": ("FINISHED", 5)}
    (parents, names) = tracked(lab)["line_y2x"]
    assert (len(parents), len(names)) == (1, 5)
