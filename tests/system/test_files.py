"""Files are complete or absent, however writing ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.system.errors import DamagedError, LabError
from pipeline.system.files import (
    SUMS,
    atomic_folder,
    explained,
    file_sha256,
    named_files,
    readable,
    scratch_beside,
    short_hash,
    verify_sums,
    write_file,
    write_sums,
)
from pipeline.system.processes import place
from pipeline.system.project import PROJECT
from tests.support.damage import MACHINE


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("old")
    write_file(file, lambda beside: beside.write_text("new"))
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("ending", [OSError("disk full"), KeyboardInterrupt()])
def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path, ending: BaseException) -> None:
    file = tmp_path / "table.csv"
    file.write_text("old")

    def half(beside: Path) -> None:
        beside.write_text("ne")
        raise ending

    with pytest.raises(type(ending)):
        write_file(file, half)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_replaces_an_older_one(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    for content in ("old", "new"):
        with atomic_folder(folder) as new:
            (new / content).write_text(content)
    assert [file.name for file in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_an_error_of_the_system_becomes_one_message(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "folder"
    message = r"folder cannot be written(.|\n)*No such file or directory(.|\n)*restore the folder"
    with pytest.raises(LabError, match=message), explained(missing):
        missing.write_text("")
    (tmp_path / "file").write_text("")
    for path, fix in (("file/x", "a file is in the way of a folder"), ("x" * 300, "use a shorter name")):
        with pytest.raises(LabError, match=fix) as caught, explained(tmp_path / path):
            (tmp_path / path).write_text("")
        assert "free some disk space" not in str(caught.value)


@pytest.mark.parametrize("ending", [OSError("disk full"), KeyboardInterrupt(), LabError("no")])
def test_a_folder_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path, ending: BaseException) -> None:
    folder = tmp_path / "results"
    with atomic_folder(folder) as new:
        (new / "old").write_text("old")

    def half() -> None:
        with atomic_folder(folder) as new:
            (new / "new").write_text("ne")
            raise ending

    with pytest.raises(type(ending)):
        half()
    assert [file.name for file in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_scratch_folder_vanishes_and_its_destination_is_not_made(tmp_path: Path) -> None:
    with scratch_beside(tmp_path / "deep" / "folder") as scratch:
        assert scratch.parent == tmp_path / "deep"
        (scratch / "file").write_text("")
    assert list((tmp_path / "deep").iterdir()) == []


# --- what killed processes leave

HALF = {
    "file": """\
import sys, time
from pathlib import Path
from pipeline.system.files import write_file
def half(beside):
    beside.write_text("ne")
    print("half", flush=True)
    time.sleep(600)
write_file(Path(sys.argv[1]), half)
""",
    "folder": """\
import sys, time
from pathlib import Path
from pipeline.system.files import atomic_folder
with atomic_folder(Path(sys.argv[1])) as new:
    (new / "content").write_text("ne")
    print("half", flush=True)
    time.sleep(600)
""",
}


def write_whole_file(path: Path) -> None:
    write_file(path, lambda beside: beside.write_text("new"))


def write_whole_folder(path: Path) -> None:
    with atomic_folder(path) as new:
        (new / "content").write_text("new")


WRITE: dict[str, Callable[[Path], None]] = {"file": write_whole_file, "folder": write_whole_folder}


@contextmanager
def half_written(kind: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that has written half of a file or folder, and sleeps."""
    command = [sys.executable, "-c", HALF[kind], str(path)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "half\n"
            yield process
        finally:
            process.kill()


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("kind", WRITE)
def test_what_a_killed_process_left_goes_with_the_next_write_and_what_a_living_one_writes_stays(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "table.csv"
    with half_written(kind, path) as process:
        (theirs,) = hidden(tmp_path)
        WRITE[kind](path)
        assert hidden(tmp_path) == [theirs]
        process.send_signal(signal.SIGKILL)
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert hidden(tmp_path) == [theirs]
        WRITE[kind](path)
        # A killed process counts as ended although its parent has not yet asked for its exit code.
        assert hidden(tmp_path) == []
    assert (path if kind == "file" else path / "content").read_text() == "new"


HERE = short_hash(place().encode())


def left(folder: Path, name: str, where: str, process: object, hours: float = 0.0) -> Path:
    """Leave a temporary file that a process of a place last changed some hours ago."""
    path = folder / f".{name}.partial-{where}-{process}-.csv"
    path.write_text("")
    os.utime(path, (time.time() - hours * 3600, time.time() - hours * 3600))
    return path


def test_only_the_leftovers_of_the_same_path_and_place_are_removed_at_once(tmp_path: Path) -> None:
    unused = max(psutil.pids()) + 100_000
    stay = [
        left(tmp_path, "table.csv", HERE, os.getppid(), hours=100),
        left(tmp_path, "table.csv", f"not{HERE}", unused),
        left(tmp_path, "other.csv", HERE, unused, hours=100),
        left(tmp_path, "table.csv", HERE, ""),
        left(tmp_path, "table.csv", HERE, "x1"),
    ]
    goes = left(tmp_path, "table.csv", HERE, unused)
    write_whole_file(tmp_path / "table.csv")
    assert not goes.exists()
    assert all(path.exists() for path in stay)


def test_a_leftover_that_vanishes_or_stays_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may remove one meanwhile, and one of another user cannot be removed."""
    old = [left(tmp_path, "table.csv", f"{number}", 1, hours=100) for number in range(6)]
    vanishing, unremovable = [path for path in tmp_path.iterdir() if path in old][:2]
    rglob = Path.rglob
    unlink = Path.unlink

    def vanish(path: Path, pattern: str) -> Iterator[Path]:
        if path == vanishing:
            unlink(path)
        return rglob(path, pattern)

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == unremovable:
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "rglob", vanish)
    monkeypatch.setattr(Path, "unlink", refuse)
    write_whole_file(tmp_path / "table.csv")
    assert hidden(tmp_path) == [unremovable]


def test_another_container_of_the_same_name_keeps_what_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process ids are its own: the id of a living process may be one that nothing has here."""
    destination = tmp_path / "results"
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.system.files.place", lambda: "another PID namespace")
        patch.setattr(os, "getpid", lambda: max(psutil.pids()) + 100_000)
        theirs = scratch_beside(destination)
        folder = theirs.__enter__()
    (folder / "half").write_text("")
    write_whole_folder(destination)
    assert (folder / "half").exists()
    theirs.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == [destination]


def test_what_nobody_here_can_know_about_goes_after_a_day_without_a_change(tmp_path: Path) -> None:
    """Names of an earlier version hold the name of the machine instead of a place."""
    old = [left(tmp_path, "table.csv", where, 7, hours=25) for where in ("0123", "my-machine")]
    new = [left(tmp_path, "table.csv", where, 8, hours=23) for where in ("0123", "my-machine")]
    folder = tmp_path / ".table.csv.partial-0123-9-"
    folder.mkdir()
    (folder / "written now").write_text("")
    os.utime(folder, (0, 0))
    write_whole_file(tmp_path / "table.csv")
    assert [path.exists() for path in (*old, *new, folder)] == [False, False, True, True, True]


# --- checksums

NAMES = st.lists(
    st.tuples(st.sampled_from(["", "plots/"]), st.text("ab _=,ü-", min_size=1, max_size=6)), min_size=1, max_size=5
)


@pytest.fixture
def summed(tmp_path: Path) -> Path:
    for name in ("a.csv", "b c.txt", "plots/x-1.png", "plots/größe=ü.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    write_sums(tmp_path)
    return tmp_path


def test_sha256sum_accepts_what_is_written(summed: Path) -> None:
    command = ["sha256sum", "--check", "--strict", SUMS]
    checked = subprocess.run(command, cwd=summed, capture_output=True, text=True, check=True)
    assert checked.stdout.count(": OK") == 4
    assert checked.stderr == ""


@given(NAMES, st.binary(max_size=20))
def test_the_files_named_are_those_that_are_there(names: list[tuple[str, str]], content: bytes) -> None:
    with TemporaryDirectory() as temporary:
        folder, expected = Path(temporary), {prefix + name for prefix, name in names}
        (folder / "plots").mkdir()
        for name in {*expected, "left_out"}:
            (folder / name).write_bytes(content)
        write_sums(folder, excluded="left_out")
        assert set(verify_sums(folder)) == expected


def test_a_leftover_is_not_named(summed: Path) -> None:
    """The next write may delete it, and the folder must not be damaged then."""
    leftover = summed / f".{SUMS}.partial-{HERE}-{max(psutil.pids()) + 100_000}-"
    leftover.write_text("half")
    write_sums(summed)
    assert len(verify_sums(summed)) == 4
    assert not leftover.exists()


def test_any_flipped_bit_is_refused(summed: Path) -> None:
    for file in sorted(path for path in summed.rglob("*") if path.is_file()):
        content = file.read_bytes()
        for index in range(len(content)):
            for bit in range(8):
                broken = bytearray(content)
                broken[index] ^= 1 << bit
                file.write_bytes(broken)
                with pytest.raises((OSError, ValueError)):
                    verify_sums(summed)
        file.write_bytes(content)
    assert len(verify_sums(summed)) == 4


def test_a_missing_file_is_refused(summed: Path) -> None:
    (summed / "a.csv").unlink()
    with pytest.raises(FileNotFoundError):
        verify_sums(summed)


@pytest.mark.parametrize("content", ["", "\n", "abc", "  \n", "{sum}  a.csv", "{sum}  a.csv\n\n"])
def test_a_list_that_is_empty_or_cut_short_is_refused(summed: Path, content: str) -> None:
    (summed / SUMS).write_text(content.format(sum=file_sha256(summed / "a.csv")))
    with pytest.raises((OSError, ValueError)):
        verify_sums(summed)


@pytest.mark.parametrize("name", ["{outside}", "../outside", "plots/../../outside", "./../outside"])
def test_a_name_outside_the_folder_is_refused_though_its_checksum_holds(tmp_path: Path, name: str) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    (folder / "plots").mkdir(parents=True)
    outside.write_text("secret")
    (folder / SUMS).write_text(f"{file_sha256(outside)}  {name.format(outside=outside)}\n")
    with pytest.raises(ValueError, match="names a file outside"):
        verify_sums(folder)


# --- what cannot be read


DAMAGE: list[Exception] = [
    FileNotFoundError(2, "No such file or directory", "it"),
    IsADirectoryError(21, "Is a directory", "it"),
    NotADirectoryError(20, "Not a directory", "it"),
    ValueError("half of it"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
]


@pytest.mark.parametrize("error", DAMAGE, ids=lambda error: type(error).__name__)
def test_damage_is_reported_with_what_to_do(error: Exception) -> None:
    with pytest.raises(DamagedError) as refusal, readable("The list it", expected="a list", fix="delete it"):
        raise error
    assert str(refusal.value).splitlines() == [
        "The list it cannot be read.",
        "  expected: a list",
        f"  received: {type(error).__name__}: {error}",
        "  to do:    delete it",
    ]


@pytest.mark.parametrize("error", MACHINE, ids=repr)
def test_an_error_of_the_machine_is_not_reported_as_damage(error: Exception) -> None:
    with pytest.raises(LabError) as refusal, readable("The list it", expected="a list", fix="delete it"):
        raise error
    assert not isinstance(refusal.value, DamagedError)
    assert str(refusal.value).startswith("The list it cannot be read.")
    assert f"{type(error).__name__}: {error}" in str(refusal.value)
    assert "delete" not in str(refusal.value)


@pytest.mark.parametrize("error", [TypeError(), KeyError(), RuntimeError(), AttributeError(), LabError("said already")])
def test_other_errors_pass_through(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, readable("The list it", expected="a list", fix="delete it"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("name", ["a" * 256, "plots/" + "ä" * 128])
def test_a_name_that_no_disk_takes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a file with too long a name"):
        named_files(f"{'0' * 64}  {name}\n".encode())
