"""The server ends with the process that started it, however that ends. test_ui.py tests the rest."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.system.project import PROJECT
from tests.support.team_server import await_end

STAND_IN = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path("part").write_text(json.dumps([os.getpid(), child.pid]))
Path("part").rename("processes.json")
time.sleep(600)
"""
HOLDER = """
import pathlib, subprocess, sys, time
from pipeline.tracking.server.process import mlflow_server
with mlflow_server(sys.argv[2:], {}, pathlib.Path(sys.argv[1]), subprocess.DEVNULL):
    time.sleep(600)
"""


@pytest.mark.parametrize("option", ["obedient", "stubborn"])
def test_kill_9_leaves_no_process(tmp_path: Path, option: str) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "__init__.py").touch()
    (tmp_path / "mlflow" / "__main__.py").write_text(STAND_IN)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path), option], cwd=PROJECT)
    below: list[psutil.Process] = []
    try:
        give_up = time.monotonic() + 60
        while not (tmp_path / "processes.json").exists():
            assert holder.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.02)
        below = psutil.Process(holder.pid).children(recursive=True)
        processes = json.loads((tmp_path / "processes.json").read_text())
        assert set(processes) < {process.pid for process in below}
        holder.send_signal(signal.SIGKILL)
        holder.wait(60)
        await_end(below)
    finally:
        holder.kill()
        holder.wait()
        for process in below:
            if process.is_running():
                process.kill()
