"""What a person reads in a pipe, where there is no bar."""

from __future__ import annotations

import pytest

from pipeline import progress


def test_plain_lines_tell_point_epoch_and_loss(
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


def test_columns_are_aligned() -> None:
    assert progress.aligned([["rate", "loss"], ["0.001", ""], ["1", "2"]]) == "rate   loss\n0.001\n1      2"
