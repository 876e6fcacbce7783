"""Run commands in the tests' own process, and check the paths that each of them writes."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline.sweep import command_record as record_module
from pipeline.sweep import sweep as sweep_module
from pipeline.sweep import training as training_module
from pipeline.sweep.command import TrainCommand
from pipeline.system import cli
from pipeline.system.project import PROJECT
from pipeline.tracking.sync import process as sync_process


class NoSync:
    """Replaces the sync to MLflow, and does nothing."""

    def __init__(self, sync: Any) -> None: ...

    def add(self, attempts: Any) -> None: ...

    def start(self) -> None: ...

    def close(self, ended: Any, told: Any = None) -> None: ...

    def unsent(self) -> None: ...


class Watch:
    """Records, while it is open, every path that this process writes, creates, renames or removes."""

    def __init__(self) -> None:
        self.open, self.paths = False, set[str]()
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.open:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._add(path)
        elif event in ("os.mkdir", "os.truncate", "os.remove", "os.rmdir"):
            self._add(arguments[0])
        elif event in ("os.rename", "os.link", "os.symlink"):
            self._add(arguments[0])
            self._add(arguments[1])

    def _add(self, path: object) -> None:
        if isinstance(path, str | os.PathLike):
            self.paths.add(os.path.realpath(path))

    def outside(self, *folders: Path) -> list[str]:
        """Return the paths written outside these folders and outside the caches of Python and Matplotlib."""
        return [
            path
            for path in sorted(self.paths)
            if not {"__pycache__", "matplotlib"}.intersection(Path(path).parts)
            and path != os.devnull
            and not any(Path(path).is_relative_to(folder.resolve()) for folder in folders)
        ]


@functools.cache
def watch() -> Watch:
    """Return the only watch of this process: an audit hook cannot be removed."""
    return Watch()


@dataclass
class Ended:
    """The exit code and the output of a command."""

    code: object
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


class Terminal:
    """Runs commands in a project, in this process, without MLflow and figures; global state is restored.

    Args:
        project: the folder that commands run in.
        monkeypatch, capsys: pytest's fixtures.
    """

    def __init__(self, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.project, self.monkeypatch, self.capsys = project, monkeypatch, capsys
        for place in ("compare", "sweep.command"):
            monkeypatch.setattr(f"pipeline.{place}.PROJECT", project)
        monkeypatch.setattr(sweep_module, "SyncThread", NoSync)
        monkeypatch.setattr(sync_process, "launch", lambda first: None)
        monkeypatch.setattr(sweep_module, "code_state", lambda project: {})
        for module, figures in ((training_module, "point_figures"), (record_module, "sweep_figures")):
            monkeypatch.setattr(module, figures, lambda *arguments: [])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # so that it is removed afterwards

    def train(self, *arguments: str) -> Ended:
        """Run `python -m pipeline.train ARGUMENTS`."""
        command = TrainCommand()
        return self.type(command.train_point, "config", command.finish, *arguments)

    def predict(self, *arguments: str) -> Ended:
        """Run `python -m pipeline.predict ARGUMENTS`."""
        command = TrainCommand(predicts=True)
        return self.type(command.train_point, "config", command.finish, *arguments)

    def type(
        self, task: Callable[[DictConfig], object], name: str, finish: Callable[[], None], *arguments: str
    ) -> Ended:
        """Run an entry point, and check the properties that every command must have."""
        self.monkeypatch.chdir(self.project)
        self.monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.capsys.readouterr()
        watch().paths.clear()
        watch().open = True
        try:
            code: object = cli.run(task, name, finish)
        except SystemExit as error:  # argparse
            code = error.code
        finally:
            watch().open = False
            for number, handler in handlers.items():
                signal.signal(number, handler)
        ended = Ended(code, *self.capsys.readouterr())
        assert ended.code in (0, 1, 2), ended
        assert "Traceback" not in ended.out + ended.err
        assert len(ended.errors) == (1 if ended.code == 1 else 0), ended
        assert watch().outside(self.project) == []
        return ended


def refuses_without_results(stage: str, empty: Path, *more: str) -> None:
    """Check that a stage that reads results reports in one message that there are none, before any slow import."""
    program = (
        f"import sys; from pipeline import {stage}; from pipeline.system import cli; "
        f"code = cli.run({stage}.{stage}, '{stage}'); "
        "print([name for name in ('tensorflow', 'keras', 'mlflow', 'matplotlib') if name in sys.modules]); "
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, f"results={empty}", *more],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: There are no results in")
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() == "[]"
