"""Commands whose output nobody reads: they do their work, and their exit code says whether they did."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from pipeline.system.project import PROJECT
from tests.support.swept import statuses

# A command that writes more than a pipe holds, and only then does its work: it creates the file `done`. The first
# argument says what kind of command it is.
COMMAND = f"""
import logging, sys
from pathlib import Path
sys.path.insert(0, {str(PROJECT)!r})
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.terminal import TerminalHandler
kind = sys.argv.pop(1)
def task(config):
    logging.getLogger("pipeline").handlers = [TerminalHandler()]
    logging.getLogger("pipeline").error("a line of the log")
    print("x" * 100_000, flush=True)
    print("stderr", file=sys.stderr)
    logging.getLogger("pipeline").error("another line of the log")
    if kind == "fails":
        raise LabError("It failed.")
    Path("done").touch()
sys.argv += ["hydra.run.dir=.", "hydra.output_subdir=null"]
sys.exit(cli.run(task, "compare", answers=kind == "answers"))
"""
READERS = ["2>&1 | true", "2>&1 | head -1", "2>/dev/full", "<&-", ">&-", "2>&-", "<&- >&- 2>&-"]


def exit_code(folder: Path, kind: str, readers: str) -> int:
    """Run the command in a shell with these redirections, and return its exit code."""
    (folder / "command.py").write_text(COMMAND)
    streams, _, reader = readers.partition("|")
    line = f"{{ '{sys.executable}' command.py {kind} {streams}; echo $? >code; }} | {reader or 'cat >/dev/null'}"
    subprocess.run(["/bin/bash", "-c", line], cwd=folder, check=False, timeout=60, stderr=subprocess.DEVNULL)
    return int((folder / "code").read_text())


@pytest.mark.parametrize("readers", READERS)
def test_work_does_not_depend_on_who_reads(tmp_path: Path, readers: str) -> None:
    assert exit_code(tmp_path, "works", readers) == 0
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("readers", ["2>&1 | true", "2>/dev/full", ">&- 2>&-"])
def test_an_error_that_nobody_can_read_is_in_the_exit_code(tmp_path: Path, readers: str) -> None:
    assert exit_code(tmp_path, "fails", readers) == 1
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(("readers", "code"), [("| true", 141), (">&-", 141), (">/dev/full", 1)])
def test_an_answer_that_is_lost_is_no_success(tmp_path: Path, readers: str, code: int) -> None:
    assert exit_code(tmp_path, "answers", readers) == code


def test_a_full_disk_is_told_after_the_work_is_done(tmp_path: Path) -> None:
    (tmp_path / "command.py").write_text(COMMAND)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "command.py", "works"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True,
            check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "done").exists()


IN_A_PROCESS = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
from pipeline.system.streams import keep_streams
keep_streams()
keep_streams()
"""


def run(code: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", IN_A_PROCESS + code], check=False, timeout=60, capture_output=True)


def test_what_is_read_arrives_whole_and_once() -> None:
    code = "print('x' * 200_000); print('y', end=''); print('z', file=sys.stderr)"
    done = run(code)
    assert done.stdout == b"x" * 200_000 + b"\ny"
    assert done.stderr == b"z\n"


def test_output_is_unbuffered_if_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    code = "print('x'); sys.stdin.readline()"
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_PROCESS + code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"x\n"
        process.communicate(b"\n", timeout=60)


def test_a_slow_reader_of_a_stream_that_does_not_block_gets_everything() -> None:
    code = "import os; os.set_blocking(1, False); print('x' * 200_000)"
    done = run(code)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"x" * 200_000 + b"\n"


def test_a_character_that_a_terminal_cannot_show_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = run("print('\\u03b7')")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\\u03b7\n", b"")


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    code = "file = open('x', 'w'); sys.exit(file.fileno() if file.fileno() > 2 else 1)"
    script = tmp_path / "script.py"
    script.write_text(IN_A_PROCESS + code)
    line = f"'{sys.executable}' script.py <&- >&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, check=False, timeout=60).returncode > 2


PROGRESS = """
import logging
from pipeline.system.terminal import TerminalHandler
log = logging.getLogger("pipeline")
log.handlers = [TerminalHandler()]
log.setLevel(logging.INFO)
for line in range(2000):
    log.info("x" * 100)
print("trained", flush=True)
log.warning("That was all.")
"""


def test_progress_that_nobody_reads_for_now_is_dropped() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_PROCESS + PROGRESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"trained\n"
        told = process.communicate(timeout=60)[1].splitlines()
    assert told[-1] == b"That was all."
    assert 100 < len(told) < 1000


STOPPED = """
import os, signal
from pipeline.system.signals import postpone_signals
from pipeline.system.streams import reader_is_ready
while reader_is_ready():
    os.write(2, b"x" * 4096)
with postpone_signals() as asked:
    os.kill(os.getpid(), signal.SIGTERM)
    print("asked", asked.is_set(), flush=True)
"""


def test_a_signal_is_handled_though_nobody_reads_for_now() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_PROCESS + STOPPED], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"asked True\n"
        process.communicate(timeout=60)


BAR = """
import logging
from pipeline.system import terminal
logging.getLogger("pipeline").setLevel(logging.INFO)
terminal.SECONDS_BETWEEN_DRAWINGS = 0
shown = terminal.TrainingProgress("it", 10)
shown(1, 0.5)
print("shown", flush=True)
sys.stdin.readline()
for epoch in range(2, 11):
    shown(epoch, 0.5)
shown.close()
print("trained")
"""


def test_a_bar_outlives_its_terminal() -> None:
    terminal, stderr = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_PROCESS + BAR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
    ) as process:
        os.close(stderr)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"shown\n"
        assert b"it" in os.read(terminal, 1000)
        os.close(terminal)
        assert process.communicate(b"\n", timeout=60)[0] == b"trained\n"
    assert process.returncode == 0


# Figures and models in MLflow take seconds, and are no output of the command.
LITTLE = "recording.figures=none recording.models=none recording.snapshots=2"


@pytest.mark.slow
def test_a_study_is_trained_and_tracked_without_a_reader(lab: Path, empty_store: Path) -> None:
    (lab / "mlruns").mkdir()
    shutil.copy(empty_store, lab / "mlruns" / "mlflow.db")
    typed = f"'{sys.executable}' -m pipeline.train experiment=line_y2x training.epochs=20 {LITTLE}"
    line = f"{{ {typed} <&- 2>&1; echo $? >code; }} | true"
    subprocess.run(["/bin/sh", "-c", line], cwd=lab, check=True, timeout=200)
    assert (lab / "code").read_text() == "0\n"
    assert list(statuses(lab).values()) == ["FINISHED"] * 4
