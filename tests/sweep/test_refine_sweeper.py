"""`hydra/sweeper=refine` through the command: its rounds, what it refuses, and that it resumes."""

from __future__ import annotations

import json
import math
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from pipeline.points.reading import read_point
from pipeline.sweep.command import TrainCommand
from pipeline.sweep.seeds import Score, mean_score
from pipeline.sweep.training import StackTraining
from pipeline.system.project import PROJECT
from tests.support.hostile import Ended, Terminal

BITS = ("experiment=three_bits", "training.epochs=100", "hydra/sweeper=refine")
SMALL = (*BITS, "model.hidden_size=4")


@pytest.fixture
def here(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ended]]:
    """Return a function that runs the command in this process, without MLflow."""
    yield Terminal(project, monkeypatch, capsys).train
    GlobalHydra.instance().clear()


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[float, int | None]]]:
    """Return the rates and the hidden sizes of each call of `train_all`."""
    called: list[list[tuple[float, int | None]]] = []
    train = TrainCommand._train  # noqa: SLF001

    def note(self: TrainCommand, requests: Sequence[tuple[object, list[str]]], *more: object) -> list[float]:
        typed = [dict(one.split("=") for one in overrides) for _, overrides in requests]
        called.append([(float(one["optimizer.learning_rate"]), int(one["model.hidden_size"])) for one in typed])
        return train(self, requests, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainCommand, "_train", note)
    return called


def complete(project: Path) -> dict[str, float]:
    """Return the final losses of all complete points, by name of the folder."""
    # A killed command leaves folders of points that have ended, and are not complete yet.
    folders = [path.parent for path in project.glob(".points/*/SHA256SUMS") if not path.parent.suffix]
    return {folder.name: read_point(folder, "").outcome.score for folder in folders}


def test_each_round_is_one_call_with_the_next_rates_of_all_sizes(
    here: Callable[..., Ended], rounds: list[list[tuple[float, int]]], project: Path
) -> None:
    ended = here(*BITS)
    assert ended.code == 0, ended.err
    start = [(rate, size) for size in (4, 32) for rate in (0.001, 0.1, 10.0, 1000.0)]
    assert sorted(rounds[0]) == sorted(start)
    asked = [point for points in rounds for point in points]
    assert len(asked) == len(set(asked)) == len(complete(project))
    assert len(rounds) <= 6
    # The listed rates come first.
    assert {rate for rate, _ in rounds[1]} <= {0.01, 1.0, 100.0}
    lines = ended.out.splitlines()[-2:]
    for size, line in zip((4, 32), lines, strict=True):
        runs = sum(one == size for _, one in asked)
        told = r"by a parabola \S+ \(95 % interval \S+ to \S+\)|without an interval, as the losses .*"
        ended_by = "the next rates are at most 0.1 decades away"
        took = f"{runs} runs, a grid as fine takes 61"
        assert re.fullmatch(rf"model\.hidden_size={size}: best rate \S+, ({told}); {ended_by}; {took}", line)
        best = float(line.split("best rate ")[1].split(",")[0])
        near = sorted(abs(math.log10(rate / best)) for rate, one in asked if one == size)
        assert near[1] <= near[2] <= 0.105


def test_a_second_run_trains_nothing_and_says_the_same(here: Callable[..., Ended], project: Path) -> None:
    first = here(*SMALL)
    before = {path: path.stat().st_mtime_ns for path in project.glob(".points/*/outcome.json")}
    second = here(*SMALL)
    assert second.code == 0, second.err
    assert "to run" not in second.err
    assert {path: path.stat().st_mtime_ns for path in project.glob(".points/*/outcome.json")} == before
    assert second.out == first.out


def test_an_interrupted_search_resumes_to_the_same_points(
    here: Callable[..., Ended], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [0]
    train = StackTraining.train

    def interrupted(self: StackTraining, jobs: Sequence[object]) -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        train(self, jobs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(StackTraining, "train", interrupted)
        # The terminal of the tests expects that no command is interrupted.
        with pytest.raises(AssertionError, match="code=130"):
            here(*SMALL)
    part = complete(project)
    assert here(*SMALL).code == 0
    whole = complete(project)
    assert 0 < len(part) < len(whole)
    assert part.items() <= whole.items()
    for path in project.glob(".points/*/outcome.json"):
        assert json.loads(path.read_text())


def test_the_score_of_repeats_is_their_mean_and_noise_decides(here: Callable[..., Ended], project: Path) -> None:
    ended = here(*SMALL, "repeats=3", "optimizer.learning_rate=1,10,100", "hydra.sweeper.tolerance=0.3")
    assert ended.code == 0, ended.err
    line = ended.out.splitlines()[-1]
    points = len(complete(project))
    assert points % 3 == 0
    assert f"; {points} runs, a grid as fine takes 24" in line


def test_an_interval_is_refined_from_rates_within_it(
    here: Callable[..., Ended], rounds: list[list[tuple[float, int]]]
) -> None:
    ended = here(*SMALL, "optimizer.learning_rate=interval(1,100)", "hydra.sweeper.beyond=0")
    assert ended.code == 0, ended.err
    assert [rate for rate, _ in rounds[0]] == [1.0, 10.0, 100.0]
    assert all(1 <= rate <= 100 for points in rounds for rate, _ in points)


def test_each_of_several_studies_is_refined_in_its_own_grid(here: Callable[..., Ended], project: Path) -> None:
    ended = here("-m", "experiment=line_y2x,line_y3x", "training.epochs=20", "hydra/sweeper=refine")
    assert ended.code == 0, ended.err
    names = re.findall(r"^(experiment=line_y[23]x)[^:\n]*: best rate ", ended.out, re.MULTILINE)
    assert sorted(set(names)) == ["experiment=line_y2x", "experiment=line_y3x"]


def test_a_budget_is_kept(here: Callable[..., Ended], project: Path) -> None:
    ended = here(*SMALL, "hydra.sweeper.most_points=7")
    assert ended.code == 0, ended.err
    assert "the budget of most_points is spent; " in ended.out.splitlines()[-1]
    assert 4 < len(complete(project)) <= 7


def test_a_dry_run_shows_the_first_round(here: Callable[..., Ended], project: Path) -> None:
    ended = here(*BITS, "dry_run=true")
    assert ended.code == 0, ended.err
    assert ended.out.count("to run") == 8
    assert "rate could be trained" not in ended.out
    assert complete(project) == {}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("hydra.sweeper.most_points=0",), "hydra.sweeper.most_points cannot be used.\n  expected: a whole number"),
        (("hydra.sweeper.most_points=3",), "The budget of hydra.sweeper.most_points does not hold"),
        (("hydra.sweeper.tolerance=0",), "hydra.sweeper.tolerance cannot be used.\n  expected: a number of decades"),
        (("hydra.sweeper.tolerance=fine",), "hydra.sweeper.tolerance cannot be used."),
        (("hydra.sweeper.beyond=-1",), "hydra.sweeper.beyond cannot be used."),
        (("hydra.sweeper.every=0",), "hydra.sweeper.every cannot be used."),
        (("optimizer.learning_rate=0,1",), "hydra/sweeper=refine cannot begin with one of the learning rates."),
        (("optimizer.learning_rate=interval(0,1)",), "hydra/sweeper=refine cannot use this interval"),
        (("~hydra.sweeper.params", "+hydra.sweeper.params={seed: '1,2'}"), "has no axis of learning rates"),
    ],
)
def test_what_cannot_be_refined_is_refused_in_one_message(
    here: Callable[..., Ended], project: Path, typed: tuple[str, ...], said: str
) -> None:
    ended = here(*SMALL, *typed)
    assert ended.code == 1
    assert said in ended.err
    assert complete(project) == {}


def test_a_score_is_a_number_with_the_scores_of_its_seeds() -> None:
    score = mean_score([1.0, None, 3.0])
    assert score == 2.0
    assert score.by_seed[::2] == (1.0, 3.0)
    assert math.isnan(score.by_seed[1])
    assert Score(0.5).by_seed == ()
    # As callbacks of Hydra may keep it.
    assert pickle.loads(pickle.dumps(score)).by_seed[::2] == (1.0, 3.0)


# --- as processes


def command(lab: Path, *typed: str) -> list[str]:
    return [sys.executable, "-m", "pipeline.train", *SMALL, *typed]


@pytest.mark.slow
def test_a_killed_search_resumes_to_the_points_of_one_left_alone_with_any_launcher(lab: Path, tmp_path: Path) -> None:
    line = r"^best rate .*$"
    first = subprocess.Popen(command(lab, "training.epochs=20000"), cwd=lab, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not complete(lab) and first.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    part = complete(lab)
    assert part
    resumed = subprocess.run(command(lab, "training.epochs=20000"), cwd=lab, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    whole = complete(lab)
    assert part.items() < whole.items()
    for path in lab.glob(".points/*"):
        path.rename(tmp_path / path.name)
    joblib = ("hydra/launcher=joblib", "hydra.launcher.workers=2", "training.epochs=20000")
    alone = subprocess.run(command(lab, *joblib), cwd=lab, capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr
    assert "by joblib" in alone.stderr
    assert complete(lab) == whole
    assert re.findall(line, alone.stdout, re.MULTILINE) == re.findall(line, resumed.stdout, re.MULTILINE) != []


def test_the_sweeper_imports_no_framework() -> None:
    """Every Hydra command imports it, `--help` too."""
    code = "import sys, hydra_plugins.refine_sweeper; print({'mlflow', 'numpy', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
