"""A sweep is marked as long as a process of it lives."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from pipeline.points.point import POINTS
from pipeline.points.sweep_lock import SweepLock
from pipeline.system.errors import LabError
from tests.support.swept import helper

HOLD = """
import sys
from pathlib import Path
from pipeline.points.sweep_lock import SweepLock
lock = SweepLock(Path(sys.argv[1]), "a")
lock.hold()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_sweep_is_held_until_the_last_command_has_ended(tmp_path: Path) -> None:
    locks = [SweepLock(tmp_path, "a") for _ in range(2)]
    assert not SweepLock(tmp_path, "a").is_held()
    for lock in locks:
        lock.hold()
    assert not SweepLock(tmp_path, "another").is_held()
    locks[0].release()
    assert SweepLock(tmp_path, "a").is_held()
    locks[1].release()
    locks[1].release()
    assert not SweepLock(tmp_path, "a").is_held()


def test_a_killed_command_holds_nothing(tmp_path: Path) -> None:
    with helper(HOLD, str(tmp_path)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert SweepLock(tmp_path, "a").is_held()
        process.send_signal(signal.SIGKILL)
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert not SweepLock(tmp_path, "a").is_held()


def test_a_file_in_the_way_is_one_message(tmp_path: Path) -> None:
    (tmp_path / POINTS).write_text("")
    with pytest.raises(LabError, match="cannot be written"):
        SweepLock(tmp_path, "a").hold()
