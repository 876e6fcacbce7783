"""Two clones on one server: nobody's run is changed, deleted or called dead by the other."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import Run
from omegaconf import OmegaConf

from pipeline.config.schema import Tracking
from pipeline.points.clone import clone_id
from pipeline.points.sweep_record import SweepRecord
from pipeline.rebuild import rebuild
from pipeline.remove import task as remove
from pipeline.system.processes import STALE_SECONDS, owner
from pipeline.tracking import ownership
from pipeline.tracking.ownership import CLONE, heartbeat, kill_orphans
from pipeline.tracking.runs import find_sweep, open_sweep
from pipeline.tracking.sync.sweep import Sync
from pipeline.tracking.tracker import Tracker
from tests.support.flaky_server import server_thread
from tests.support.swept import Request, full_name, rates, runs_of, swept

pytestmark = pytest.mark.usefixtures("plain_runs")
ELSEWHERE = json.dumps({"host": "elsewhere", "process": 1, "started": 0.0, "ticks": 1, "place": "elsewhere"})


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[str]:
    with server_thread(tmp_path_factory.mktemp("server"), empty_store) as port:
        yield f"http://127.0.0.1:{port}"


def on_server(uri: str, study: str, *more: str) -> list[Request]:
    common = ["tracking=server", f"tracking.uri={uri}", f"study={study}", *more]
    return rates("0.1", "0.01", more=common)


def record(study: str, uri: str) -> SweepRecord:
    return SweepRecord("0" * 16, study, "numpy", True, "command", Tracking(name="server", uri=uri), {}, started=0)


def of(clone: Path, study: str, uri: str) -> dict[str, Run]:
    """Return the runs of a clone by name."""
    return {full_name(run): run for run in runs_of(clone, study, uri) if run.data.tags.get(CLONE) == clone_id(clone)}


def ids(runs: dict[str, Run]) -> dict[str, tuple[str, str]]:
    return {name: (run.info.run_id, run.info.status) for name, run in runs.items()}


@pytest.mark.slow
def test_two_clones_that_train_the_same_points_both_keep_their_runs(tmp_path: Path, uri: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    tracking = Tracking(name="server", uri=uri)
    for clone in (one, two):
        clone.mkdir()
        swept(clone, on_server(uri, "both", "results=results/both/numpy"))
    before = [ids(of(clone, "both", uri)) for clone in (one, two)]
    for runs in before:
        assert sorted(runs) == ["both numpy", "learning_rate=0.01", "learning_rate=0.1"]
        assert {status for _, status in runs.values()} == {"FINISHED"}
    for clone in (one, two, one):
        assert rebuild(tracking, clone, clone / "results") == [("both numpy", 2, 0)]
    assert [ids(of(clone, "both", uri)) for clone in (one, two)] == before
    # Each point hangs below the sweep of its own clone, and the views show both.
    for clone, runs in zip((one, two), before, strict=True):
        points = [run for name, run in of(clone, "both", uri).items() if name != "both numpy"]
        assert {run.data.tags["mlflow.parentRunId"] for run in points} == {runs["both numpy"][0]}
        assert {run.data.tags["lab.newest"] for run in points} == {"true"}
    # Training again replaces the runs of this clone only.
    swept(two, on_server(uri, "both", "force=true"))
    assert ids(of(one, "both", uri)) == before[0]
    again = ids(of(two, "both", uri))
    assert sorted(again) == sorted(before[1])
    assert all(again[name] != before[1][name] for name in again if name != "both numpy")
    # A third clone that restores the results of the first uses its runs, and makes none.
    three = tmp_path / "three"
    three.mkdir()
    assert rebuild(tracking, three, one / "results") == [("both numpy", 2, 0)]
    assert of(three, "both", uri) == {}
    assert ids(of(one, "both", uri)) == before[0]
    # Another sweep hides the earlier points of its own clone.
    swept(two, on_server(uri, "both")[:1] + rates("0.5", more=["tracking=server", f"tracking.uri={uri}", "study=both"]))
    points = [of(clone, "both", uri)["learning_rate=0.01"] for clone in (one, two)]
    assert [run.data.tags["lab.newest"] for run in points] == ["true", "false"]


@pytest.mark.slow
def test_deleting_a_study_leaves_the_runs_of_other_clones(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for clone in (one, two):
        clone.mkdir()
        swept(clone, on_server(uri, "deleted")[:1])
    tracker = Tracker(Tracking(name="server", uri=uri), "deleted", two)
    # Runs of an earlier version: of an attempt that this clone has, and of an unknown one.
    attempt = of(two, "deleted", uri)["learning_rate=0.1"].data.tags["lab.attempt"]
    tracker.start_run("old", {"lab.role": "point", "lab.attempt": attempt})
    tracker.start_run("unknown", {"lab.role": "point", "lab.attempt": "unknown"})
    monkeypatch.setattr("pipeline.remove.PROJECT", two)
    asked = {"tracking": {"name": "server", "uri": uri}, "backend": None, "study": "deleted", "confirm": True}
    capsys.readouterr()
    remove(OmegaConf.create(asked))
    assert "\nkept: 2 MLflow runs of other clones of this project\n" in capsys.readouterr().out
    assert [run.run_id for run in tracker.runs() if CLONE in run.tags] == [
        run.info.run_id for run in of(one, "deleted", uri).values()
    ]
    assert [run.tags["mlflow.runName"] for run in tracker.runs() if CLONE not in run.tags] == ["unknown"]


@pytest.fixture
def tracker(uri: str, tmp_path: Path) -> Tracker:
    return Tracker(Tracking(name="server", uri=uri), tmp_path.name, tmp_path)


def status(tracker: Tracker) -> dict[str, str]:
    return {run.run_id: run.status for run in tracker.runs()}


def test_the_sweep_of_another_clone_is_not_taken_over(tracker: Tracker, uri: str) -> None:
    sweep = record("study", uri)
    first = open_sweep(tracker, sweep, owner(), "here", Path("missing"))
    other = open_sweep(tracker, sweep, owner(), "there", Path("missing"))
    assert first.run_id != other.run_id
    assert open_sweep(tracker, sweep, owner(), "here", Path("missing")) == first
    found = find_sweep(tracker, sweep, "there")
    assert found is not None
    assert found.run_id == other.run_id
    assert find_sweep(tracker, sweep, "nowhere") is None


def test_the_sweep_of_an_earlier_version_is_continued_unless_it_may_be_running(tracker: Tracker, uri: str) -> None:
    sweep = record("study", uri)
    old = tracker.start_run("old", {"lab.role": "sweep", "lab.sweep": sweep.key})
    assert find_sweep(tracker, sweep, "here") is None
    tracker.end_run(old, "KILLED")
    assert open_sweep(tracker, sweep, owner(), "here", Path("missing")).run_id == old
    assert find_sweep(tracker, sweep, "there") is None


def test_a_heartbeat_of_the_sweep_counts_for_its_points(tracker: Tracker) -> None:
    """A point shows its life once, when it begins, before its sweep shows the life of all."""
    stale = str(int((time.time() - 2 * STALE_SECONDS) * 1000))
    runs = {}
    for name, beat in (("living", heartbeat()["lab.heartbeat"]), ("dead", stale)):
        runs[name] = tracker.start_run(name, {"lab.role": "sweep", "lab.owner": ELSEWHERE, "lab.heartbeat": beat})
        tags = {"lab.role": "point", "lab.owner": ELSEWHERE, "mlflow.parentRunId": runs[name], "lab.heartbeat": stale}
        runs[f"point of {name}"] = tracker.start_run(name, tags)
    kill_orphans(tracker)
    found = status(tracker)
    assert [found[run_id] for run_id in runs.values()] == ["RUNNING", "RUNNING", "KILLED", "KILLED"]


def test_a_sweep_that_was_out_of_reach_for_long_lives_again_with_its_next_heartbeat(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile another machine has set its run to KILLED."""
    sync = Sync(tmp_path, record("away", uri), owner())
    sync.send()
    tracker = Tracker(sync.sweep.tracking, "away", tmp_path)
    (run,) = tracker.runs()
    assert "lab.heartbeat" in run.tags
    tracker.end_run(run.run_id, "KILLED")
    monkeypatch.setattr(ownership, "HEARTBEAT_SECONDS", 0.0)
    sync.send()
    assert status(tracker) == {run.run_id: "RUNNING"}
