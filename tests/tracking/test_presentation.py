"""The content that a person sees in MLflow: each item exists once, and agrees with the folder of the point."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from PIL import Image

from pipeline.backends.shared.history import History
from pipeline.config.schema import Tracking
from pipeline.drawing.layout import write_png
from pipeline.points.point import POINTS, Point
from pipeline.points.reading import RunRecord
from pipeline.points.sweep_record import SweepPoint, SweepRecord, sweep_folder, write_sweep
from pipeline.studies.images.stepped import image_keys, stepped_images
from pipeline.studies.kinds import headline, point_figures
from pipeline.studies.reach import judged_together
from pipeline.system.failures import Parts
from pipeline.tracking.models import log_models
from pipeline.tracking.pages.labels import labels
from pipeline.tracking.pages.presentation import (
    LOGGED_IMAGES,
    image_files,
    point_tags,
    present_diagnosis,
    present_point,
    present_study,
    present_sweep,
)
from pipeline.tracking.pages.views import view_tags
from pipeline.tracking.store import store_uri
from pipeline.tracking.sync.parent import ParentRun
from pipeline.tracking.tracker import Tracker
from tests.support.damage import MACHINE, fail_at
from tests.support.maps import map_point
from tests.support.swept import artifacts
from tests.support.trained import config, sweep, trained

pytestmark = pytest.mark.usefixtures("sketched")
LOCAL = Tracking(name="local", uri=None)
ENDED = 1_700_000_000_123
THREE_BITS = config("experiment=three_bits", "optimizer.learning_rate=10", "model.hidden_size=4", "training.epochs=300")
TWO_BITS = config("experiment=two_bits", "training.epochs=200")
LINE = config("experiment=line_y3x", "optimizer.learning_rate=0.1", "training.epochs=40")
HOW = RunRecord("a", ["experiment=line_y3x", "seed=1"], {"data.table": "ab" * 32}, "attempt", 17, "owner")


@pytest.fixture(scope="module")
def points() -> list[Point]:
    """One that converges, one that stalls."""
    common = ("experiment=line_y3x", "recording.snapshots=4", "training.epochs=40")
    return sweep(common, [[f"optimizer.learning_rate={rate}"] for rate in (0.1, 1)])


@pytest.fixture
def tracker(project: Path) -> Tracker:
    return Tracker(LOCAL, "line_y3x", project)


def client(project: Path) -> MlflowClient:
    return MlflowClient(store_uri(project))


def record(key: str, backend: str, started: int, tracking: Tracking = LOCAL, study: str = "line_y3x") -> SweepRecord:
    return SweepRecord(key, study, backend, True, "the command", tracking, {}, started)


def presented(project: Path, tracker: Tracker, point: Point, times: int = 1) -> MlflowRun:
    run_id = tracker.start_run("a", {})
    for _ in range(times):
        parts = Parts()
        log_models(tracker.client, tracker.experiment_id, run_id, point, parts.do)
        present_point(tracker, run_id, "parent", point, HOW, parts)
        assert parts.errors == {}
    return client(project).get_run(run_id)


def test_a_run_says_why_it_ended_where_it_did(project: Path, tracker: Tracker, points: list[Point]) -> None:
    found = points[1].diagnosis
    run = presented(project, tracker, points[1])
    assert run.data.tags["diagnosis"] == "stalled (rounding)"
    assert found.evidence in run.data.tags["mlflow.note.content"]
    assert f"#/experiments/{tracker.experiment_id}/runs/parent/artifacts" in run.data.tags["mlflow.note.content"]
    logged_values = {
        key.removeprefix("diagnosis/"): v for key, v in run.data.metrics.items() if key.startswith("diagnosis/")
    }
    assert logged_values == found.values
    other = presented(project, tracker, points[0])
    # The first epoch at a low loss depends on what the others reach.
    assert "epochs_to_low_loss" in points[0].diagnosis.values
    assert "diagnosis/roughness" in other.data.metrics
    assert "diagnosis/epochs_to_low_loss" not in other.data.metrics


def test_points_get_the_diagnosis_that_they_have_beside_each_other(
    project: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of a sweep, and only those whose diagnosis changed."""
    common = ("experiment=line_y3x", "recording.snapshots=2", "training.epochs=40")
    trained_points = sweep(common, [[f"optimizer.learning_rate={rate}"] for rate in (0.1, 0.002)])
    alone = [replace(point, folder=Path(str(index))) for index, point in enumerate(trained_points)]
    assert [point.diagnosis.label for point in alone] == ["converged", "improving"]
    runs = {point.folder.name: tracker.start_run(point.name, {"lab.role": "point"}) for point in alone}
    for point in alone:
        present_diagnosis(tracker, runs[point.folder.name], None, point, HOW)
    tagged = []
    tag = tracker.tag

    def noted(run_id: str, tags: Mapping[str, str]) -> None:
        tagged.append(run_id)
        tag(run_id, tags)

    monkeypatch.setattr(tracker, "tag", noted)
    monkeypatch.setattr("pipeline.tracking.sync.parent.read_run", lambda folder: HOW)
    parent = ParentRun(project, record("a" * 16, "numpy", 5), "owner", lambda: None)
    judged = judged_together(alone)
    for _ in range(2):
        parent.send(tracker, record("a" * 16, "numpy", 5), judged, runs, newest=False)
    assert not parent.parts.errors
    assert tagged == [runs["1"]]
    tags = client(project).get_run(runs["1"]).data.tags
    assert tags["diagnosis"] == judged[1].diagnosis.label == "too slow"
    assert "behind the best of 2 trainings" in tags["mlflow.note.content"]


@pytest.mark.parametrize("times", [1, 2])
def test_images_data_set_and_models_exist_once(
    project: Path, tracker: Tracker, points: list[Point], times: int
) -> None:
    run = presented(project, tracker, points[0], times)
    files = list(artifacts(client(project), run.info.run_id, "images"))
    originals = [file for file in files if file.endswith(".png")]
    assert {Path(file).name.split("+")[0] for file in originals} == set(image_keys(points[0].config))
    assert len(originals) == len(image_keys(points[0].config)) * len(points[0].history.snapshots)
    assert run.inputs is not None
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.name == "line_y3x"
    assert json.loads(data.dataset.source) == {"uri": "conf/data/line_y3x.yaml"}
    assert data.tags[0].value == "training"
    models = client(project).search_logged_models([tracker.experiment_id])
    assert [model.source_run_id for model in models] == [run.info.run_id]


def test_a_run_has_a_short_name_its_full_one_and_a_colour() -> None:
    name = "learning_rate=0.0001 hidden_size=4"
    tags = point_tags(name, config("optimizer.learning_rate=0.0001"), labels([name]))
    assert tags == {"mlflow.runName": "lr 0.0001 · h 4", "lab.point": name, "mlflow.runColor": "#12123a"}


def on_keras(point: Point) -> Point:
    backend = config("experiment=line_y3x", "backend=keras").backend
    return replace(point, config=point.config.model_copy(update={"backend": backend}))


def test_the_experiment_keeps_the_answers_of_both_backends(
    project: Path, tracker: Tracker, points: list[Point]
) -> None:
    run_id = tracker.start_run("sweep", {})
    keras = [on_keras(point) for point in points]
    present_sweep(tracker, run_id, record("a" * 16, "numpy", 5), points, newest=True)
    present_sweep(tracker, None, record("b" * 16, "keras", 6), keras[:1], newest=True)
    present_sweep(tracker, None, record("c" * 16, "keras", 4), keras[1:], newest=False)
    note = tracker.experiment_tags()["mlflow.note.content"]
    assert f"- numpy: {headline(points)}\n- keras: {headline(points[:1])}" in note
    own = client(project).get_run(run_id).data.tags["mlflow.note.content"]
    assert own.startswith(f"{points[0].config.question}\n\n**{headline(points)}**")
    assert "`the command`" in own


def test_a_sweep_on_both_backends_has_the_answer_of_each(project: Path, tracker: Tracker, points: list[Point]) -> None:
    run_id = tracker.start_run("sweep", {})
    both = [points[0], on_keras(points[1])]
    present_sweep(tracker, run_id, record("a" * 16, "numpy", 5), both, newest=True)
    first, second = f"numpy: {headline(both[:1])}", f"keras: {headline(both[1:])}"
    assert f"- {first}\n- {second}" in tracker.experiment_tags()["mlflow.note.content"]
    own = client(project).get_run(run_id).data.tags["mlflow.note.content"]
    assert f"**{first}**" in own
    assert f"**{second}**" in own


def test_views_show_the_newest_sweep_of_the_other_backend_too(project: Path, tracker: Tracker) -> None:
    mine, theirs = (
        [config("experiment=line_y3x", f"backend={name}", f"optimizer.learning_rate={rate}") for rate in (0.1, 1)]
        for name in ("numpy", "keras")
    )
    server = Tracking(name="server", uri="http://127.0.0.1:1")
    kept = [  # the older one, one for another store, and one of another study do not count
        (record("1" * 16, "keras", 1), mine[:1]),
        (record("2" * 16, "keras", 2), theirs),
        (record("3" * 16, "keras", 3, server), mine[:1]),
        (record("4" * 16, "keras", 4, study="line_y2x"), mine[:1]),
        (record("5" * 16, "numpy", 5), mine[:1]),
    ]
    for number, (sweep_record, members) in enumerate(kept):
        for index, one in enumerate(members):
            signature = f"{number}{index}" * 8
            folder = project / POINTS / signature
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(json.dumps(one.model_dump(mode="json")))
            sweep_record.points.append(SweepPoint(str(index), signature, str(index)))
        sweep_record.points.append(SweepPoint("gone", "f" * 16, "gone"))
        write_sweep(sweep_folder(project, sweep_record.key), sweep_record)
    own = record("6" * 16, "numpy", 6)
    own.points = [SweepPoint(str(index), f"6{index}" * 8, str(index)) for index in range(2)]
    assert not present_study(tracker, project, own, mine)
    views = {key: value for key, value in tracker.experiment_tags().items() if "sharedViewState" in key}
    assert views == view_tags([*mine, *theirs], image_keys, 6)
    assert any("backends" in key for key in views)


@pytest.mark.parametrize("part", ["sweep.json", "config.json"])
def test_views_are_written_although_something_of_another_sweep_cannot_be_read(
    project: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    mine = [config("experiment=line_y3x", f"optimizer.learning_rate={rate}") for rate in (0.1, 1)]
    theirs = record("1" * 16, "keras", 1)
    theirs.points.append(SweepPoint("theirs", "a" * 16, "theirs"))
    write_sweep(sweep_folder(project, theirs.key), theirs)
    point = project / POINTS / ("a" * 16)
    point.mkdir(parents=True)
    (point / "config.json").write_text(json.dumps(mine[0].model_dump(mode="json")))
    (unread,) = (project / POINTS).rglob(part)
    fail_at(monkeypatch, unread, MACHINE[0])
    present_study(tracker, project, record("6" * 16, "numpy", 6), mine)
    views = {key: value for key, value in tracker.experiment_tags().items() if "sharedViewState" in key}
    assert views == view_tags(mine, image_keys, 6)
    assert "could not be added to the saved views" in caplog.text
    assert str(unread.parent) in caplog.text


def test_a_map_has_its_picture_and_no_models(project: Path, tracker: Tracker, tmp_path: Path) -> None:
    """The picture that its folder holds, and once more as the small one, which fills a card."""
    point = replace(map_point(), folder=tmp_path)
    (figure,) = (figure for _, figure in point_figures(point))
    (tmp_path / "plots").mkdir()
    write_png(tmp_path / "plots" / "map.png", figure)
    run = presented(project, tracker, point)
    assert run.data.tags["diagnosis"] == "map"
    assert "of 63 points converge" in run.data.tags["mlflow.note.content"]
    found = [file.path for file in client(project).list_artifacts(run.info.run_id, "images")]
    assert [(parsed(path).key, parsed(path).step) for path in found] == [("map", point.config.training.epochs)] * 2
    sizes = set()
    for path in found:
        with Image.open(client(project).download_artifacts(run.info.run_id, path)) as picture:
            sizes.add(picture.size)
    with Image.open(tmp_path / "plots" / "map.png") as picture:
        assert sizes == {picture.size}
    assert list(client(project).search_logged_models([tracker.experiment_id])) == []


class Parsed(NamedTuple):
    """What MLflow's pages read in the path of an image."""

    key: str
    step: int
    timestamp: int
    file: str
    extension: str
    compressed: bool


def parsed(path: str) -> Parsed:
    """Read a path as MLflow's pages do (`parseImageFile` in their source)."""
    stem, _, extension = path.removeprefix("images/").rpartition(".")
    separator = next(mark for mark in ("+", "%") if mark in stem)
    key, step_word, step, time_word, timestamp, *_ = stem.split(separator)
    assert (step_word, time_word) == ("step", "timestamp")
    compressed = stem.endswith("compressed")
    file = stem[: -len("+compressed")] if compressed else stem
    return Parsed(re.sub("[~#]", "/", key), int(step), int(timestamp), file, extension, compressed)


def test_files_are_named_as_mlflow_names_its_own(project: Path, tmp_path: Path) -> None:
    (history,) = trained(THREE_BITS)
    drawn = list(stepped_images(THREE_BITS, history))
    tracker = Tracker(Tracking(name="local", uri=None), "images", project)
    theirs, ours = (tracker.client.create_run(tracker.experiment_id).info.run_id for _ in range(2))
    key, step, image = drawn[1]
    tracker.client.log_image(theirs, image, key=key, step=step, timestamp=ENDED)
    image_files(tmp_path / "folder", drawn, ENDED, reduction=2)
    tracker.client.log_artifacts(ours, str(tmp_path / "folder"))

    logged = {run: [file.path for file in tracker.client.list_artifacts(run, "images")] for run in (theirs, ours)}
    assert len(logged[ours]) == 2 * len(drawn)
    found = {run: [parsed(path) for path in paths] for run, paths in logged.items()}
    for pair in found.values():
        files = {name.file for name in pair}
        assert len(pair) == 2 * len(files), "each has a small version with the same name"
    shapes = {run: {re.sub(r"[0-9a-f-]{36}", "UUID", path) for path in paths} for run, paths in logged.items()}
    assert shapes[theirs] <= shapes[ours]
    assert {(name.key, name.step) for name in found[ours]} == {(key, step) for key, step, _ in drawn}
    assert {name.timestamp for name in found[ours]} == {ENDED}
    assert {(name.extension, name.compressed) for name in found[ours]} == {("png", False), ("webp", True)}
    assert tracker.client.get_run(theirs).data.tags.items() >= LOGGED_IMAGES.items()


def test_files_are_the_images_and_smaller_ones(tmp_path: Path) -> None:
    (history,) = trained(TWO_BITS)
    image_files(tmp_path, stepped_images(TWO_BITS, history), ENDED, reduction=2)
    for key, step, image in stepped_images(TWO_BITS, history):
        (full,) = tmp_path.glob(f"images/{key}+step+{step}+*.png")
        with Image.open(full) as written:
            assert (np.asarray(written) == np.asarray(image)).all()
        with Image.open(full.with_name(f"{full.stem}+compressed.webp")) as small:
            assert small.format == "WEBP"
            assert max(small.size) <= 256 or small.width == 240
            near = np.asarray(image.resize(small.size)).astype(int) - np.asarray(small)
            assert np.abs(near).mean() < 6


def test_a_point_without_images_has_an_empty_folder_of_them(tmp_path: Path) -> None:
    image_files(tmp_path, stepped_images(LINE, History()), ENDED, reduction=2)
    assert list((tmp_path / "images").iterdir()) == []


def test_writing_twice_gives_the_same_files(tmp_path: Path) -> None:
    (history,) = trained(LINE)

    def written() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in (tmp_path / "images").iterdir()}

    def write(ended: int) -> None:
        image_files(tmp_path, stepped_images(LINE, history), ended, reduction=2)

    write(ENDED)
    first = written()
    write(ENDED)
    assert written() == first
    write(ENDED + 1)
    assert not written().keys() & first.keys(), "those of another time are replaced"
    assert len(written()) == len(first)
