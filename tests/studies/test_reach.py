"""A single training is judged beside the newest sweep of its study, of which no more is read than that needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.schema import Tracking
from pipeline.points.reading import read_own_point, read_results
from pipeline.points.sweep_record import SweepPoint, SweepRecord, sweep_folder, write_sweep
from pipeline.studies.reach import judged_in_study
from pipeline.system.errors import DamagedError
from tests.points.test_reading import ONE, write
from tests.support.damage import MACHINE, fail_at
from tests.support.trained import trained

LOCAL = Tracking(name="local", uri=None)
OTHER = ONE.model_copy(update={"optimizer": ONE.optimizer.model_copy(update={"learning_rate": 0.002})})


def record(key: str, *folders: Path, study: str = "line", parent: bool = True) -> SweepRecord:
    points = [SweepPoint("it", folder.name, f"point{number}") for number, folder in enumerate(folders)]
    return SweepRecord(key * 16, study, "numpy", parent, "command", LOCAL, {}, started=0, points=points)


def test_the_weights_of_the_points_that_a_training_is_judged_beside_are_not_read(tmp_path: Path) -> None:
    swept = write(tmp_path, with_run=True)
    own = write(tmp_path, trained(OTHER)[0], OTHER, with_run=True)
    write_sweep(sweep_folder(tmp_path, "a" * 16), record("a", swept))
    point = read_own_point(own, "it", own.name)
    (swept / "weights.npz").unlink()
    (judged,) = judged_in_study(tmp_path, record("b", own, parent=False), [point])
    assert judged.reach is not None
    assert judged.reach.points == 2


def test_what_cannot_be_read_of_other_commands_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    swept = write(tmp_path, with_run=True)
    own = write(tmp_path, trained(OTHER)[0], OTHER, with_run=True)
    write_sweep(sweep_folder(tmp_path, "a" * 16), record("a", swept))
    write_sweep(sweep_folder(tmp_path, "c" * 16), record("c", study="another"))
    point = read_own_point(own, "it", own.name)
    unreadable = sweep_folder(tmp_path, "c" * 16) / "sweep.json"
    fail_at(monkeypatch, unreadable, MACHINE[0])
    (judged,) = judged_in_study(tmp_path, record("b", own, parent=False), [point])
    assert judged.reach is not None
    assert judged.reach.points == 2
    assert f".points/.sweeps/{'c' * 16}/sweep.json could not be compared with the training." in caplog.text


@pytest.mark.parametrize("name", ["config.json", "metrics.csv", "outcome.json", "signed.json"])
def test_what_points_are_judged_by_is_checked(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path)
    assert read_results(folder, "it", folder.name).history.snapshots == {}
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(DamagedError):
        read_results(folder, "it", folder.name)
