"""One item that MLflow refuses, that was deleted there, or that cannot be drawn costs only itself."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image

from pipeline.config.schema import Tracking
from pipeline.points.point import Point
from pipeline.points.reading import read_point
from pipeline.rebuild import rebuild
from pipeline.sweep import command_record as record_module
from pipeline.sweep import training as training_module
from pipeline.system import sharing
from pipeline.system.errors import LabError
from pipeline.tracking.internals import hard_delete_model, hard_delete_run
from pipeline.tracking.limits import LONGEST_NAME
from pipeline.tracking.pages import presentation
from pipeline.tracking.store import store_uri
from pipeline.tracking.sync import sweep as sync_module
from pipeline.tracking.sync import thread as thread_module
from pipeline.tracking.sync.complete import ESSENTIAL, MISSING_PARTS, NOTHING
from pipeline.tracking.tracker import Tracker
from pipeline.tracking.transfer import fetch_point
from tests.support.swept import at_epoch, begun, by_name, in_mlflow, on_disk, rates, statuses, swept, told_once

pytestmark = pytest.mark.usefixtures("plain_runs")
LOCAL = Tracking(name="local", uri=None)
STUDY = "line_y2x"
SWEEP = "line_y2x numpy"
NAMES = ("learning_rate=0.1", "learning_rate=0.01")
# As MLflow's list has the first of them.
FIRST = "lr 0.1"
FINISHED = dict.fromkeys((*NAMES, SWEEP), "FINISHED")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_module, "SYNC_SECONDS", 0.05)
    monkeypatch.setattr(thread_module, "RETRY_SECONDS", 0.05)


def grid() -> list[Any]:
    return rates("0.1", "0.01")


def delete_run(project: Path, name: str, forever: bool) -> None:
    client = MlflowClient(store_uri(project))
    run_id = by_name(project)[name].info.run_id
    client.delete_run(run_id)
    if forever:
        hard_delete_run(client, run_id)


def delete_experiment(project: Path, forever: bool) -> None:
    client = MlflowClient(store_uri(project))
    experiment = client.get_experiment_by_name(STUDY)
    assert experiment is not None
    models = client.search_logged_models([experiment.experiment_id])
    client.delete_experiment(experiment.experiment_id)
    if forever:
        for model in models:
            hard_delete_model(client, model.model_id)
        purge = client._tracking_client.store._hard_delete_experiment  # noqa: SLF001 - as `mlflow gc` does
        purge(experiment.experiment_id)


DELETIONS: dict[str, Callable[[Path, bool], None]] = {
    "point": lambda project, forever: delete_run(project, NAMES[0], forever),
    "sweep": lambda project, forever: delete_run(project, SWEEP, forever),
    "experiment": delete_experiment,
}


def check_whole(project: Path) -> None:
    """Check that MLflow has both points, each once and whole, below the run of the sweep."""
    content = in_mlflow(project)
    assert {name: run["status"] for name, run in content.items()} == FINISHED
    assert {content[name]["parent"] for name in NAMES} == {SWEEP}
    for name in NAMES:
        run = by_name(project)[name]
        told_once(project, read_point(project / ".points" / run.data.tags["signature"], name), run.info.run_id)
        assert run.data.tags[MISSING_PARTS] == NOTHING
        assert "metrics.csv" in content[name]["artifacts"]


# --- deleted in MLflow


@pytest.mark.parametrize("forever", [False, True], ids=["in the trash", "for good"])
@pytest.mark.parametrize("what", DELETIONS)
def test_what_was_deleted_after_training_is_written_again(
    project: Path, capsys: pytest.CaptureFixture[str], what: str, forever: bool
) -> None:
    swept(project, grid())
    DELETIONS[what](project, forever)
    capsys.readouterr()
    rebuild(LOCAL, project, project / "results")
    check_whole(project)
    told = "the MLflow experiment line_y2x had been deleted; it and its runs were restored."
    assert (told in capsys.readouterr().err) == (what == "experiment" and not forever)


@pytest.mark.parametrize("forever", [False, True], ids=["in the trash", "for good"])
@pytest.mark.parametrize("what", DELETIONS)
def test_what_is_deleted_during_training_is_written_again(
    project: Path, monkeypatch: pytest.MonkeyPatch, what: str, forever: bool
) -> None:
    """Both points train in one stack; the deletion comes after MLflow has their runs, and before they are complete."""
    opened = threading.Event()
    real = sync_module.Sync.send

    def send(self: sync_module.Sync, ended: Any = None) -> None:
        real(self, ended)
        # Not a sync that an earlier test has left running.
        if self.root == project and self.points and all(point.run_id for point in self.points):
            opened.set()

    def delete() -> None:
        assert opened.wait(60)
        DELETIONS[what](project, forever)

    monkeypatch.setattr(sync_module.Sync, "send", send)
    at_epoch(monkeypatch, 9, delete)
    swept(project, grid())
    check_whole(project)


def test_an_experiment_that_the_user_may_not_restore_is_named_with_the_command(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise MlflowException("API request to endpoint /api failed with error code 403 != 200. Response body: 'no'")

    swept(project, grid())
    delete_experiment(project, forever=False)
    monkeypatch.setattr(MlflowClient, "restore_experiment", refuse)
    with pytest.raises(LabError) as refusal:
        rebuild(LOCAL, project, project / "results")
    command = f"MLFLOW_TRACKING_URI={store_uri(project)} mlflow experiments restore --experiment-id "
    assert command in str(refusal.value)
    assert "does not have permission (403)" in str(refusal.value)


# --- refused by MLflow


@pytest.mark.parametrize(
    ("method", "part", "fewest"),
    [("log_batch", "metrics", 20), ("log_inputs", "data set", 0)],
)
def test_a_call_that_is_refused_costs_only_that_part_of_that_point(
    project: Path, monkeypatch: pytest.MonkeyPatch, method: str, part: str, fewest: int
) -> None:
    """`fewest`: the number of metrics of the calls that are refused."""
    real = getattr(MlflowClient, method)

    def call(self: MlflowClient, run_id: str, *arguments: Any, **named: Any) -> Any:
        if len(named.get("metrics", ())) >= fewest and self.get_run(run_id).info.run_name == FIRST:
            raise MlflowException("this batch is not to our taste", error_code=3)
        return real(self, run_id, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, method, call)
        with pytest.raises(LabError) as refusal:
            swept(project, grid())
        said = str(refusal.value)
        assert f"the {part} of learning_rate=0.1" in said
        assert "this batch is not to our taste" in said
        assert "then run python -m pipeline.rebuild" in said
        assert "Traceback" not in said
        # Half a record must not read as a whole one.
        ended = "FINISHED"
        if part in ESSENTIAL:
            ended = "FAILED"
        assert statuses(project) == FINISHED | {NAMES[0]: ended}
        runs = by_name(project)
        assert "this batch is not to our taste" in runs[NAMES[0]].data.tags[MISSING_PARTS]
        assert runs[NAMES[1]].data.tags[MISSING_PARTS] == NOTHING
        assert len(on_disk(project)) == 2
        with pytest.raises(LabError, match="not to our taste"):
            rebuild(LOCAL, project, project / "results")
    assert rebuild(LOCAL, project, project / "results") == [(SWEEP, 2, 1)]
    check_whole(project)


def test_files_that_cannot_be_shared_with_a_local_store_cost_only_those_of_that_point(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sharing.share_folder

    def share(source: Path, destination: Path) -> None:
        if destination.parent.name == by_name(project)[NAMES[0]].info.run_id:
            raise PermissionError(errno.EACCES, "Permission denied", str(destination))
        real(source, destination)

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.tracking.tracker.share_folder", share)
        with pytest.raises(LabError) as refusal:
            swept(project, grid())
        said = str(refusal.value)
        assert "the files of learning_rate=0.1" in said
        assert "Permission denied" in said
        assert "Traceback" not in said
        assert statuses(project) == FINISHED | {NAMES[0]: "FAILED"}
        runs = by_name(project)
        assert "Permission denied" in runs[NAMES[0]].data.tags[MISSING_PARTS]
        assert runs[NAMES[1]].data.tags[MISSING_PARTS] == NOTHING
        assert len(on_disk(project)) == 2
    rebuild(LOCAL, project, project / "results")
    check_whole(project)


def test_a_run_that_cannot_be_made_leaves_the_others(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = MlflowClient.create_run

    def create(self: MlflowClient, *arguments: Any, **named: Any) -> Any:
        if named["run_name"] in (FIRST, SWEEP):
            raise MlflowException("no such run here", error_code=3)
        return real(self, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "create_run", create)
        with pytest.raises(LabError, match=f"the run of {SWEEP}, the run of learning_rate=0.1 could not be sent"):
            swept(project, grid())
        assert statuses(project) == {NAMES[1]: "FINISHED"}
    rebuild(LOCAL, project, project / "results")
    check_whole(project)


def test_a_server_that_refuses_everything_is_a_notice_and_not_a_list_of_points(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*arguments: Any, **named: Any) -> None:
        raise MlflowException("API request to endpoint /api failed with error code 500 != 200. Response body: 'no'")

    for name in ("log_batch", "create_run", "get_experiment"):
        monkeypatch.setattr(MlflowClient, name, away)
    swept(project, grid())
    shown = capsys.readouterr().err
    assert shown.count("MLflow sync is incomplete: 2 of 2 points are pending.") == 1
    assert "the server answered 500 Internal Server Error to /api" in shown


def test_names_that_no_store_takes_are_shortened(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "u" * 300)
    tracker = Tracker(LOCAL, "study", project)
    run_id = tracker.start_run("n" * 300, {"overrides": "\udcff\0" + "o" * 9000})
    run = MlflowClient(store_uri(project)).get_run(run_id)
    assert run.info.run_name == "n" * LONGEST_NAME
    assert run.info.user_id == "u" * LONGEST_NAME
    assert run.data.tags["overrides"].startswith("\\udcff\\0ooo")
    assert len(run.data.tags["overrides"]) == 8000


# --- errors of our own


def test_images_that_cannot_be_drawn_cost_only_themselves(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def images(point: Point, apart: Any) -> Iterator[tuple[str, int, Image.Image]]:
        yield "fit", 0, Image.new("RGB", (8, 8))
        with apart("weights images"):
            raise ZeroDivisionError("bars of no height")

    monkeypatch.setattr(presentation, "_images", images)
    sweep = begun(project, grid())
    with pytest.raises(LabError) as refusal:
        sweep.finish()
    said = str(refusal.value)
    assert "the weights images of learning_rate=0.1, the weights images of learning_rate=0.01 could not be sent" in said
    assert said.count("Traceback") == 1
    assert statuses(project) == FINISHED
    for name in NAMES:
        artifacts = in_mlflow(project)[name]["artifacts"]
        assert any(file.startswith("images/fit") for file in artifacts)
        assert "ZeroDivisionError" in by_name(project)[name].data.tags[MISSING_PARTS]
    # Such a point is whole for another machine.
    shutil.rmtree(project / ".points")
    assert all(fetch_point(Tracker(LOCAL, STUDY, project), job) for job in sweep.jobs.values())
    assert len(on_disk(project)) == 2


def test_a_figure_that_cannot_be_drawn_costs_no_point_and_no_other_figure(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def point_figures(point: Point, apart: Any) -> Iterator[tuple[str, Any]]:
        with apart("weights"):
            if point.name == NAMES[0]:
                raise ZeroDivisionError("bars of no height")
        yield "curves", "sketch"

    def sweep_figures(points: Sequence[Point], apart: Any) -> Iterator[tuple[str, Figure]]:
        if points:
            raise LookupError("no such rate")
        yield "none", Figure()

    monkeypatch.setattr(training_module, "point_figures", point_figures)
    monkeypatch.setattr(record_module, "sweep_figures", sweep_figures)
    with pytest.raises(LabError) as refusal:
        swept(project, grid())
    said = str(refusal.value)
    assert "the figure weights of learning_rate=0.1 could not be drawn. This is an error of this program" in said
    assert "the figures of line_y2x numpy could not be drawn. This is an error of this program" in said
    assert said.count("Traceback") == 2
    assert len(on_disk(project)) == 2
    assert len(list(project.glob(".points/[0-9a-f]*/plots/curves.png"))) == 2
    assert "pending" not in capsys.readouterr().err
    check_whole(project)


def test_an_error_of_our_own_in_the_whole_sync_is_not_called_a_server_that_is_away(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise KeyError("an error of our own")

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.tracking.sync.connection.kill_orphans", broken)
        with pytest.raises(LabError, match=r"This is an error of this program(.|\n)*2 of 2 points are pending"):
            swept(project, grid())
    swept(project, grid())
    check_whole(project)
