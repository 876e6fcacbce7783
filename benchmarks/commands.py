"""Whole commands, each in a process of its own: the time from its start to its end, as a person waits for it."""

from __future__ import annotations

import compileall
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.measuring import Benchmark, Contenders, NotMeasured
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT

TRAIN = (sys.executable, "-m", "pipeline.train")
DVC = (sys.executable, "-m", "dvc")
MNIST_RUN = ("experiment=mnist", "optimizer.learning_rate=0.001")
HELLO = """\
import hydra


@hydra.main(version_base="1.3", config_path=".", config_name="config")
def main(config):
    print(config.greeting)


main()
"""


@contextmanager
def fresh_project() -> Iterator[Path]:
    """A copy of what `python -m pipeline.train` needs, without points and MLflow runs; the data is the project's."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        copy = Path(folder) / "project"
        for name in ("conf", "pipeline", "hydra_plugins", "published"):
            shutil.copytree(PROJECT / name, copy / name)
        (copy / "data").symlink_to(PROJECT / "data")
        compileall.compile_dir(copy, quiet=2)
        yield copy


def run(command: Sequence[str], folder: Path = PROJECT) -> str:
    """Run a command to its end, and return what it printed.

    Raises:
        LabError: it failed; with the end of what it said.
    """
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        told = "\n".join(done.stderr.splitlines()[-5:])
        raise LabError(f"{' '.join(command[1:])} ended with exit code {done.returncode}.", received=told)
    return done.stdout


def seconds(command: Sequence[str], folder: Path = PROJECT) -> float:
    """How long a command takes."""
    started = time.perf_counter()
    run(command, folder)
    return time.perf_counter() - started


def in_fresh_project(command: Sequence[str]) -> float:
    """How long a command takes in a project where nothing was trained."""
    with fresh_project() as folder:
        return seconds(command, folder)


def needs_mnist() -> None:
    """See that MNIST is prepared.

    Raises:
        NotMeasured: it is not.
    """
    if not (PROJECT / "data" / "prepared" / "mnist" / "data.json").exists():
        raise NotMeasured("MNIST is not prepared (dvc repro prepare@mnist)")


@contextmanager
def _sweep() -> Iterator[Contenders]:
    ours = (*TRAIN, "experiment=three_bits")
    yield Contenders(lambda: in_fresh_project(ours), lambda: seconds((sys.executable, "-m", "benchmarks.plain_script")))


@contextmanager
def _tracking() -> Iterator[Contenders]:
    needs_mnist()
    untracked = (sys.executable, "-m", "benchmarks.untracked", *MNIST_RUN)
    yield Contenders(lambda: in_fresh_project((*TRAIN, *MNIST_RUN, "hydra.mode=RUN")), lambda: seconds(untracked))


@contextmanager
def _hello_world() -> Iterator[Path]:
    """A folder with a Hydra application of six lines, app.py."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        hello = Path(folder)
        (hello / "app.py").write_text(HELLO, encoding="utf-8")
        (hello / "config.yaml").write_text("greeting: hello\n", encoding="utf-8")
        yield hello


@contextmanager
def _asked_again(*more: str) -> Iterator[Contenders]:
    typed = (*TRAIN, "experiment=three_bits", "training.epochs=200")
    with fresh_project() as folder, _hello_world() as hello:
        run(typed, folder)
        pair = Contenders(lambda: seconds((*typed, *more), folder), lambda: seconds((sys.executable, "app.py"), hello))
        pair.ours(), pair.theirs()
        yield pair


@contextmanager
def _config() -> Iterator[Contenders]:
    with _hello_world() as hello:
        pair = Contenders(
            lambda: seconds((*TRAIN, "--cfg", "job")),
            lambda: seconds((sys.executable, "app.py", "--cfg", "job"), hello),
        )
        pair.ours(), pair.theirs()
        yield pair


@contextmanager
def _repro() -> Iterator[Contenders]:
    if json.loads(run((*DVC, "status", "--json"))):
        raise NotMeasured("the project is not up to date (make reproduce first)")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        empty = Path(folder)
        run(("git", "init", "--quiet"), empty)
        run((*DVC, "init", "--quiet"), empty)
        for option in ("core.analytics", "core.check_update"):
            run((*DVC, "config", option, "false"), empty)
        (empty / "dvc.yaml").write_text("stages:\n  nothing:\n    cmd: 'true'\n", encoding="utf-8")
        run((*DVC, "repro", "--quiet"), empty)
        pair = Contenders(lambda: seconds((*DVC, "repro")), lambda: seconds((*DVC, "status"), empty))
        pair.ours(), pair.theirs()
        yield pair


BENCHMARKS = [
    Benchmark(
        "sweep",
        "the tracked three_bits sweep as a whole command, 14 points",
        "the plain script over the same points",
        0.6,
        "`python -m pipeline.train experiment=three_bits` in a fresh copy of the project, whose MLflow store it makes "
        "too, against `python -m benchmarks.plain_script`, which keeps nothing.",
        _sweep,
        most_rounds=3,
    ),
    Benchmark(
        "tracking",
        "a 20-epoch MNIST run with tracking, snapshots and plots",
        "the same run untracked",
        1.05,
        "`python -m pipeline.train experiment=mnist optimizer.learning_rate=0.001 hydra.mode=RUN` in a fresh copy of "
        "the project, against `python -m benchmarks.untracked`, which composes that config, loads the data and trains.",
        _tracking,
        most_rounds=3,
    ),
    Benchmark(
        "nothing_to_do",
        "a sweep of 14 points that are all done and in MLflow",
        "a Hydra hello-world",
        3.0,
        "`python -m pipeline.train experiment=three_bits training.epochs=200` in a copy of the project that has "
        "trained it, against `python app.py`; after each has run once more.",
        _asked_again,
    ),
    Benchmark(
        "dry_run",
        "the dry run of a sweep of 14 points that are all done",
        "a Hydra hello-world",
        3.0,
        "The same with dry_run=true.",
        partial(_asked_again, "dry_run=true"),
    ),
    Benchmark(
        "show_config",
        "python -m pipeline.train --cfg job",
        "a Hydra hello-world, --cfg job",
        1.5,
        "Two commands, after each has run once.",
        _config,
    ),
    Benchmark(
        "repro",
        "dvc repro with nothing to do",
        "dvc status of an empty stage",
        1.5,
        "`dvc repro` in the project, which must be up to date, against `dvc status` in a new git repository with one "
        "stage without dependencies or outputs that has run; both without DVC's analytics, after each has run once.",
        _repro,
    ),
]
