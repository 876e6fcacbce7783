"""The command line as it is typed: help, mistakes, interruptions. Each mistake is one message, without a traceback."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from omegaconf import DictConfig

from pipeline import prepare
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.own_folder import with_own_folder
from pipeline.system.project import PROJECT
from pipeline.tracking.store import store_uri
from tests.support.once import copy_of_the_project
from tests.support.swept import full_name

Done = subprocess.CompletedProcess[str]
HEAVY = {"mlflow", "tensorflow", "keras", "pydantic", "numpy", "matplotlib"}


def command(*arguments: str, options: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *options, "-m", "pipeline.train", *arguments]


def run(project: Path, *arguments: str, options: tuple[str, ...] = ()) -> Done:
    return subprocess.run(
        command(*arguments, options=options), cwd=project, capture_output=True, text=True, timeout=200, check=False
    )


# --- commands in messages, for a folder of one's own


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--config-dir", "../mine", "data=own"], " --config-dir ../mine"),
        (["data=own", "--config-dir=/my folder"], " --config-dir '/my folder'"),
        (["-cd", "../mine", "-m"], " --config-dir ../mine"),
        (["data=own", "-m"], ""),
        (["--config-dir"], ""),
    ],
)
def test_a_command_in_a_message_finds_what_this_command_found(arguments: list[str], option: str) -> None:
    message = "to do: python -m pipeline.prepare data=own, or python -m pipeline.server"
    expected = message.replace("prepare", f"prepare{option}")
    assert with_own_folder(message, arguments) == expected
    assert with_own_folder(expected, arguments) == expected


# --- mistakes: what was typed, and what the message must say

MISTAKES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("optimizer.learning_rate=-1",): ("optimizer.learning_rate", "greater than 0", "received -1"),
    ("optimizer.learning_rate=0",): ("optimizer.learning_rate", "greater than 0", "received 0"),
    ("optimizer.learning_rate=fast",): ("optimizer.learning_rate", "valid number", "received 'fast'"),
    ("model.hidden_size=0",): ("model.hidden_size", "greater than 0", "received 0"),
    ("experiment=tree_bits",): (
        "Unknown option: experiment=tree_bits",
        "mnist_grid",
        "did you mean experiment=three_bits?",
    ),
    ("optimizer=adamm",): ("Unknown option: optimizer=adamm", "did you mean optimizer=adam?"),
    ("backend=torch",): ("Unknown option: backend=torch", "keras, numpy"),
    ("optimizer.learnin_rate=0.1",): ("optimizer.learnin_rate", "did you mean optimizer.learning_rate?"),
    ("+optimizer.learnin_rate=0.1",): ("optimizer.learnin_rate", "did you mean optimizer.learning_rate?"),
    ("lerning_rate=0.1",): ("lerning_rate", "did you mean optimizer.learning_rate?"),
    ("--config-dir", "/no/such/folder"): ("The folder of --config-dir does not exist", "received: /no/such/folder"),
    ("experimint=mnist",): ("experimint", "did you mean experiment"),
    ("lr=0.1",): ("Unknown key: lr", "did you mean optimizer.learning_rate?"),
    ("~optimizer.epsilo",): ("Unknown key: optimizer.epsilo", "did you mean optimizer.epsilon?"),
    ("+seed=2",): ("An item is already at 'seed'", "leave out the + to change it"),
    ("model.attention_heads=3",): ("Unknown key: model.attention_heads", "`--cfg job` prints every key"),
    ("optimizer=SGD",): ("Unknown option: optimizer=SGD", "did you mean optimizer=sgd?"),
    ("data=/my/file.csv",): ("Unknown option: data=/my/file.csv", "docs/your-own.md"),
    ("optimizer.learning_rate=0.1,1",): ("Several values for one key are a sweep", "add -m"),
    ("optimizer.learning_rate=logspace(0.1,1,3)",): ("Several values for one key are a sweep", "add -m"),
    ("seed=range(1,4)",): ("Several values for one key are a sweep", "add -m"),
    ("optimizer.learning_rate=logspace(0.1,1)",): ("logspace cannot make a list of values", "logspace(0.0001,1,9)"),
    ("optimizer.beta_2=0.99999999",): ("0.99999999 becomes 1 in float32", "dtype=float64"),
    ("experiment=line_y2x", "results=conf/x"): ("conf/x cannot be a results folder", "results=results/STUDY/BACKEND"),
    ("tracking=server", "tracking.uri=sqlite:///SHARED.db"): ("http://127.0.0.1:5000", "python -m pipeline.server"),
    ("experiment=line_y2x", "hydra.sweep.dir='~/x'"): ("hydra.sweep.dir begins with ~", "${oc.env:HOME}/FOLDER"),
    ("hydra.run.dir=pipeline/train.py",): ("pipeline/train.py cannot be read or written", "use another place"),
    ("optimizer.momentum=0.9",): ("optimizer.momentum", "is available only with optimizer=momentum"),
    ("backend=keras", "experiment=line_y2x", "gradient=finite_difference"): ("gradient", "backend=numpy"),
    ("experiment=mnist", "hydra.mode=RUN"): (
        "The data set mnist is not prepared yet",
        "python -m pipeline.fetch data=mnist",
    ),
    ("tracking=server",): ("tracking.uri has no value",),
    ("optimizer.learning_rate=[",): ("The command is invalid", "--help"),
    ("-m", "experiment=line_y2x", "optimizer.learning_rate=0.1,-1"): ("optimizer.learning_rate", "received -1"),
    ("-m", "experiment=line_y2x", "hydra/launcher=basic", "optimizer.learning_rate=-1"): ("received -1",),
}


@pytest.mark.parametrize(
    ("text", "place", "received"),
    [
        ("kind: file\nkind: file\n", "line 2, column 1", "found duplicate key kind"),
        ("kind: file\ntarget: a: b\n", "line 2, column 10", "mapping values are not allowed here"),
        ("kind: file\n\ttask: binary\n", "line 2, column 1", "that cannot start any token"),
    ],
)
def test_a_file_that_is_not_yaml_is_named_with_its_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    place: str,
    received: str,
) -> None:
    file = tmp_path / "data" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(text)
    monkeypatch.setattr(sys, "argv", ["prepare", "--config-dir", str(tmp_path), "data=mine"])
    assert cli.run(prepare.task, "data_stages") == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {file}, {place}: not valid YAML.\n")
    assert received in said


# Types several commands in one process, which imports once what they need.
TYPED = """
import contextlib, io, json, sys
from pipeline.sweep.command import TrainCommand
from pipeline.system import cli
ended = []
for typed in json.loads(sys.stdin.read()):
    sys.argv = ["pipeline/train.py", *typed]
    command = TrainCommand()
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = cli.run(command.train_point, "config", command.finish)
    ended.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(ended))
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, ...], Done]]:
    """A copy of the project in which all mistakes were typed, and how each command ended."""
    project = copy_of_the_project(tmp_path_factory.mktemp("mistakes"))
    ran = subprocess.run(
        [sys.executable, "-c", TYPED], cwd=project, input=json.dumps(list(MISTAKES)), capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    done = [Done(command(*typed), *ended) for typed, ended in zip(MISTAKES, json.loads(ran.stdout), strict=True)]
    return project, dict(zip(MISTAKES, done, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("typed", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_message(refused: tuple[Path, dict[tuple[str, ...], Done]], typed: tuple[str, ...]) -> None:
    done = refused[1][typed]
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    # On a slow machine, the command says first what it is busy with.
    steps, error, message = done.stderr.partition("error: ")
    assert error
    assert all(line.startswith(("composing points", "importing libraries")) for line in steps.splitlines())
    assert "error: " not in message
    assert done.stdout == ""
    for words in MISTAKES[typed]:
        assert words in message


@pytest.mark.slow
def test_mistakes_leave_nothing_to_train_behind(refused: tuple[Path, dict[tuple[str, ...], Done]]) -> None:
    assert list((refused[0] / ".points").glob("*")) == []
    assert not (refused[0] / "results").exists()
    assert not (refused[0] / "~").exists()


@pytest.mark.parametrize(
    "typed", [("optimizer=null",), ("-m", "experiment=line_y2x", "optimizer.learning_rate=0.1,-1")]
)
def test_a_mistake_ends_the_process_with_1(tmp_path: Path, typed: tuple[str, ...]) -> None:
    done = run(copy_of_the_project(tmp_path), *typed)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1


@pytest.mark.slow
def test_a_dry_run_says_what_it_would_do_and_leaves_nothing(tmp_path: Path) -> None:
    project = copy_of_the_project(tmp_path)
    done = run(project, "experiment=line_y2x", "dry_run=true")
    assert done.returncode == 0
    table = [line.split() for line in done.stdout.splitlines() if not line.startswith("[")]
    assert table[1] == ["learning", "rate", "signature", "state"]
    assert [(row[0], " ".join(row[2:])) for row in table[2:]] == [(rate, "to run") for rate in ("0.01", "0.1", "0.5")]
    assert "3 points: 3 to run" in done.stderr
    assert {path.name for path in project.iterdir()} <= {"conf", "examples", "hydra_plugins", "pipeline", "multirun"}


# --- what is only shown


@pytest.mark.parametrize("typed", [("--help",), ("--cfg", "job"), ("--cfg", "job", "experiment=three_bits")])
def test_help_and_config_are_shown_without_the_heavy_libraries(tmp_path: Path, typed: tuple[str, ...]) -> None:
    done = run(copy_of_the_project(tmp_path), *typed, options=("-X", "importtime"))
    assert done.returncode == 0
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "hydra" in imported
    assert imported & HEAVY == set()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf", "examples", "hydra_plugins", "pipeline"]


def test_a_point_that_was_refused_has_a_score_for_a_sweeper_that_searches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores: list[float] = []

    def main(**_: object) -> Callable[[Callable[[DictConfig], float]], Callable[[], None]]:
        return lambda task: lambda: scores.append(float(task(DictConfig({}))))

    def task(config: DictConfig) -> float:
        raise LabError("The config is invalid.")

    monkeypatch.setattr(sys, "argv", ["train"])
    monkeypatch.setattr("hydra.main", main)
    assert cli.run(task, "config") == 1
    assert [math.isnan(score) for score in scores] == [True]
    assert capsys.readouterr().err == "error: The config is invalid.\n"


def test_help_names_every_group_and_how_to_train() -> None:
    shown = run(PROJECT, "--help").stdout
    assert "python -m pipeline.train experiment=three_bits" in shown
    for group in ("experiment", "data", "model", "optimizer", "backend", "tracking"):
        assert re.search(rf"^{group}: ", shown, re.MULTILINE)
        for option in (PROJECT / "conf" / group).glob("*.yaml"):
            assert option.stem in shown


def test_the_config_is_shown_as_it_would_be_used() -> None:
    shown = run(PROJECT, "--cfg", "job", "experiment=three_bits", "optimizer.learning_rate=7").stdout
    assert "study: three_bits" in shown
    assert re.search(r"optimizer:\n +name: sgd\n +learning_rate: 7\n", shown)


def test_a_reader_that_has_ended_is_not_an_error() -> None:
    with subprocess.Popen(
        command("--cfg", "job"), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        printed = process.stderr.read()
        process.wait(60)
    assert "Traceback" not in printed


# --- interruptions


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_a_grid_that_is_stopped_by_signals_is_killed_in_mlflow_and_can_go_on(lab: Path, empty_store: Path) -> None:
    """The signals are those of a closed terminal and of SLURM before its limit, which end it as SIGTERM does.

    They reach all processes of the group, and more than once. SIGINT is sent in test_faults and to the launchers.
    """
    (lab / "mlruns").mkdir()
    shutil.copy(empty_store, lab / "mlruns" / "mlflow.db")
    typed = command("-m", "experiment=three_bits", "optimizer.learning_rate=0.1,1", "model.hidden_size=4,5")
    typed += ["training.epochs=900000", "results=results/mine"]
    with subprocess.Popen(
        typed, cwd=lab, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_for(lambda: len(list(lab.glob(".points/*.training/checkpoint.npz"))) == 2, process)
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            os.killpg(process.pid, number)
        out, printed = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in printed
    assert "stopping after this epoch" in printed
    assert "interrupted: finished work is kept; run the same command again to resume" in printed
    assert out == ""
    assert not (lab / "results").exists()
    assert list(lab.rglob("*.partial-*")) == []
    client = MlflowClient(store_uri(lab))
    experiment = client.get_experiment_by_name("three_bits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {full_name(run): run.info.status for run in runs} == {
        "three_bits numpy": "KILLED",
        "learning_rate=0.1 hidden_size=4 epochs=900000": "KILLED",
        "learning_rate=1 hidden_size=4 epochs=900000": "KILLED",
    }
    killed = next(run for run in runs if full_name(run).startswith("learning_rate=1 "))
    assert "train/loss" in killed.data.metrics
    planned = run(lab, *typed[3:], "dry_run=true")
    assert "4 points: 2 to continue, 2 to run" in planned.stderr


def test_an_interruption_before_training_ends_with_130(lab: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pipeline.system import cli\n"
        "def task(config):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.argv = ['train', 'experiment=two_bits']\n"
        "sys.exit(cli.run(task, 'config', lambda: print('finished', flush=True)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=lab,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 130
    assert done.stdout == "finished\n"
    assert "Traceback" not in done.stderr
