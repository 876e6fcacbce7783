"""Predictions from the command line: where each point breaks, without training it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.points.breaking_rates import read_breaking_rates, training_of
from pipeline.sweep.command import TrainCommand
from pipeline.system import cli
from tests.support.trained import config

Predict = Callable[..., tuple[int, str, str]]


@pytest.fixture
def predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Predict:
    """Return a function that runs the command in this process, and returns its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.sweep.command.PROJECT", tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["predict", *arguments])
        command = TrainCommand(predicts=True)
        code = cli.run(command.train_point, "config", command.finish)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def cells(line: str) -> list[str]:
    """The cells of a line of a table, which two spaces or more divide."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_a_study_is_predicted_and_its_rates_are_sorted_to_either_side(predict: Predict, tmp_path: Path) -> None:
    code, out, err = predict("experiment=line_y3x")
    assert (code, err) == (0, "")
    title, head, row = out.splitlines()
    assert title == "line_y3x numpy: 1,000 epochs"
    assert cells(head) == ["curvature L", "breaks at", "formula", "rates below", "rates above"]
    assert cells(row) == ["16.7", "0.1198", "2 / L", "0.01, 0.1", "1"]
    # What it found is kept for the report; no point is.
    assert [path.name for path in (tmp_path / ".points").iterdir()] == [".breaking_rates"]
    assert not (tmp_path / "mlruns").exists()


def test_each_size_and_method_has_a_row_and_seeds_have_one_together(predict: Predict) -> None:
    bits = ("-m", "experiment=three_bits", "model.hidden_size=4,8", "optimizer=sgd,adam,lion", "repeats=3")
    code, out, err = predict(*bits, "optimizer.learning_rate=0.1,100")
    assert (code, err) == (0, "")
    title, head, *rows = out.splitlines()
    assert "seeds 1 to 3" in title
    assert head.startswith("hidden size  optimizer")
    assert rows.pop() == "no prediction: Lion's steps have the same size whatever the gradient is"
    assert len(rows) == 6
    for row in rows:
        if " lion " in row:
            assert cells(row)[2:] == ["no prediction"]
        else:
            assert row.count(" to ") == 2, row  # the curvature and the rate of three seeds
            assert row.endswith("100")


def test_one_point_alone(predict: Predict) -> None:
    code, out, _ = predict("data=three_bits", "optimizer=sgd", "optimizer.learning_rate=0.1", "model.hidden_size=4")
    assert code == 0
    assert "rates below" in out
    assert out.splitlines()[-1].split()[-1] == "0.1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("experiment=curve_restarts",), "a map or a curve, and no single network"),
        (("experiment=curve_basins",), "a map or a curve, and no single network"),
        (("-m", "experiment=methods_three_bits", "optimizer=bfgs"), "no prediction: bfgs has no single learning rate"),
        (("experiment=line_y3x", "gradient=finite_difference"), "0.1198"),
    ],
)
def test_what_has_no_prediction_says_why(predict: Predict, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = predict(*arguments)
    assert (code, err) == (0, "")
    assert words in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("experiment=nothing",), "nothing"),
        (("experiment=line_y3x", "budget=1s"), "budget=1.0"),
        (("experiment=line_y3x", "dry_run=true"), "dry_run=true"),
        (("experiment=line_y3x", "results=conf"), "cannot be a results folder"),
        (("curvature.rows=0",), "curvature.rows"),
        (("experiment=mnist",), "python -m pipeline.prepare"),
    ],
)
def test_errors_are_messages(predict: Predict, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = predict(*arguments)
    assert (code, out) == (1, "")
    assert err.count("error: ") == 1
    assert words in err


def test_it_is_a_command_that_imports_neither_mlflow_nor_keras(lab: Path) -> None:
    code = (
        "import runpy, sys; sys.argv = ['predict', 'experiment=two_bits']\n"
        "try: runpy.run_module('pipeline.predict', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as ended: assert not ended.code\n"
        "print(sorted({'mlflow', 'keras', 'tensorflow', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=lab, capture_output=True, text=True, check=True)
    assert "19.8" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("backend", ["numpy", "keras"])
def test_training_shows_the_rate_that_theory_gives_to_four_digits(
    predict: Predict, tmp_path: Path, backend: str
) -> None:
    """The line y = 3x, mean squared error, a weight and a bias: twice the matrix of [x, 1] has the eigenvalue 16.70."""
    largest = np.linalg.eigvalsh(np.array([[30, 10], [10, 4]]) * 2 / 4)[-1]
    typed = ("experiment=line_y3x", f"backend={backend}", "dtype=float64", "gradient=backpropagation")
    # On Keras an update takes a millisecond. With fewer of them, a loss that grows slowly has not yet passed its start.
    epochs = {"numpy": 6000, "keras": 100}[backend]
    code, out, _ = predict(*typed, "breaking_rate=true", f"training.epochs={epochs}")
    assert code == 0
    head, row = out.splitlines()[1:]
    assert cells(head)[1:3] == ["breaks at", "seen at"]
    assert cells(row)[:2] == ["16.7", "0.1198"]
    (found,) = read_breaking_rates(tmp_path / ".points/.breaking_rates/line_y3x.json").values()
    assert found.training == training_of(config(*typed, f"training.epochs={epochs}", "optimizer.learning_rate=1"))
    assert found.predicted == pytest.approx(2 / largest, rel=1e-12)
    assert found.holds is not None
    assert found.breaks is not None
    assert found.holds < found.breaks < 1.0008 * found.holds
    if backend == "numpy":
        assert cells(row)[2] == "0.1198"
        assert found.holds <= 1.0001 * 2 / largest < 1.001 * found.breaks
    else:
        assert found.holds == pytest.approx(2 / largest, rel=0.02)


def test_what_has_no_prediction_is_not_looked_for(predict: Predict) -> None:
    code, out, _ = predict("-m", "data=three_bits", "model.hidden_size=2", "optimizer=sgd,lion",
                           "optimizer.learning_rate=0.1", "training.epochs=20", "breaking_rate=true")  # fmt: skip
    assert code == 0
    rows = {line.split()[0]: cells(line) for line in out.splitlines()[2:4]}
    assert rows["lion"][1:] == ["no prediction", "not found"]
    assert float(rows["sgd"][3]) > 0


def test_of_several_commands_each_network_keeps_its_last_prediction(predict: Predict, tmp_path: Path) -> None:
    file = tmp_path / "results/bits/breaking_rates.json"
    common = ("data=three_bits", "optimizer=sgd", f"results={tmp_path / 'results/bits/numpy'}")
    for size, rows in ((2, 1), (3, 2), (2, 2)):
        assert predict(*common, f"model.hidden_size={size}")[0] == 0
        assert len(read_breaking_rates(file)) == rows
    file.write_text(file.read_text()[:50])
    code, out, err = predict(*common, "model.hidden_size=2")
    assert (code, out) == (1, "")  # before the work
    assert str(file) in err
    assert "delete it, and run python -m pipeline.predict again" in err


def test_training_refuses_to_look_for_breaking_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.sweep.command.PROJECT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", "experiment=line_y2x", "breaking_rate=true"])
    command = TrainCommand()
    assert cli.run(command.train_point, "config", command.finish) == 1
    assert "run python -m pipeline.predict with the same arguments" in capsys.readouterr().err
    assert not (tmp_path / ".points").exists()


def test_two_studies_may_name_one_results_folder(predict: Predict, tmp_path: Path) -> None:
    code, out, err = predict("-m", "experiment=line_y2x,line_y3x", f"results={tmp_path / 'results'}")
    assert (code, err) == (0, "")
    assert out.count("2 / L") == 2
    assert not (tmp_path / "results").exists()
