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

from pipeline.system.processes import HEARTBEAT_SECONDS, STALE_SECONDS, is_gone, is_running, owner
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
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        theirs = other(process=child.pid, started=psutil.Process(child.pid).create_time())
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
    started = json.loads(owner())["started"]
    assert is_gone(other(started=started - 60), milliseconds(0))
    assert not is_running(os.getpid(), started - 60)
    assert is_running(os.getpid(), started)
    assert is_running(os.getpid())


@pytest.mark.parametrize(
    ("seconds_ago", "gone"), [(0, False), (4 * HEARTBEAT_SECONDS, False), (STALE_SECONDS + 60, True)]
)
def test_a_process_of_another_machine_is_gone_when_its_heartbeat_is_stale(seconds_ago: float, gone: bool) -> None:
    assert is_gone(other(host=f"not-{platform.node()}"), milliseconds(seconds_ago)) is gone


def test_a_process_of_another_machine_that_never_showed_itself_is_gone() -> None:
    assert is_gone(other(host=f"not-{platform.node()}"), None)


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
    ],
    # Not the texts themselves: they contain process ids, and would differ from run to run.
    ids=[f"case {number}" for number in range(13)],
)
def test_an_owner_that_this_program_did_not_write_is_not_gone(text: str) -> None:
    assert not is_gone(text, None)


def test_a_heartbeat_that_is_not_a_number_does_not_make_a_process_gone() -> None:
    assert not is_gone(other(host=f"not-{platform.node()}"), "noon")


def test_an_id_that_no_process_can_have_is_gone() -> None:
    assert is_gone(other(process=2**40), None)
