"""The command line and the identity of this process, and whether another process still runs."""

from __future__ import annotations

import functools
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.system.processes import HEARTBEAT_SECONDS, STALE_SECONDS, is_gone, is_running, owner, place
from pipeline.system.project import PROJECT

PRINT_COMMAND = "from pipeline.system.processes import command; print(command())\n"


def test_a_module_is_named_in_full_however_deep_it_is(tmp_path: Path) -> None:
    (tmp_path / "tools" / "inner").mkdir(parents=True)
    for name in ("tools/inner/task.py", "tools/inner/__main__.py"):
        (tmp_path / name).write_text(PRINT_COMMAND)
    run = functools.partial(subprocess.run, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(PROJECT)}, check=True)
    printed = [
        run([sys.executable, *typed, "a='b c'"], capture_output=True, text=True).stdout
        for typed in (["-m", "tools.inner.task"], ["-m", "tools.inner"], ["tools/inner/task.py"])
    ]
    rest = """'a='"'"'b c'"'"''\n"""
    assert printed == [f"python -m tools.inner.task {rest}", f"python -m tools.inner {rest}", f"task.py {rest}"]


# --- whether a process still runs


def other(**changes: Any) -> str:
    """Return what `owner` says of this process, with some changes."""
    return json.dumps(json.loads(owner()) | changes)


def milliseconds(seconds_ago: float) -> str:
    return str(int((time.time() - seconds_ago) * 1000))


@pytest.mark.parametrize("heartbeat", [None, "0", milliseconds(0)], ids=["none", "long ago", "now"])
def test_this_process_is_not_gone_whatever_its_heartbeat(heartbeat: str | None) -> None:
    assert json.loads(owner())["process"] == os.getpid()
    assert not is_gone(owner(), heartbeat)


def test_a_killed_process_is_gone_before_and_after_its_parent_has_asked_for_its_exit_code() -> None:
    """In a container the parent may never ask."""
    code = "from pipeline.system.processes import owner; print(owner(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        theirs = child.stdout.readline()
        assert not is_gone(theirs, None)
        assert is_running(child.pid)
        child.send_signal(signal.SIGKILL)
        while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert is_gone(theirs, milliseconds(0))
        assert not is_running(child.pid)
        child.wait()
        assert is_gone(theirs, milliseconds(0))
        assert not is_running(child.pid)


def test_a_process_that_got_the_id_of_another_is_not_that_one() -> None:
    mine = json.loads(owner())
    assert is_gone(other(ticks=mine["ticks"] - 6000), milliseconds(0))
    assert is_gone(other(started=mine["started"] - 60, ticks=None), milliseconds(0))
    assert not is_running(os.getpid(), mine["started"] - 60)
    assert is_running(os.getpid(), mine["started"])
    assert is_running(os.getpid())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count from the boot")
def test_a_clock_that_was_set_makes_no_process_gone() -> None:
    """The start since 1970 is computed from the clock; virtual machines set theirs when they resume."""
    assert not is_gone(other(started=json.loads(owner())["started"] - 3600), milliseconds(0))


def test_a_process_that_this_user_may_not_see_is_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems with many users hide the processes of others: `mount -o hidepid=2 /proc`."""

    def not_listed(process: int) -> psutil.Process:
        raise psutil.NoSuchProcess(process)

    def not_permitted(process: int, number: int) -> None:
        raise PermissionError(process)

    monkeypatch.setattr(psutil, "Process", not_listed)
    monkeypatch.setattr(os, "kill", not_permitted)
    assert is_running(1)


ELSEWHERE = [{"place": "another boot or PID namespace"}, {"place": ""}, {"place": None}]


@pytest.mark.parametrize("elsewhere", ELSEWHERE, ids=["another place", "an unknown place", "an earlier version"])
@pytest.mark.parametrize(
    ("seconds_ago", "gone"), [(0, False), (4 * HEARTBEAT_SECONDS, False), (STALE_SECONDS + 60, True)]
)
def test_only_its_heartbeat_decides_about_a_process_that_cannot_be_seen(
    elsewhere: dict[str, Any], seconds_ago: float, gone: bool
) -> None:
    """Two containers may have the same host name, and use the same ids for other processes."""
    for process in (os.getpid(), 2**40):
        assert is_gone(other(process=process, **elsewhere), milliseconds(seconds_ago)) is gone


def test_a_process_elsewhere_that_never_showed_itself_is_gone() -> None:
    assert is_gone(other(place="elsewhere"), None)


@pytest.mark.skipif(sys.platform != "linux", reason="needs PID namespaces")
def test_a_process_in_another_pid_namespace_is_elsewhere() -> None:
    command = ["unshare", "--user", "--pid", "--fork", "--mount-proc", sys.executable, "-c"]
    code = "from pipeline.system.processes import owner; print(owner())"
    done = subprocess.run([*command, code], cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("this system does not allow PID namespaces")
    theirs = json.loads(done.stdout)
    assert (theirs["host"], theirs["process"]) == (platform.node(), 1)
    assert theirs["place"] != place()
    assert not is_gone(done.stdout, milliseconds(0))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "somebody",
        "null",
        "3",
        "[]",
        "{}",
        '{"host": "x"',
        "[" * 100_000,
        other(process="x"),
        other(process=None),
        other(process=-1),
        other(process=1.5),
        other(started="noon"),
        other(ticks="1"),
    ],
    # Not the texts themselves: they contain process ids, and would differ from run to run.
    ids=[f"case {number}" for number in range(14)],
)
def test_an_owner_that_this_program_did_not_write_is_not_gone(text: str) -> None:
    assert not is_gone(text, None)


def test_a_heartbeat_that_is_not_a_number_does_not_make_a_process_gone() -> None:
    assert not is_gone(other(place="elsewhere"), "noon")


def test_an_id_that_no_process_can_have_is_gone() -> None:
    assert is_gone(other(process=2**40), None)
