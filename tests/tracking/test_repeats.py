"""Points with several seeds in MLflow: a run with their mean and interval, and the seeds below it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pipeline.config.schema import Config, Tracking
from pipeline.points.reading import read_point, read_signed
from pipeline.points.repeats import keys_of_points
from pipeline.points.sweep_record import SweepPoint, SweepRecord
from pipeline.rebuild import rebuild
from pipeline.remove import carry_out, find
from pipeline.studies.statistics.intervals import estimate
from pipeline.system.errors import LabError
from pipeline.tracking.pages.repeats import mean_curves, repeat_values, repeats_note, result_of
from pipeline.tracking.pages.shown import has_one_point, joins
from pipeline.tracking.pages.views import NEWEST
from pipeline.tracking.store import store_uri
from pipeline.tracking.sync.placement import PARENT, SWEEP_RUN, adapted
from pipeline.tracking.tracker import Tracker
from tests.support.damage import rewrite
from tests.support.maps import map_point
from tests.support.swept import Request, by_name, full_name, in_mlflow, rates, request, runs_of, swept
from tests.support.trained import sweep

pytestmark = pytest.mark.usefixtures("plain_runs")
LOCAL = Tracking(name="local", uri=None)
# A net of one weight that starts at random, so that its seeds differ.
COMMON = ("experiment=line_y2x", "gradient=backpropagation", "training.epochs=30", "model.initializer=uniform")
LOSS = "train/loss"


def seeds(*numbers: int, at: Sequence[str] = ("0.1", "0.01")) -> list[Request]:
    return [
        request(f"optimizer.learning_rate={rate}", f"seed={seed}", common=COMMON) for rate in at for seed in numbers
    ]


def groups(project: Path) -> dict[str, Run]:
    found = [run for run in runs_of(project) if run.data.tags["lab.role"] == "repeated"]
    named = {full_name(run): run for run in found}
    assert len(named) == len(found)
    return named


def children(project: Path, run: Run) -> list[str]:
    """The short names of the runs below a run."""
    below = [one for one in runs_of(project) if one.data.tags.get("mlflow.parentRunId") == run.info.run_id]
    return sorted(str(one.info.run_name) for one in below)


def shown(project: Path) -> dict[str, str | None]:
    return {str(run.info.run_name): run.data.tags.get(NEWEST) for run in runs_of(project)}


def losses(project: Path, name: str) -> list[float]:
    runs = by_name(project)
    return [run.data.metrics[f"final/{LOSS}"] for key, run in runs.items() if key.startswith(f"{name} seed=")]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, plain_runs: None) -> Path:
    """A project in which two points were trained with three seeds each; not to be changed."""
    project = tmp_path_factory.mktemp("three")
    (project / "mlruns").mkdir()
    shutil.copy(empty_store, project / "mlruns" / "mlflow.db")
    swept(project, seeds(1, 2, 3))
    return project


@pytest.fixture
def copied(three: Path, tmp_path: Path) -> Path:
    return shutil.copytree(three, tmp_path / "copied")


def test_a_point_has_the_mean_of_its_seeds_which_are_below_it(three: Path) -> None:
    found = groups(three)
    assert sorted(found) == ["learning_rate=0.01", "learning_rate=0.1"]
    run = found["learning_rate=0.1"]
    assert (run.info.run_name, run.info.status) == ("lr 0.1", "FINISHED")
    assert children(three, run) == ["lr 0.1 · s 1", "lr 0.1 · s 2", "lr 0.1 · s 3"]
    parent = by_name(three)["line_y2x numpy"]
    assert children(three, parent) == ["lr 0.01", "lr 0.1"]
    values = losses(three, "learning_rate=0.1")
    assert len(values) == 3
    expected = estimate(values, LOSS)
    metrics = run.data.metrics
    assert metrics[f"mean/{LOSS}"] == metrics[f"final/{LOSS}"] == pytest.approx(np.mean(values))
    assert metrics[f"standard_deviation/{LOSS}"] == pytest.approx(np.std(values, ddof=1))
    assert expected.interval is not None
    assert (metrics[f"interval_low/{LOSS}"], metrics[f"interval_high/{LOSS}"]) == pytest.approx(expected.interval)
    assert (metrics["seeds"], metrics["seeds_trained"], metrics["diverged"]) == (3, 3, 0)
    assert "seed" not in run.data.params
    assert run.data.params["optimizer.learning_rate"] == "0.1"
    assert run.data.tags["result"].endswith("(3)")
    assert f"**training mean absolute error {run.data.tags['result']}**" in run.data.tags["mlflow.note.content"]
    assert (
        "`python -m pipeline.train optimizer.learning_rate=0.1 seed=1 repeats=3`"
        in run.data.tags["mlflow.note.content"]
    )


def test_the_grid_shows_points_and_the_seeds_their_own_view(three: Path) -> None:
    assert (shown(three)["lr 0.1"], shown(three)["lr 0.1 · s 1"]) == ("true", "seed")
    tags = Tracker(LOCAL, "line_y2x", three).experiment_tags()
    views = {key.removeprefix("mlflow.sharedViewState.") for key in tags if key.startswith("mlflow.sharedViewState.")}
    assert views == {"grid", "seeds", "every_seed"}, "nothing diverged"


def test_curves_are_means_at_the_epochs_that_all_seeds_have(three: Path) -> None:
    client = MlflowClient(store_uri(three))

    def curve(run: Run) -> dict[int, float]:
        return {row.step: row.value for row in client.get_metric_history(run.info.run_id, LOSS)}

    runs = by_name(three)
    each = [curve(runs[f"learning_rate=0.1 seed={seed}"]) for seed in (1, 2, 3)]
    mean = {step: sum(one[step] for one in each) / 3 for step in each[0]}
    assert curve(runs["learning_rate=0.1"]) == pytest.approx(mean)


def test_doing_it_again_changes_nothing(copied: Path) -> None:
    before = in_mlflow(copied, when=True)
    tags = {name: run.data.tags for name, run in by_name(copied).items()}
    rebuild(LOCAL, copied, copied / "results")
    assert in_mlflow(copied, when=True) == before
    swept(copied, seeds(1, 2, 3))
    assert in_mlflow(copied, when=True) == before
    again = {name: run.data.tags for name, run in by_name(copied).items()}
    volatile = {"lab.asked", "lab.clone", "lab.heartbeat", "lab.owner", "mlflow.note.content"}
    for name, found in again.items():
        assert {k: v for k, v in found.items() if k not in volatile} == {
            k: v for k, v in tags[name].items() if k not in volatile
        }


def test_a_store_that_was_deleted_gets_the_same_runs(three: Path, tmp_path: Path, empty_store: Path) -> None:
    other = tmp_path / "other"
    (other / "mlruns").mkdir(parents=True)
    shutil.copy(empty_store, other / "mlruns" / "mlflow.db")
    shutil.copytree(three / ".points", other / ".points")
    rebuild(LOCAL, other, other / "results")
    assert in_mlflow(other) == in_mlflow(three)


def test_a_store_that_was_deleted_gets_the_same_runs_after_a_command_for_one_seed(
    copied: Path, tmp_path: Path, empty_store: Path
) -> None:
    swept(copied, seeds(1, at=["0.1"]))
    other = tmp_path / "other"
    (other / "mlruns").mkdir(parents=True)
    shutil.copy(empty_store, other / "mlruns" / "mlflow.db")
    shutil.copytree(copied / ".points", other / ".points")
    for _ in range(2):
        rebuild(LOCAL, other, other / "results")
        assert in_mlflow(other) == in_mlflow(copied)
        assert shown(other) == shown(copied)
    assert shown(other)["lr 0.1 · s 1"] == "seed"


def test_more_seeds_take_the_place_of_fewer(copied: Path) -> None:
    swept(copied, seeds(1, 2, 3, 4, 5))
    found = groups(copied)
    assert [run.data.metrics["seeds"] for run in found.values()] == [5, 5]
    run = found["learning_rate=0.1"]
    assert children(copied, run) == [f"lr 0.1 · s {seed}" for seed in range(1, 6)]
    steps = [row.step for row in MlflowClient(store_uri(copied)).get_metric_history(run.info.run_id, LOSS)]
    assert len(steps) == len(set(steps)), "no value of the three seeds is left in the curve"
    ids = {name: run.info.run_id for name, run in found.items()}
    rebuild(LOCAL, copied, copied / "results")
    assert {name: run.info.run_id for name, run in groups(copied).items()} == ids


def test_a_single_seed_has_no_such_run(project: Path) -> None:
    swept(project, rates("0.1", "0.01"))
    assert groups(project) == {}
    run = by_name(project)["learning_rate=0.1"]
    assert run.data.tags["result"].endswith("(one seed)")
    tags = [key for key in run.data.tags if not key.startswith("mlflow.")]
    stored = [tag.key for tag in MlflowClient(store_uri(project)).get_run(run.info.run_id).to_proto().data.tags]
    own = [key for key in stored if key in tags]
    assert own[:2] == ["result", "diagnosis"]
    assert all(key.startswith("lab.") or key == "outcome" for key in own[own.index("signature") + 1 :])


def test_what_could_not_be_written_is_written_later(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = MlflowClient.log_batch

    def call(self: MlflowClient, run_id: str, *arguments: Any, **named: Any) -> Any:
        if any(metric.key == "seeds" for metric in named.get("metrics", ())):
            raise MlflowException("not to our taste", error_code=3)
        return real(self, run_id, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_batch", call)
        with pytest.raises(LabError, match=r"the metrics of the seeds of lr 0\.1"):
            swept(project, seeds(1, 2))
    assert {run.info.status for run in groups(project).values()} == {"FAILED"}
    rebuild(LOCAL, project, project / "results")
    found = groups(project)
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert children(project, found["learning_rate=0.1"]) == ["lr 0.1 · s 1", "lr 0.1 · s 2"]


def no_permission(file: Path, patch: pytest.MonkeyPatch) -> None:
    real = Path.read_text

    def read_text(self: Path, *arguments: Any, **named: Any) -> str:
        if self == file:
            raise PermissionError("not for you")
        return real(self, *arguments, **named)

    patch.setattr(Path, "read_text", read_text)


def test_a_seed_that_cannot_be_opened_is_the_only_one_that_is_left_out(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(store_uri(copied))
    for run in groups(copied).values():
        client.delete_run(run.info.run_id)
    signature = by_name(copied)["learning_rate=0.1 seed=2"].data.tags["signature"]
    with monkeypatch.context() as patched:
        no_permission(copied / ".points" / signature / "signed.json", patched)
        with pytest.raises(LabError, match=r"the share of learning_rate=0\.1 seed=2 in the mean(.|\n)*cannot be read"):
            rebuild(LOCAL, copied, copied / "results")
    assert {name: run.data.metrics["seeds"] for name, run in groups(copied).items()} == {
        "learning_rate=0.1": 2,
        "learning_rate=0.01": 3,
    }
    rebuild(LOCAL, copied, copied / "results")
    assert {run.data.metrics["seeds"] for run in groups(copied).values()} == {3}


def test_a_seed_that_is_damaged_is_left_out_of_the_mean(copied: Path) -> None:
    whole = in_mlflow(copied)
    client = MlflowClient(store_uri(copied))
    signature = by_name(copied)["learning_rate=0.1 seed=2"].data.tags["signature"]
    file = copied / ".points" / signature / "outcome.json"
    content = file.read_bytes()
    rewrite(file, b"{")
    rebuild(LOCAL, copied, copied / "results")
    assert in_mlflow(copied) == whole, "MLflow has everything, so nothing is read"
    client.delete_run(groups(copied)["learning_rate=0.1"].info.run_id)
    rebuild(LOCAL, copied, copied / "results")
    found = groups(copied)
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert children(copied, found["learning_rate=0.1"]) == ["lr 0.1 · s 1", "lr 0.1 · s 3"]
    rewrite(file, content)
    rebuild(LOCAL, copied, copied / "results")
    assert in_mlflow(copied) == whole


def test_a_seed_that_cannot_be_moved_does_not_keep_the_others(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Tracker.tag
    first: list[str] = []

    def tag(self: Tracker, run_id: str, tags: Mapping[str, str]) -> None:
        if tags.get(NEWEST) == "seed" and first in ([], [run_id]):
            first[:] = [run_id]
            raise LabError("not to our taste")
        real(self, run_id, tags)

    with monkeypatch.context() as patched:
        patched.setattr(Tracker, "tag", tag)
        with pytest.raises(LabError, match=r"the place of learning_rate=0\.1 seed=1"):
            swept(project, seeds(1, 2, 3, at=["0.1"]))
    (run,) = groups(project).values()
    assert run.info.status == "FINISHED"
    assert children(project, run) == ["lr 0.1 · s 2", "lr 0.1 · s 3"]
    rebuild(LOCAL, project, project / "results")
    assert len(children(project, run)) == 3


def test_a_run_that_is_completed_keeps_the_parameters_that_it_has(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = groups(copied)["learning_rate=0.1"]
    client = MlflowClient(store_uri(copied))
    client.delete_tag(run.info.run_id, "lab.complete")
    real = Tracker.log_config

    def other_results(self: Tracker, run_id: str, config: Config, known: Any = ()) -> None:
        real(self, run_id, config.model_copy(update={"results": "elsewhere"}), known)

    monkeypatch.setattr(Tracker, "log_config", other_results)
    rebuild(LOCAL, copied, copied / "results")
    again = groups(copied)["learning_rate=0.1"]
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "FINISHED")
    assert again.data.params == run.data.params


def test_a_run_that_was_deleted_is_made_again_and_remove_takes_it_too(copied: Path) -> None:
    client = MlflowClient(store_uri(copied))
    client.delete_run(groups(copied)["learning_rate=0.1"].info.run_id)
    rebuild(LOCAL, copied, copied / "results")
    assert len(children(copied, groups(copied)["learning_rate=0.1"])) == 3
    tracker = Tracker(LOCAL, "line_y2x", copied)
    assert carry_out(find("line_y2x", None, copied, tracker), tracker)
    assert runs_of(copied) == []


def test_a_run_that_is_deleted_while_it_is_written_is_made_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MlflowClient.log_batch
    deleted: list[str] = []

    def call(self: MlflowClient, run_id: str, *arguments: Any, **named: Any) -> Any:
        if any(metric.key == "seeds" for metric in named.get("metrics", ())) and not deleted:
            deleted.append(run_id)
            self.delete_run(run_id)
        return real(self, run_id, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", call)
    swept(project, seeds(1, 2, at=["0.1"]))
    (run,) = groups(project).values()
    assert run.info.status == "FINISHED"
    assert run.info.run_id not in deleted
    assert len(children(project, run)) == 2


def test_a_seed_stays_where_its_sweep_has_moved_it() -> None:
    at_first = {PARENT: "sweep", SWEEP_RUN: "sweep", NEWEST: "true", "mlflow.runName": "lr 1", "lab.clone": "here"}
    moved = at_first | {PARENT: "point", NEWEST: "seed"}
    kept = {SWEEP_RUN: "sweep", "mlflow.runName": "lr 1", "lab.clone": "here"}
    assert adapted(moved, at_first) == kept
    assert adapted(moved, at_first | {NEWEST: "false"}) == kept | {NEWEST: "false"}, "an earlier sweep is hidden"
    assert adapted(at_first, at_first) == at_first
    other = at_first | {PARENT: "another", SWEEP_RUN: "another"}
    assert adapted(moved, other) == other, "another sweep takes it over"
    alone = {NEWEST: "true", "mlflow.runName": "lr 1 · h 4", "mlflow.runColor": "#000000", "lab.clone": "here"}
    assert adapted(moved, alone) == {"lab.clone": "here"}, "a command for this point alone"
    assert adapted({"lab.clone": "here"}, alone) == alone


def test_a_point_alone_joins_the_study(copied: Path) -> None:
    swept(copied, seeds(1, at=["0.05"]))
    swept(copied, seeds(1, 2, at=["0.02"]))
    assert {name for name, newest in shown(copied).items() if newest == "true"} == {
        "lr 0.1",
        "lr 0.01",
        "lr 0.05 · s 1",
        "lr 0.02",
    }
    grid = Tracker(LOCAL, "line_y2x", copied).experiment_tags()["mlflow.sharedViewState.grid"]
    assert "log10_learning_rate" in grid, "the view compares rates still"


def test_each_mean_of_a_sweep_on_both_backends_has_the_backend_of_its_seeds(project: Path) -> None:
    mixed = [
        request(f"backend={backend}", "optimizer.learning_rate=0.1", f"seed={seed}", common=COMMON)
        for backend in ("numpy", "keras")
        for seed in (1, 2)
    ]
    swept(project, mixed)
    found = {name: run.data.tags["backend"] for name, run in groups(project).items()}
    assert found == {"learning_rate=0.1": "numpy", "learning_rate=0.1 backend=keras": "keras"}


def test_where_all_commands_are_for_one_point_the_newest_takes_the_place_of_the_others(
    project: Path, empty_store: Path
) -> None:
    swept(project, seeds(1, 2, at=["0.1"]))
    swept(project, seeds(1, 2, at=["0.05"]))
    swept(project, seeds(1, at=["0.02"]))
    newest = {"lr 0.05": "true", "lr 0.05 · s 1": "seed", "lr 0.1": "false", "lr 0.1 · s 1": "false"}
    newest |= {"lr 0.02 · s 1": "true"}
    assert shown(project).items() >= newest.items()
    other = project / "other"
    (other / "mlruns").mkdir(parents=True)
    shutil.copy(empty_store, other / "mlruns" / "mlflow.db")
    shutil.copytree(project / ".points", other / ".points")
    rebuild(LOCAL, other, other / "results")
    assert shown(other) == shown(project)


def test_points_that_have_the_same_name_are_several_all_the_same(tmp_path: Path) -> None:
    tracking = Tracking(name="local", uri=None)
    signatures = ["a" * 16, "b" * 16]
    record = SweepRecord("c" * 16, "study", "numpy", True, "", tracking, {}, 1)
    record.points = [SweepPoint("learning_rate=1", one, one) for one in signatures]
    assert has_one_point(tmp_path, record), "only their names are known"
    for epochs, signature in enumerate(signatures):
        folder = tmp_path / ".points" / f"{signature}.training"
        folder.mkdir(parents=True)
        (folder / "signed.json").write_text(json.dumps({"config": {"seed": epochs, "epochs": epochs, "data": {}}}))
    assert not has_one_point(tmp_path, record)
    several = replace(record, key="d" * 16)
    alone = replace(record, points=record.points[:1])
    assert joins(tmp_path, replace(alone, parent=False), [])
    assert not joins(tmp_path, alone, [])
    assert joins(tmp_path, alone, [several])
    assert not joins(tmp_path, replace(alone, backend="keras"), [several])
    mixed = [replace(several.points[0], name="learning_rate=1 backend=keras"), several.points[1]]
    assert joins(tmp_path, replace(alone, backend="keras"), [replace(several, points=mixed)])


# --- the content, from points in memory


def test_a_seed_that_diverged_is_counted_and_left_out_of_the_mean() -> None:
    points = sweep(COMMON, [["optimizer.learning_rate=0.1", f"seed={seed}"] for seed in (1, 2)])
    points += sweep(COMMON, [["optimizer.learning_rate=1e9", "seed=3"]])
    assert points[2].diverged
    values = repeat_values(points)
    assert (values["seeds"], values["seeds_trained"]) == (3, 2)
    assert values["diverged"] == pytest.approx(1 / 3)
    assert values[f"mean/{LOSS}"] == pytest.approx(np.mean([point.outcome.final[LOSS] for point in points[:2]]))
    assert result_of(points).endswith("(2 of 3)")
    note = repeats_note("learning_rate=0.1", points, ["a=1", "seed=1", "repeats=1"])
    assert "2 of 3 seeds trained; seed 3 diverged." in note
    assert "pipeline.train a=1 seed=1 repeats=3`" in note
    assert {row.step for row in mean_curves(points)} == {row.step for row in mean_curves(points[:2])}


def test_seeds_that_all_diverged_have_no_mean_and_no_curve() -> None:
    points = sweep(COMMON, [["optimizer.learning_rate=1e9", f"seed={seed}"] for seed in (1, 2)])
    assert result_of(points) == "diverged"
    assert not any(name.startswith(("mean/", "final/", "interval")) for name in repeat_values(points))
    assert mean_curves(points) == []


def test_a_map_has_no_result_and_no_rate_of_its_own() -> None:
    maps = [map_point(f"seed={seed}", "training.epochs=5") for seed in (1, 2)]
    assert not any(name.startswith("hp/") or "learning_rate" in name for name in repeat_values(maps))
    note = repeats_note("map", maps, [])
    assert note.startswith("2 seeds, all trained. Diagnosis: ")
    assert "**" not in note


def test_only_the_seed_is_left_out_of_what_seeds_share(three: Path) -> None:
    folders = {run.data.tags["lab.point"]: three / ".points" / run.data.tags["signature"]
               for run in runs_of(three) if "signature" in run.data.tags}  # fmt: skip
    signed = {name: content for name, folder in folders.items() if (content := read_signed(folder)) is not None}
    keys = dict(zip(signed, keys_of_points(list(signed.values())), strict=True))
    assert len({*keys.values()}) == 2
    assert keys["learning_rate=0.1 seed=1"] == keys["learning_rate=0.1 seed=2"] != keys["learning_rate=0.01 seed=1"]
    assert read_point(folders["learning_rate=0.1 seed=2"], "it").config.seed == 2
    assert read_signed(three) is None
