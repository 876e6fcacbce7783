"""python -m benchmarks.tracking_load with a server, which is here the one that all tests of this folder share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import tracking_load
from benchmarks.load_writer import KINDS
from benchmarks.tracking_load import main
from tests.support.team_server import TeamServer

RUNS, VALUES = 6, 42


@pytest.mark.slow
def test_it_loses_nothing_of_what_writers_write_at_once(
    server: TeamServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[tuple[int, tuple[()]]] = []

    @contextmanager
    def running(workers: int, settings: tuple[()]) -> Iterator[TeamServer]:
        started.append((workers, settings))
        yield server

    monkeypatch.setattr(tracking_load, "team_server", running)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "set again when the test is over")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "set again when the test is over")
    typed = ["--writers", "3", "--runs", f"{RUNS}", "--points", str(VALUES), "--workers", "1"]
    assert main([*typed, "--json", str(tmp_path / "load.json")]) == 0
    assert f"{RUNS} runs by 3 writers in " in capsys.readouterr().out
    (figures,) = json.loads((tmp_path / "load.json").read_text())["loads"]
    assert (figures["writers"], figures["runs"], figures["errors"], figures["reasons"]) == (3, RUNS, 0, {})
    assert (figures["workers"], started) == (1, [(1, ())])
    assert {kind: told["calls"] for kind, told in figures["calls"].items()} == dict.fromkeys(KINDS, RUNS)
    assert figures["read_back"] == {
        "runs_read": RUNS, "values_read": RUNS * VALUES, "lost": 0, "double": 0, "examples": []
    }  # fmt: skip
    assert figures["database_bytes_per_run"] > 0
    assert figures["processor_seconds"]["server"] > 0
