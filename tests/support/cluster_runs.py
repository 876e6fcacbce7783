"""Commands whose points are trained by workers: started, disturbed, and compared with an undisturbed command."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.once import copy_of_the_project, made_once
from tests.support.swept import by_name, in_mlflow, on_disk

RATES = ("1", "10")
STUDY = (
    "experiment=three_bits",
    f"optimizer.learning_rate={','.join(RATES)}",
    "model.hidden_size=4",
    "training.epochs=400",
    "recording.metrics_every=100",
    "recording.snapshots=4",
    # The basic launcher does not know how many points there are, and would draw none of them.
    "recording.figures=point",
)
SECONDS = 120.0
HELD = """
from pathlib import Path

FIRST_SECONDS = 0.0
_keep = StackCheckpoints.keep


def _keep_and_wait(self, epoch, states):
    _keep(self, epoch, states)
    while Path(HOLD).exists():
        time.sleep(0.02)


StackCheckpoints.keep = _keep_and_wait
"""
"""Code appended to a lab's pacing.py: after each checkpoint, training pauses while a file called hold exists. Tests can
then meet workers in training, regardless of the speed of this machine."""


def make_lab(folder: Path, store: Path, held: bool = False) -> Path:
    """Make a project without points.

    Args:
        folder: the project's folder.
        store: an MLflow store without runs, which saves each command from creating one.
        held: whether training waits at each checkpoint until the file `hold` is gone.
    """
    copy_of_the_project(folder)
    (folder / "mlruns").mkdir()
    shutil.copy(store, folder / "mlruns" / "mlflow.db")
    if held:
        (folder / "hold").touch()
        with (folder / "pipeline" / "sweep" / "pacing.py").open("a") as module:
            module.write(HELD.replace("HOLD", repr(str(folder / "hold"))))
    return folder


def left_alone(factory: pytest.TempPathFactory, store: Path) -> Path:
    """Return the lab that all others must match: the study as Hydra's basic launcher trains it, point by point."""
    return made_once(factory, "left_alone", lambda lab: run(make_lab(lab, store), "hydra/launcher=basic"))


def go_on(lab: Path) -> None:
    """Let training continue."""
    (lab / "hold").unlink()


def start(lab: Path, *overrides: str, study: tuple[str, ...] = STUDY) -> subprocess.Popen[bytes]:
    """Start the command in a process group of its own; its output goes to command.log."""
    with (lab / "command.log").open("ab") as log:
        typed = [sys.executable, "-m", "pipeline.train", *study, *overrides]
        return subprocess.Popen(typed, cwd=lab, stdout=log, stderr=log, start_new_session=True)


def finish(lab: Path, process: subprocess.Popen[bytes], seconds: float = SECONDS) -> str:
    """Wait for a command, which must succeed, and return the output of all commands of the lab.

    Raises:
        RuntimeError: the command failed; the message has the end of the output.
    """
    code = process.wait(seconds)
    told = (lab / "command.log").read_text()
    if code != 0:
        raise RuntimeError(f"exit code {code}\n{told[-5000:]}")
    return told


def run(lab: Path, *overrides: str, study: tuple[str, ...] = STUDY) -> str:
    """Run a command to its end."""
    return finish(lab, start(lab, *overrides, study=study))


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it does not become true.
    """
    give_up = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError("what was waited for did not come")
        time.sleep(0.1)  # a look at all processes of the machine takes some 20 ms


def checkpoints(lab: Path) -> list[Path]:
    """Return the checkpoints of points in training."""
    return list((lab / ".points").glob("*.training/checkpoint.npz"))


def processes_in(lab: Path) -> list[psutil.Process]:
    """Return the processes that run in a lab's folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == lab:
                found.append(process)
    return found


def training_processes(lab: Path) -> list[psutil.Process]:
    """Return the processes that hold the locks of points in training."""
    locks = {str(lab / ".points" / ".locks" / path.stem) for path in (lab / ".points").glob("*.training")}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if any(_target(link) in locks for link in Path(f"/proc/{process.pid}/fd").iterdir()):
                found.append(process)
    return found


def _target(link: Path) -> str:
    """Return the path of an open file, or an empty string if the process has closed it in the meantime."""
    with suppress(OSError):
        return str(link.readlink())
    return ""


def the_same(lab: Path, other: Path, uri: str | None = None, study: str = "three_bits") -> None:
    """Check that two labs have the same numbers on disk and in MLflow: a finished run for each point and the sweep."""
    assert on_disk(lab) == on_disk(other)
    assert in_mlflow(lab, study, uri) == in_mlflow(other, study)
    runs = by_name(lab, study, uri)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert len(runs) == len(on_disk(other)) + 1
    parents = {run.data.tags.get("mlflow.parentRunId") for run in runs.values() if run.data.tags["lab.role"] == "point"}
    assert parents == {run.info.run_id for run in runs.values() if run.data.tags["lab.role"] == "sweep"}


@contextmanager
def ended_with(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill the process at the end of the block, however the block ends."""
    try:
        yield
    finally:
        process.kill()
        process.wait()
