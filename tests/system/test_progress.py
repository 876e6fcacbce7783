"""The progress of training, in a pipe and as a bar."""

from __future__ import annotations

import logging
import re
import sys

import pytest

from pipeline.system import terminal as progress


def test_plain_lines_have_points_epoch_and_loss(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    shown = progress.TrainingProgress("mnist numpy: points 1-3 of 3", 20)
    shown(7, 0.25)
    shown.close()
    first, middle, last = capsys.readouterr().err.splitlines()
    assert first == "mnist numpy: points 1-3 of 3: 20 epochs"
    assert middle == "mnist numpy: points 1-3 of 3: epoch 7/20 loss 0.25"
    assert last.startswith("mnist numpy: points 1-3 of 3: ")
    assert last.endswith(" s")


def test_a_stack_that_goes_on_says_after_how_many_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    shown = progress.TrainingProgress("mnist numpy", 20, 7)
    shown(8, 0.25)
    shown.close()
    shown.close()
    first, last = capsys.readouterr().err.splitlines()
    assert first == "mnist numpy: 20 epochs, resuming after 7"
    assert last.endswith(" s")


def test_training_that_fails_does_not_look_like_one_that_ended(capsys: pytest.CaptureFixture[str]) -> None:
    shown = progress.TrainingProgress("mnist numpy", 20)
    shown.close("failed after ")
    shown.close()
    assert re.fullmatch(r"mnist numpy: 20 epochs\nmnist numpy: failed after \d+\.\d s\n", capsys.readouterr().err)


def test_a_bar_goes_on_where_training_does(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    shown = progress.TrainingProgress("mnist numpy", 20, 7)
    assert shown.bar is not None
    assert (shown.bar.n, shown.bar.total) == (7, 20)
    shown(9, 0.25)
    assert shown.bar.n == 9
    shown.close()
    assert "mnist numpy" in capsys.readouterr().err


def test_it_counts_blocks_too(capsys: pytest.CaptureFixture[str]) -> None:
    progress.TrainingProgress("a map", 7, 2, unit="block").close()
    assert capsys.readouterr().err.startswith("a map: 7 blocks, resuming after 2\n")


def test_a_message_has_a_line_of_its_own_above_the_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = progress.TrainingProgress("it", 3)
    shown(1, 0.5)
    logging.getLogger("pipeline.tracking").warning("MLflow is away.")
    shown.close()
    lines = re.split(r"[\r\n]", capsys.readouterr().err)
    assert "MLflow is away." in lines
