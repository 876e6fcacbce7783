"""What the process of a mirror makes of what it is told."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import mirror_service
from pipeline.backends.shared.history import History
from pipeline.mirror_service import DistantJob
from pipeline.points.folder import PointFolder
from tests.support.trained import config

SIGNATURE = "0" * 16


def told(state: str, rows: int, error: str | None = None) -> dict[str, Any]:
    return {"state": state, "rows": rows, "run": {"attempt": "1"}, "error": error}


@pytest.fixture
def training(tmp_path: Path) -> PointFolder:
    folder = PointFolder(tmp_path, SIGNATURE)
    folder.begin()
    return folder


def job(root: Path) -> DistantJob:
    return DistantJob(config("experiment=line_y2x"), [], "it", SIGNATURE, PointFolder(root, SIGNATURE))


def test_metrics_are_read_as_far_as_a_checkpoint_counts_on_them(tmp_path: Path, training: PointFolder) -> None:
    history, distant = History(), job(tmp_path)
    for step in range(3):
        history.record(step, {"train/loss": 0.1 + step, "gradient_norm": 1 / 3})
        training.append(history.metrics[training.rows :])
        distant.update(told("training", 2 * step + 1))
        assert distant.history.metrics == history.metrics[: 2 * step + 1]
        assert distant.folder.kept == 2 * step + 1
    distant.update(told("killed", 6))
    assert distant.history.metrics == history.metrics
    assert distant.state == "killed"


def test_metrics_of_a_folder_that_is_in_its_place_already_come_with_the_point(
    tmp_path: Path, training: PointFolder
) -> None:
    distant = job(tmp_path)
    training.path.rename(training.final)
    distant.update(told("training", 5))
    distant.update(told("complete", 5))
    assert (distant.state, distant.folder.kept, distant.history.metrics) == ("complete", 0, [])


def test_errors_keep_their_words(tmp_path: Path) -> None:
    distant, words = job(tmp_path), "No room.\n  to do:    make room"
    distant.update(told("failed", 0, words))
    assert str(distant.error) == words
    assert distant.run == {"attempt": "1"}


def test_a_message_that_breaks_off_is_not_taken_and_the_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[dict[str, Any]] = []

    def ended(code: int) -> None:
        taken.append({"ended": code})

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}\n{"end": true')))
    monkeypatch.setattr(os, "_exit", ended)
    mirror_service._listen(taken.append)
    assert taken == [{"a": 1}, {"ended": 1}]
