"""The lines below the table: the answer, what diverged, and what to type next."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.points.point import Point, outcome_of
from pipeline.studies.kinds import headline
from pipeline.sweep import closing
from pipeline.sweep.closing import closing_lines
from tests.support.trained import config

BITS = config("experiment=three_bits", "training.epochs=4", "model.hidden_size=4")
# Its weights begin with the same value for any seed, and all rows are one batch.
LINE = config("experiment=line_y2x", "training.epochs=4")


def point(rate: float, loss: float = 0.5, diverged: int | None = None, seed: int = 1, like: Config = BITS) -> Point:
    history = History(epochs=4, diverged_step=diverged)
    history.record(0, {"train/loss": 9.0})
    history.record(4, {"train/loss": loss, "train/mean_absolute_error": loss})
    optimizer = like.optimizer.model_copy(update={"learning_rate": rate})
    own = like.model_copy(update={"optimizer": optimizer, "seed": seed})
    return Point(f"learning_rate={rate:g}", Path(), own, history, outcome_of(history))


@pytest.fixture(autouse=True)
def typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "command", lambda: "python -m pipeline.train experiment=three_bits")


def test_a_sweep_ends_with_its_answer_what_diverged_and_the_next_command() -> None:
    points = [point(0.1, 1e-9), point(1, 3.0, diverged=9), point(10, 4.0, diverged=7)]
    answer, look, command = closing_lines(points).splitlines()
    assert answer.startswith(headline(points).rstrip("."))
    assert "Diverged: 2 of 3, first at rate 1: " in answer
    assert answer.endswith("after 9 updates.")
    assert look == "Next: `make ui` shows the runs in MLflow. One seed does not show the noise, five do:"
    assert command == "  python -m pipeline.train experiment=three_bits repeats=5"


def test_a_single_point_ends_with_its_diagnosis() -> None:
    only = point(0.1)
    assert closing_lines([only]).splitlines() == [f"{only.diagnosis}.", "Next: `make ui` shows the runs in MLflow."]


def test_several_seeds_and_points_without_chance_need_no_repeats() -> None:
    seeds = [point(rate, seed=seed) for rate in (0.1, 1.0) for seed in (1, 2)]
    lines = [point(rate, like=LINE) for rate in (0.1, 1.0)]
    for points in (seeds, lines):
        assert closing_lines(points).splitlines()[-1] == "Next: `make ui` shows the runs in MLflow."


def test_each_backend_has_an_answer() -> None:
    keras = config("experiment=three_bits", "training.epochs=4", "model.hidden_size=4", "backend=keras")
    points = [point(rate, 1e-9, like=one) for one in (BITS, keras) for rate in (0.1, 1.0)]
    first, second, *_ = closing_lines(points).splitlines()
    assert first.startswith("numpy: ")
    assert second.startswith("keras: ")


def test_a_command_that_cannot_be_repeated_so_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for typed in ("pytest -q", "python -m pipeline.train " + "x" * 100, "python -m pipeline.train repeats=1"):
        monkeypatch.setattr(closing, "command", lambda typed=typed: typed)
        last = closing_lines([point(0.1), point(1)]).splitlines()[-1]
        assert last.endswith("the same command with repeats=5 does.")


@pytest.mark.parametrize("width", [40, 60, 80])
def test_text_is_wrapped_and_a_command_is_not(width: int) -> None:
    *text, command = closing_lines([point(0.1, 1e-9), point(1, 3.0, diverged=9)], width).splitlines()
    assert max(map(len, text)) <= width
    assert command.endswith("experiment=three_bits repeats=5")


def test_data_of_ones_own_has_its_page_next() -> None:
    own = point(0.1)
    data = BITS.data.model_copy(update={"kind": "file"})
    own = replace(own, config=own.config.model_copy(update={"data": data, "results": "results/mine", "study": "mine"}))
    assert "python -m pipeline.compare study=mine" in closing_lines([own])
    assert "pipeline.compare" not in closing_lines([replace(own, config=BITS)])


def test_the_command_as_typed_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(sys, "argv", ["somewhere/pytest", "a"])
    assert closing_lines([point(0.1), point(1)]).endswith("with repeats=5 does.")
