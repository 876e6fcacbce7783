"""Which keys take whole numbers only."""

from __future__ import annotations

import pytest

from pipeline.config.whole import takes_whole_numbers


@pytest.mark.parametrize(
    "key", ["seed", "model.hidden_size", "training.batch_size", "training.epochs", "optimizer.memory"]
)
def test_keys_of_whole_numbers(key: str) -> None:
    assert takes_whole_numbers(key) is True


@pytest.mark.parametrize("key", ["optimizer.learning_rate", "optimizer.momentum", "training.l2", "schedule.every"])
def test_keys_of_any_numbers(key: str) -> None:
    assert takes_whole_numbers(key) is False


@pytest.mark.parametrize("key", ["study", "optimizer.name", "force", "model.no_such_key", "model", "experiment"])
def test_keys_without_numbers(key: str) -> None:
    assert takes_whole_numbers(key) is None
