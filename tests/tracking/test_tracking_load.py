"""The load on a tracking server: failed requests are counted, and a loss would be detected.

test_load_command.py tests that nothing is lost when several processes write.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import tracking_load
from benchmarks.load_check import check_list, check_runs
from benchmarks.load_writer import CREATE, Load, Report, values_of, write
from benchmarks.tracking_load import main, percentile, prepare_load, summed_up
from tests.support.flaky_server import Fault, FlakyProxy, server_thread

RUNS, VALUES = 6, 42


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def port(folder: Path, empty_store: Path) -> Iterator[int]:
    with server_thread(folder, empty_store) as number:
        yield number


@pytest.fixture(autouse=True)
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What writers and readers of this process set for themselves is undone after the test."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def load(port: int) -> Load:
    return prepare_load(f"http://127.0.0.1:{port}", VALUES)


def changed(folder: Path, statement: str, *values: object) -> None:
    """Change the server's store behind its back."""
    with closing(sqlite3.connect(folder / "server.db", timeout=60)) as store, store:
        assert store.execute(statement, values).rowcount > 0


@pytest.mark.parametrize("fault", ["error", "drop", "lose"])
def test_calls_that_fail_are_counted_and_what_was_answered_is_there(port: int, fault: Fault) -> None:
    proxy = FlakyProxy(port)
    try:
        load = prepare_load(proxy.uri, VALUES)
        opened = proxy.asked + 1  # the writer asks for its experiment
        proxy.faults = lambda number: fault if number > opened and number % 5 == 0 else "none"
        report = write(load, range(RUNS))
        asked = proxy.asked
        proxy.faults = lambda number: "none"
        figures = summed_up(load, [report])
        assert figures["errors"] == report.errors.total() == len(range(opened + 5 - opened % 5, asked + 1, 5)) > 0
        assert sum(figures["reasons"].values()) == figures["errors"]
        assert figures["runs"] == RUNS - figures["errors"]
        found = check_runs(load, report.written)
        assert (found.lost, found.double) == ([], [])
        listed = check_list(load, report.written, report.errors[CREATE])
        assert (listed.lost, listed.double) == ([], [])
    finally:
        proxy.close()


def test_a_server_that_fails_half_of_the_requests(port: int) -> None:
    proxy = FlakyProxy(port)
    try:
        load = prepare_load(proxy.uri, VALUES)
        opened = proxy.asked + 1
        proxy.faults = lambda number: "error" if number > opened and number % 2 else "none"
        report = write(load, range(RUNS))
        assert report.errors.total() == RUNS == len(report.reasons) * RUNS
        assert summed_up(load, [report])["runs"] == 0
    finally:
        proxy.close()


@pytest.fixture
def written(load: Load) -> Report:
    return write(load, range(2))


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM metrics WHERE run_uuid = ? AND step = 3 AND key = 'test/loss'", "1 values of test/loss of run 1"),
        (
            "UPDATE metrics SET value = value + 1 WHERE run_uuid = ? AND key = 'train/loss'",
            "11 values of train/loss of",
        ),
        ("DELETE FROM params WHERE run_uuid = ? AND key = 'seed'", "parameters of run 1"),
        ("DELETE FROM tags WHERE run_uuid = ? AND key = 'diagnosis'", "tags of run 1"),
        ("UPDATE runs SET status = 'RUNNING' WHERE run_uuid = ?", "the end of run 1"),
        ("UPDATE runs SET artifact_uri = 'mlflow-artifacts:/0' WHERE run_uuid = ?", "the artifact of run 1"),
    ],
)
def test_what_is_lost_is_seen(folder: Path, load: Load, written: Report, statement: str, message: str) -> None:
    changed(folder, statement, written.written[1].run_id)
    found = check_runs(load, written.written)
    assert [text.startswith(message) for text in found.lost] == [True]
    assert found.double == []


def test_a_value_that_is_there_twice_is_seen(folder: Path, load: Load, written: Report) -> None:
    changed(
        folder,
        "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) "
        "SELECT key, value, timestamp + 1, run_uuid, step, is_nan FROM metrics WHERE run_uuid = ? AND step = 3 "
        "AND key = 'train/loss'",
        written.written[0].run_id,
    )
    found = check_runs(load, written.written)
    assert (found.lost, found.double) == ([], ["values of train/loss of run 0"])


def test_runs_that_are_not_listed_and_runs_that_nobody_asked_for_are_seen(
    folder: Path, load: Load, written: Report
) -> None:
    assert check_list(load, written.written[:1], 0).double == ["1 runs that nobody asked for"]
    assert check_list(load, written.written[:1], 1).double == []  # a call that failed may have made it
    changed(folder, "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = ?", written.written[1].run_id)
    assert check_list(load, written.written, 0).lost == ["run 1"]


def test_values_differ_between_runs_and_have_their_own_steps() -> None:
    first, second = values_of(1, 1000), values_of(2, 1000)
    assert len({(m.name, m.step) for m in first}) == len({m.timestamp for m in first}) == 1000
    assert {m.value for m in first} & {m.value for m in second} == set()


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2), (0.95, 4), (0.75, 3), (1.0, 4), (0.0, 1)])
def test_percentiles(share: float, expected: float) -> None:
    assert percentile([4, 1, 3, 2], share) == expected


def test_a_server_that_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--uri", "http://127.0.0.1:9", "--runs", "1", "--writers", "1"]) == 1
    assert "does not answer" in capsys.readouterr().err


def test_a_machine_without_postgresql(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tracking_load, "programs", lambda: None)
    assert main(["--runs", "1"]) == 1
    assert "--uri URI" in capsys.readouterr().err


def test_a_sweep_has_a_row_for_each_number_of_workers_and_writers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(uri: str, writers: int, runs: int, values: int, server: object) -> tracking_load.Figures:
        figures = {"runs_per_second": 2.5, "values_per_second": 20, "calls": {"values": {"p50": 1.5, "p95": 2.5}}}
        return figures | {"errors": 0, "read_back": {"lost": 0, "double": 0}, "asked": (uri, writers, runs, values)}

    class Server:
        uri = "there"

        def __enter__(self) -> Server:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr(tracking_load, "own_server", lambda workers: Server())
    monkeypatch.setattr(tracking_load, "measure", measured)
    monkeypatch.setattr(tracking_load, "WRITERS", (1, 3))
    monkeypatch.setattr(tracking_load, "WORKERS", (1, 2))
    measurements = tracking_load.sweep(2, 8)
    asked = [("there", 1, 2, 8), ("there", 3, 3, 8)]  # no fewer runs than writers
    assert [(one["workers"], one["asked"]) for one in measurements] == [
        (workers, ask) for workers in (1, 2) for ask in asked
    ]
    rows = capsys.readouterr().out.splitlines()[2:]
    assert rows[0] == "| 1 | 1 | 2.5 | 20 | 1.5 | 2.5 | 0 | 0 | 0 |"
    assert [row.split(" | ")[:2] for row in rows] == [["| 1", "1"], ["| 1", "3"], ["| 2", "1"], ["| 2", "3"]]
