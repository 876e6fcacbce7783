"""Predictions from the command line: where each point breaks, without training it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.sweep.command import TrainCommand
from pipeline.system import cli

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
    assert cells(row) == ["16.7", "0.12", "2 / L", "0.01, 0.1", "1"]
    assert not (tmp_path / ".points").exists()
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
        (("experiment=line_y3x", "gradient=finite_difference"), "0.12"),
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


def test_two_studies_may_name_one_results_folder(predict: Predict, tmp_path: Path) -> None:
    code, out, err = predict("-m", "experiment=line_y2x,line_y3x", f"results={tmp_path / 'results'}")
    assert (code, err) == (0, "")
    assert out.count("2 / L") == 2
    assert not (tmp_path / "results").exists()
