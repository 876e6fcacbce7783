"""The file of breaking rates: which points a row is about, and what happens to files that are damaged."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pipeline.points.breaking_rates import (
    BreakingRate,
    add_breaking_rates,
    file_for,
    key_of,
    network_of,
    read_breaking_rates,
    training_of,
)
from pipeline.system.errors import DamagedError
from tests.support.trained import config

ROW = BreakingRate("a", 1, None, False, "sgd", 2.0, 1.0)
BITS = ("data=three_bits", "optimizer=sgd", "model.hidden_size=4")


@pytest.mark.parametrize(
    "override",
    [
        *(
            "optimizer.learning_rate=7",
            "training.epochs=3",
            "seed=5",
            "repeats=3",
            "study=other",
            "results=results/x/y",
        ),
        *("backend=keras", "threads=1", "recording.curvature=true", "curvature.rows=7", "gradient=finite_difference"),
        *("breaking_rate=true", "force=true", "question=why"),
    ],
)
def test_what_does_not_change_the_loss_at_the_start_is_another_row_of_the_same_network(override: str) -> None:
    assert network_of(config(*BITS, override)) == network_of(config(*BITS))


@pytest.mark.parametrize(
    "override",
    [
        *("model.hidden_size=5", "model.hidden_activation=tanh", "training.batch_size=2", "training.l2=0.1"),
        *("optimizer=adam", "dtype=float64", "loss=huber", "data=two_bits", "training.clip_norm=1"),
    ],
)
def test_what_changes_the_loss_or_the_method_is_another_network(override: str) -> None:
    assert network_of(config(*BITS, override)) != network_of(config(*BITS))


def test_rows_are_read_as_they_were_written_and_replaced_by_network_and_seed(tmp_path: Path) -> None:
    file = tmp_path / "new" / "breaking_rates.json"
    assert read_breaking_rates(file) == {}
    seen = replace(ROW, training="numpy", holds=0.9, breaks=1.1)
    lion = BreakingRate("b", 1, 5, True, "lion", None, None, "no reason")
    add_breaking_rates(file, [ROW, lion])
    add_breaking_rates(file, [seen, replace(ROW, seed=2)])
    assert read_breaking_rates(file) == {
        ("a", 1, None): seen,
        ("b", 1, 5): lion,
        ("a", 2, None): replace(ROW, seed=2),
    }
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    # A prediction alone leaves what was seen.
    add_breaking_rates(file, [replace(ROW, predicted=2.0)])
    assert read_breaking_rates(file)["a", 1, None] == replace(seen, predicted=2.0)


def test_what_was_seen_depends_on_how_it_was_trained() -> None:
    shown = config(*BITS)
    assert training_of(config(*BITS, "optimizer.learning_rate=7", "recording.snapshots=9")) == training_of(shown)
    for override in ("training.epochs=3", "backend=keras", "gradient=finite_difference", "model.hidden_size=5"):
        assert training_of(config(*BITS, override)) != training_of(shown)


def test_repeats_of_other_splits_are_one_network() -> None:
    repeats = config("data=digits", "optimizer=sgd", "repeats=2", "repeats_split=true").seeds()
    assert len({network_of(one) for one in repeats}) == 1
    assert len({key_of(one) for one in repeats}) == 2


def test_the_file_lies_beside_the_results_of_both_backends() -> None:
    folders = Path("results/bits/numpy"), Path("results/bits/keras")
    assert {file_for(folder) for folder in folders} == {Path("results/bits/breaking_rates.json")}


@pytest.mark.parametrize(
    "content",
    [
        *("", "[", "null", "{}", '[{"network": "a"}]', json.dumps([{"network": 1}])),
        json.dumps([asdict(ROW) | {"seed": "x"}]),
        json.dumps([asdict(ROW) | {"more": 1}]),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, content: str) -> None:
    file = tmp_path / "breaking_rates.json"
    file.write_text(content)
    with pytest.raises(DamagedError, match=r"run python -m pipeline\.predict again") as told:
        read_breaking_rates(file)
    assert str(file) in str(told.value)
    with pytest.raises(DamagedError):
        add_breaking_rates(file, [ROW])
    assert file.read_text() == content
