"""Every kind of file that the pipeline reads, damaged: reported, never executed, never silently used.

Downloads, raw IDX files and the arrays of fetch's archives are damaged in the tests that COVERED names.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.compare import compare, write_report
from pipeline.config.schema import Tracking
from pipeline.points.results import read_results, restore
from pipeline.points.sweep_record import all_sweeps, read_sweep
from pipeline.report.published.tables import ROUNDING_COLUMNS
from pipeline.report.study_page import Trained
from pipeline.sweep import command_record as record_module
from pipeline.sweep import sweep as sweep_module
from pipeline.sweep import training as training_module
from pipeline.system.errors import LabError
from pipeline.system.files import write_sums
from pipeline.system.project import CONF, PROJECT
from tests.data.test_data import Trap, arrays, describe, refusal
from tests.support.damage import MACHINE, check_machine_error, fail_at, rewrite
from tests.support.hostile import NoSync, Terminal
from tests.support.swept import at_epoch, interrupt, killed, on_disk, rates, swept

READERS = {
    "tracking/transfer.py": "what came through a server, SHA256SUMS and checkpoints: test_transfer.py",
    "points/breaking_rates.py": "breaking_rates.json: tests/points/test_breaking_rates.py",
    "points/checkpoint.py": "checkpoint.npz",
    "points/weights.py": "weights.npz and initial.npz of a point",
    "system/cli.py": "conf/*.yaml",
    "backends/keras/state.py": "the state in checkpoint.npz",
    "backends/keras/own_loader.py": "classes.json of a model in MLflow",
    "compare.py": "reports/recorded/*.md",
    "report/committed/head.py": "conf/pipeline.yaml: tests/report/test_committed_summary.py",
    "report/committed/summary.py": "the report: tests/report/test_committed_summary.py",
    "report/committed/values.py": "the tables of the report: tests/report/test_committed_summary.py",
    "config/own_code.py": "the code of a model of one's own: tests/config/test_own_model.py",
    "data/arrays.py": "data/prepared/*/data.json and *.npy",
    "data/files/arrays.py": "a user's .npy and .npz: test_bad_rows.py",
    "data/files/parquet.py": "a user's Parquet: test_bad_rows.py",
    "data/files/text.py": "a user's CSV and TSV: test_bad_rows.py",
    "data/images.py": "a user's images: test_images.py",
    "data/keras_sets.py": "downloads of what Keras names: test_library.py",
    "data/raw/keras_files.py": "the same by their checksums",
    "fetch.py": "data/raw, data.local_dir",
    "system/files.py": "SHA256SUMS, files by their checksum",
    "system/formats.py": "every JSON, CSV, .npz and zip: test_formats.py",
    "data/raw/idx.py": "",
    "tracking/sync/attempts.py": "metrics.csv, config.json and error.txt of a point in training: test_sync_points.py",
    "backends/numpy/model_loader.py": "network.json and weights.npz of a model in MLflow",
    "tracking/raw_loader.py": "data.json of a model in MLflow",
    "points/folder.py": "metrics.csv of a point in training",
    "points/reading.py": "every file of a point: test_reading.py",
    "points/results.py": "results/*/*/sweep.json; dvc.lock: test_results.py",
    "prepare.py": "data/raw/*",
    "system/project.py": "dvc.lock",
    "rounding.py": "reports/rounding.csv",
    "studies/experiments.py": "conf/experiment/*.yaml: test_experiments.py",
    "study.py": "conf/pipeline.yaml: test_study.py",
    "report/earlier.py": "reports/points.csv, parity.csv, reproduction.csv: test_compare.py",
    "report/published/tables.py": "published/*.csv, reports/rounding.csv",
    "data/raw/sources.py": "downloads: npz, gz, tgz, deb",
    "report/published/recorded.py": "reports/recorded/*.csv",
    "tracking/store.py": "mlruns/mlflow.db",
    "tracking/contents.py": "mlruns/mlflow.db: test_contents.py",
    "tracking/template.py": "the template of a store in the cache of the user: test_template.py",
    "tracking/sync/complete.py": "metrics.csv of a point in training, SHA256SUMS: test_sync_points.py",
    "points/checked.py": ".points/.checked.json: test_checked.py",
    "sweep/finished.py": ".points/.sweeps/*.finished.json: test_finished.py",
    "points/identity.py": "checksums of code in __pycache__: test_identity.py",
    "points/sweep_record.py": "sweep.json",
    "ui.py": "",
    "points/clone.py": ".points/.clone: test_clone.py",
    "system/limits.py": "files of the kernel about cgroups: test_limits.py",
    "system/processes.py": "files of the kernel about processes: test_processes.py",
    "system/unknown.py": "conf/*/*.yaml",
    "tracking/causes.py": "",
    "tracking/deletion.py": "",
    "tracking/sync/rows.py": "metrics.csv of a point in training: test_sync_points.py",
    "tracking/location.py": "mlruns/mlflow.db: test_location.py",
}
"""Modules that read files, and what: a module that begins to must be put here, and its files below."""
READS = re.compile(
    r"read_text|read_bytes|read_array|read_json\(|stored_members\(|read_point\(|np\.load|csv\.(Dict)?[rR]eader|OmegaConf\.load|ZipFile|GzipFile"
    r"|tarfile\.open|sqlite|open\(\"rb\"\)|open\(newline|validate_json"
)
COVERED = {
    "data/raw/*": {
        "test_prepare.py": ["test_a_flipped_bit_is_found", "test_a_shortened_file_is_named_as_such",
                            "test_files_that_do_not_fit_together", "test_a_file_that_is_not_idx_though_conf_names_it"],
        "test_fetch.py": ["test_a_corrupted_file_already_there_is_replaced"],
        "test_idx.py": ["test_a_shortened_or_lengthened_file_is_refused",
                        "test_other_bytes_are_refused_or_come_back_as_they_were"],
    },
    "data/prepared": {
        "test_data.py": ["test_a_description_that_is_none", "test_a_truncated_array", "test_a_flipped_bit",
                         "test_a_pickle_is_never_opened", "test_an_archive_in_the_place_of_an_array"],
    },
    "downloads": {
        "test_fetch.py": ["test_wrong_npz_answers", "test_a_download_that_is_cut_short", "test_wrong_gzip_answers",
                          "test_oversize_answers", "test_nothing_is_unpickled", "test_wrong_packages",
                          "test_other_members_are_neither_extracted_nor_followed",
                          "test_a_member_that_is_not_a_regular_file",
                          "test_a_package_is_not_unpacked_before_its_checksum"],
    },
    "data of one's own": {
        "test_bad_rows.py": ["test_a_file_that_is_cut_short", "test_pickles_are_refused_unopened",
                             "test_a_small_gzip_file_that_unpacks_to_more_than_the_memory"],
        "test_images.py": ["test_a_file_that_is_no_image", "test_an_image_that_is_cut_short"],
        "test_library.py": ["test_a_download_with_the_right_checksum_is_not_unpickled"],
    },
    "data.local_dir": {"test_fetch.py": ["test_a_wrong_local_file_is_refused"]},
    "SHA256SUMS, *.npz": {
        "test_files.py": ["test_any_flipped_bit_is_refused", "test_a_list_that_is_empty_or_cut_short_is_refused",
                          "test_a_name_outside_the_folder_is_refused_though_its_checksum_holds"],
        "test_formats.py": ["test_a_compressed_archive_is_refused_unread", "test_objects_are_refused",
                            "test_arrays_cut_anywhere_are_refused"],
    },
    "mlruns/mlflow.db": {"test_store.py": ["test_a_store_that_is_not_a_database", "test_a_store_of_another_version"]},
}  # fmt: skip
TESTS = PROJECT / "tests"


def test_no_module_reads_a_file_that_is_not_looked_at_here() -> None:
    package = PROJECT / "pipeline"
    reading = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if READS.search(file.read_text(encoding="utf-8"))
    }
    assert reading <= set(READERS), reading - set(READERS)


@pytest.mark.parametrize("kind", COVERED)
def test_what_other_tests_damage_is_still_damaged_there(kind: str) -> None:
    for file, names in COVERED[kind].items():
        (found,) = TESTS.rglob(file)
        text = found.read_text(encoding="utf-8")
        assert [name for name in names if f"def {name}(" not in text] == []


# --- damage

Damage = Callable[[Path, Path], None]
"""Gets the file, and the path that an unpickled payload would touch."""


def emptied(file: Path, trap: Path) -> None:
    rewrite(file, b"")


def halved(file: Path, trap: Path) -> None:
    content = file.read_bytes()
    rewrite(file, content[: len(content) // 2])


def flipped(file: Path, trap: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    rewrite(file, content)


def pickled(file: Path, trap: Path) -> None:
    rewrite(file, pickle.dumps(Trap(trap)))


def bombed(file: Path, trap: Path) -> None:
    """An archive of a megabyte that unfolds to a gigabyte."""
    rewrite(file, bomb())


@functools.cache
def bomb() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("steps.npy", "w") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (2**27,)})
        for _ in range(64):
            stream.write(bytes(2**24))
    return content.getvalue()


def nested(file: Path, trap: Path) -> None:
    rewrite(file, b"[" * 200_000)


def noise(file: Path, trap: Path) -> None:
    rewrite(file, bytes(range(256)) * 9)


def a_folder(file: Path, trap: Path) -> None:
    file.unlink()
    file.mkdir()


KINDS: list[Damage] = [emptied, halved, flipped, pickled, nested, noise]


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "sprung"
    assert not (tmp_path / "sprung").exists()


def test_the_trap_would_spring(tmp_path: Path) -> None:
    pickled(tmp_path / "file", tmp_path / "sprung")
    pickle.loads((tmp_path / "file").read_bytes())
    assert (tmp_path / "sprung").exists()


def names(kinds: Sequence[Damage]) -> list[str]:
    return [kind.__name__ for kind in kinds]


# --- .points: a point that is complete, one in training, what a command left

GRID = rates("0.1", more=("training.epochs=6",))


@pytest.fixture(autouse=True)
def without_mlflow(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "empty_store" not in request.fixturenames:
        monkeypatch.setattr(sweep_module, "SyncThread", NoSync)
    monkeypatch.setattr(sweep_module, "code_state", lambda project: {})
    for module, figures in ((training_module, "point_figures"), (record_module, "sweep_figures")):
        monkeypatch.setattr(module, figures, lambda *arguments: [])


@pytest.fixture
def calm(tmp_path: Path) -> Path:
    """A project with one point, as training leaves it."""
    swept(tmp_path / "calm", GRID)
    return tmp_path / "calm"


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose one point has been stopped after three of six epochs."""
    with monkeypatch.context() as patched:
        at_epoch(patched, 3, interrupt)
        killed(tmp_path / "stopped", GRID)
    return tmp_path / "stopped"


def the(project: Path, pattern: str) -> Path:
    (path,) = (path for path in (project / ".points").glob(pattern) if not path.parts[-1].startswith("."))
    return path


@pytest.mark.parametrize("damage", [*KINDS, bombed, a_folder], ids=names([*KINDS, bombed, a_folder]))
@pytest.mark.parametrize(
    "name", ["config.json", "run.json", "signed.json", "metrics.csv", "weights.npz", "outcome.json", "SHA256SUMS"]
)
def test_a_complete_point_that_is_damaged_is_told_and_made_again(
    calm: Path, trap: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Damage
) -> None:
    before = on_disk(calm)
    damage(the(calm, "*") / name, trap)
    swept(calm, GRID)
    assert "is retrained. The trained point in" in capsys.readouterr().err
    assert on_disk(calm) == before


@pytest.mark.parametrize("damage", [*KINDS, bombed, a_folder], ids=names([*KINDS, bombed, a_folder]))
@pytest.mark.parametrize("name", ["checkpoint.npz", "metrics.csv", "signed.json"])
def test_a_point_in_training_that_is_damaged_is_told_and_begun_anew(
    calm: Path, stopped: Path, trap: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Damage
) -> None:
    damage(the(stopped, "*.training") / name, trap)
    swept(stopped, GRID)
    told = "restarts from scratch: its checkpoint cannot be read" in capsys.readouterr().err
    assert told or (damage, name) == (flipped, "checkpoint.npz")  # where the bit may belong to no array
    assert on_disk(stopped) == on_disk(calm)


@pytest.mark.parametrize("damage", KINDS, ids=names(KINDS))
@pytest.mark.parametrize("name", ["run.json", "config.json"])
def test_what_is_written_again_anyway_hurts_nothing(
    calm: Path, stopped: Path, trap: Path, name: str, damage: Damage
) -> None:
    damage(the(stopped, "*.training") / name, trap)
    swept(stopped, GRID)
    assert on_disk(stopped) == on_disk(calm)


def test_a_sealed_folder_that_is_damaged_goes_on_from_its_checkpoint(calm: Path, stopped: Path, trap: Path) -> None:
    folder = the(stopped, "*.training")
    write_sums(folder)
    flipped(folder / "metrics.csv", trap)
    swept(stopped, GRID)
    assert on_disk(stopped) == on_disk(calm)


def test_another_points_folder_is_not_taken_for_its_own(calm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = rates("0.2", more=("training.epochs=6",))
    before = on_disk(calm)
    sweep = swept(calm, other)
    (wanted,) = sweep.jobs
    numbers = on_disk(calm)[wanted]
    shutil.rmtree(calm / ".points" / wanted)
    shutil.copytree(calm / ".points" / next(iter(before)), calm / ".points" / wanted)
    swept(calm, other)
    assert "holds a different point" in capsys.readouterr().err
    assert on_disk(calm)[wanted] == numbers


def test_another_points_checkpoint_is_not_gone_on_from(stopped: Path, calm: Path) -> None:
    other = rates("0.2", more=("training.epochs=6",))
    (wanted,) = swept(calm, other).jobs
    the(stopped, "*.training").rename(stopped / ".points" / f"{wanted}.training")
    swept(stopped, other)
    assert on_disk(stopped)[wanted] == on_disk(calm)[wanted]


def sweep_file(project: Path) -> Path:
    (file,) = (project / ".points" / ".sweeps").glob("*/sweep.json")
    return file


SWEEP_KINDS = [kind for kind in KINDS if kind is not flipped]  # a flipped letter may be another command's name


@pytest.mark.parametrize("damage", SWEEP_KINDS, ids=names(SWEEP_KINDS))
def test_a_sweeps_own_file_is_told_and_written_again(
    calm: Path, trap: Path, capsys: pytest.CaptureFixture[str], damage: Damage
) -> None:
    before = read_sweep(sweep_file(calm).parent)
    damage(sweep_file(calm), trap)
    assert list(all_sweeps(calm)) == []
    assert "skipped: The list of points" in capsys.readouterr().err
    swept(calm, GRID)
    assert "skipped: The list of points" in capsys.readouterr().err
    after = read_sweep(sweep_file(calm).parent)
    assert (after.points, after.key, after.status) == (before.points, before.key, before.status)


# --- results/STUDY/BACKEND, as compare and rebuild read it


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with results of two points."""
    project = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sweep_module, "SyncThread", NoSync)
        patched.setattr(sweep_module, "code_state", lambda project: {})
        swept(project, rates("0.1", "0.2", more=("training.epochs=6", "results=results/line_y2x/numpy")))
    shutil.copytree(PROJECT / "published", project / "published")
    return project


@pytest.fixture
def project(tmp_path: Path, trained: Path) -> Path:
    shutil.copytree(trained, tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def comparing(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Run compare; a refusal must leave no report. Returns the message, empty when it went well."""
    terminal = Terminal(project, monkeypatch, capsys)

    def run() -> str:
        ended = terminal.type(compare, "compare", lambda: None)
        if ended.code:
            assert not (project / "reports" / "points.csv").exists()
            return ended.err
        return ""

    return run


def test_undamaged_results_are_compared(project: Path, comparing: Callable[[], str]) -> None:
    assert comparing() == ""
    assert (project / "reports" / "points.csv").exists()


@pytest.mark.parametrize("damage", [*KINDS, bombed, a_folder], ids=names([*KINDS, bombed, a_folder]))
@pytest.mark.parametrize(
    "name", ["config.json", "metrics.csv", "weights.npz", "outcome.json", "signed.json", "SHA256SUMS"]
)
def test_a_damaged_result_is_one_message(
    project: Path, trap: Path, comparing: Callable[[], str], name: str, damage: Damage
) -> None:
    results = project / "results" / "line_y2x" / "numpy"
    damage(results / "learning_rate=0.2" / name, trap)
    assert "learning_rate=0.2 cannot be read" in comparing()
    with pytest.raises(LabError, match="cannot be read"):
        restore(results, project / "elsewhere", Tracking(name="local", uri=None))


@pytest.mark.parametrize("damage", [kind for kind in KINDS if kind is not flipped], ids=names(SWEEP_KINDS))
def test_a_damaged_list_of_results_is_one_message(
    project: Path, trap: Path, comparing: Callable[[], str], damage: Damage
) -> None:
    results = project / "results" / "line_y2x" / "numpy"
    damage(results / "sweep.json", trap)
    assert "The list of points" in comparing()
    with pytest.raises(LabError, match="The list of points"):
        restore(results, project / "elsewhere", Tracking(name="local", uri=None))


@pytest.mark.parametrize("key", ["folder", "signature"])
@pytest.mark.parametrize("path", ["../numpy/learning_rate=0.1", "/etc", "..", ".", "", "a/b", "a\\b", "x\0y"])
def test_a_list_of_results_that_leads_elsewhere_is_not_followed(
    project: Path, comparing: Callable[[], str], key: str, path: str
) -> None:
    file = project / "results" / "line_y2x" / "numpy" / "sweep.json"
    told = json.loads(file.read_text())
    told["points"][1][key] = path
    rewrite(file, json.dumps(told).encode())
    if key == "folder":
        assert "The list of points" in comparing()
    with pytest.raises(LabError, match="The list of points"):
        restore(file.parent, project / "elsewhere", Tracking(name="local", uri=None))
    assert not (project / "elsewhere").exists()


# --- published numbers and recorded runs


@pytest.mark.parametrize(
    "row",
    ["4,0.1", "4,0.1,0,nan", "nan,0.1,0,0.5", "inf,0.1,0,0.5", "4,0.1,1.5,0.5", "-4,0.1,0,0.5", "4,0.1,0,1e999",
     "4,0.1,0,x", "4,0.1,0,0.5\0", "x" * 200_000, "4,0.1,0,\x80", "4,0.1,0," + "9" * 5000],
    ids=lambda row: repr(row[:20]),
)  # fmt: skip
def test_published_numbers_that_are_none_are_one_message(project: Path, comparing: Callable[[], str], row: str) -> None:
    file = project / "published" / "three_bits.csv"
    file.write_bytes(file.read_bytes() + row.encode("latin-1") + b"\n")
    assert "The published numbers in" in comparing()


PUBLISHED_KINDS: list[Damage] = [pickled, nested, noise, a_folder]


@pytest.mark.parametrize("damage", PUBLISHED_KINDS, ids=names(PUBLISHED_KINDS))
@pytest.mark.parametrize("name", ["three_bits", "three_bits_final_weights", "three_bits_direction_changes"])
def test_a_damaged_table_of_published_numbers_is_one_message(
    project: Path, trap: Path, comparing: Callable[[], str], name: str, damage: Damage
) -> None:
    damage(project / "published" / f"{name}.csv", trap)
    assert "The published numbers in" in comparing()


RECORDED = "learning_rate,epoch,train/loss,test/accuracy\n0.1,1,0.9,0.9\n0.1,2,0.5,0.95\n"


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"learning_rate,epoch,train/loss\n", RECORDED.encode() + b"nan,1,2,3\n",
     RECORDED.encode() + b"0.1,inf,2,3\n", RECORDED.encode() + b"0.1,3,2,3,4,5\n", RECORDED.encode() + b"0.1,x\n",
     RECORDED.encode() + b"x" * 200_000, RECORDED.encode() + b"\xff\n", b"[" * 200_000, pickle.dumps([1])],
    ids=lambda content: repr(content[-20:]),
)  # fmt: skip
def test_a_recorded_run_that_is_none_is_one_message(
    project: Path, comparing: Callable[[], str], content: bytes
) -> None:
    (project / "reports" / "recorded").mkdir(parents=True)
    (project / "reports" / "recorded" / "mnist.csv").write_bytes(content)
    assert "The recorded run in" in comparing()


def test_a_note_that_is_no_text_is_one_message(project: Path, comparing: Callable[[], str]) -> None:
    (project / "reports" / "recorded").mkdir(parents=True)
    (project / "reports" / "recorded" / "mnist.csv").write_text(RECORDED)
    (project / "reports" / "recorded" / "mnist.md").write_bytes(b"\xff\xfe\x80")
    assert "mnist.md cannot be read" in comparing()


def test_places_that_a_network_does_not_have_are_not_run(project: Path, tmp_path: Path) -> None:
    file = project / "published" / "three_bits_final_weights.csv"
    file.write_text(file.read_text() + "10,7,0,0,1.5\n10,0,99,0,1.5\n")
    write_report(Trained(read_results(project / "results")), project / "published", tmp_path / "reports")
    assert (tmp_path / "reports" / "reproduction.csv").exists()


@pytest.mark.parametrize(
    "name",
    [
        "results/line_y2x/numpy/sweep.json",
        "results/line_y2x/numpy/learning_rate=0.2/metrics.csv",
        "published/three_bits.csv",
        "reports/rounding.csv",
        "reports/recorded/mnist.csv",
        "reports/recorded/mnist.md",
        "reports/points.csv",
    ],
)
def test_what_the_machine_does_not_let_be_read_is_not_said_to_be_damaged(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (project / "reports" / "recorded").mkdir(parents=True)
    (project / "reports" / "recorded" / "mnist.csv").write_text(RECORDED)
    (project / "reports" / "recorded" / "mnist.md").write_text("a note")
    (project / "reports" / "rounding.csv").write_text(",".join(ROUNDING_COLUMNS) + "\n")
    (project / "reports" / "points.csv").write_text("study,backend,name\n")
    fail_at(monkeypatch, project / name, MACHINE[0])
    with pytest.raises(LabError) as told:
        write_report(Trained(read_results(project / "results")), project / "published", project / "reports")
    check_machine_error(told.value, MACHINE[0], (project / name).parent)
    assert "dvc pull" not in str(told.value)


@pytest.mark.parametrize("error", [MACHINE[0], MACHINE[-1]], ids=repr)
def test_a_point_that_cannot_be_read_now_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | MemoryError
) -> None:
    swept(tmp_path, GRID)
    before = on_disk(tmp_path)
    (signature,) = before
    more = ("training.epochs=6",)
    with monkeypatch.context() as patched:
        fail_at(patched, the(tmp_path, "*") / "weights.npz", error)
        with pytest.raises(LabError, match=r"learning_rate=0\.1 failed\.") as told:
            swept(tmp_path, rates("0.1", "0.2", more=more))
    check_machine_error(told.value, error, tmp_path / ".points" / signature)
    after = on_disk(tmp_path)
    assert len(after) == 2
    assert after[signature] == before[signature]


# --- prepared data


def labels(change: Callable[[NDArray[Any]], NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return arrays() | {"train_targets": change(arrays()["train_targets"])}


SHAPES: dict[str, dict[str, NDArray[Any]]] = {
    "a label too large": labels(lambda old: old + 10),
    "a label below 0": labels(lambda old: old - 10),
    "labels that are no integers": labels(lambda old: old.astype(float)),
    "labels in a table": labels(lambda old: old[:, None]),
    "fewer labels than rows": labels(lambda old: old[:-1]),
    "no rows": arrays() | {"train_inputs": np.zeros((0, 6), np.float32), "train_targets": np.zeros(0, int)},
    "inputs in a row": arrays() | {"train_inputs": np.zeros(7, np.float32)},
    "inputs that are text": arrays() | {"train_inputs": np.full((7, 6), "x")},
    "inputs that are no numbers": arrays() | {"test_inputs": np.full((3, 6), np.nan, np.float32)},
    "inputs that are other integers": arrays() | {"train_inputs": np.zeros((7, 6), np.int16)},
    "another number of features": arrays() | {"test_inputs": np.zeros((3, 5), np.float32)},
    "a number alone": arrays() | {"test_targets": np.array(3)},
}


@pytest.mark.parametrize("name", SHAPES)
def test_prepared_arrays_of_a_wrong_shape_are_refused_though_their_checksums_hold(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data" / "prepared" / "mnist"
    folder.mkdir(parents=True)
    for array, content in SHAPES[name].items():
        np.save(folder / f"{array}.npy", content, allow_pickle=False)
    describe(folder)
    assert "do not fit mnist" in refusal(tmp_path)


@pytest.mark.parametrize("damage", [emptied, halved, pickled, nested, noise])
def test_a_damaged_description_of_prepared_data_is_refused(tmp_path: Path, trap: Path, damage: Damage) -> None:
    folder = tmp_path / "data" / "prepared" / "mnist"
    folder.mkdir(parents=True)
    describe(folder)
    damage(folder / "data.json", trap)
    assert "data.json cannot be read" in refusal(tmp_path)


# --- conf


TAGS = "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{trap}']]"


def tagged(file: Path, trap: Path) -> None:
    file.write_text(f"study: {TAGS.format(trap=trap)}\n")


def bitten(file: Path, trap: Path) -> None:
    """A file with a letter that YAML does not take."""
    file.write_bytes(b"\x01" + file.read_bytes())


CONF_KINDS: list[Damage] = [emptied, halved, pickled, nested, noise, tagged, bitten, a_folder]


@pytest.mark.parametrize("damage", CONF_KINDS, ids=names(CONF_KINDS))
@pytest.mark.parametrize(
    "name", ["config.yaml", "optimizer/sgd.yaml", "experiment/line_y2x.yaml", "data/line_y2x.yaml"]
)
def test_a_damaged_conf_file_is_one_message(
    tmp_path: Path,
    trap: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Damage,
) -> None:
    project = tmp_path / "project"
    shutil.copytree(CONF, project / "conf")
    damage(project / "conf" / name, trap)
    monkeypatch.setattr("pipeline.system.cli.CONF", project / "conf")
    ended = Terminal(project, monkeypatch, capsys).train(
        "experiment=line_y2x", "gradient=backpropagation", "training.epochs=2", "hydra.mode=RUN"
    )
    assert ended.code == 1
    assert not (project / ".points").exists()


# --- MLflow's store


@pytest.mark.parametrize("damage", [halved, pickled])
def test_a_damaged_store_costs_no_point_and_is_told(
    tmp_path: Path, trap: Path, empty_store: Path, capsys: pytest.CaptureFixture[str], damage: Damage
) -> None:
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_store, tmp_path / "mlruns" / "mlflow.db")
    damage(tmp_path / "mlruns" / "mlflow.db", trap)
    swept(tmp_path, GRID)
    assert len(on_disk(tmp_path)) == 1
    told = capsys.readouterr().err
    assert "1 of 1 points are pending" in told
    assert "Traceback" not in told
