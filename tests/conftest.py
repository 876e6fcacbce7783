"""Shared fixtures: an environment without windows and remote stores, a tiny data set, a project to run in."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, settings
from matplotlib import get_cachedir

from pipeline.data.arrays import Arrays
from pipeline.system import last_line
from pipeline.system.signals import NOTICES, SIGNALS
from pipeline.system.terminal import TerminalHandler
from tests.support.once import copy_of_the_project, made_once

os.environ["MPLBACKEND"] = "Agg"
os.environ["MPLCONFIGDIR"] = get_cachedir()  # for commands with a home of their own: the list of fonts takes seconds
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "HYDRA_FULL_ERROR"):
    os.environ.pop(name, None)
# A shell ignores SIGINT in what it starts in the background (`make test &`), and nohup ignores SIGHUP. Commands that
# tests start inherit what is ignored, and would never hear these signals; they do not inherit a handler.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)
# A busy machine is no failure. At home new examples are tried each time. In CI the tests of a change use fixed ones, so
# that the result does not depend on luck; `make examples` tries new ones, in a step of its own.
# Before Python 3.12 the phase that explains a failure traces every line, until the test runs out of time.
PHASES = [phase for phase in Phase if phase != Phase.explain]
settings.register_profile("lab", deadline=None, phases=PHASES, derandomize="CI" in os.environ)
settings.register_profile("new", deadline=None, phases=PHASES, derandomize=False, print_blob=True)
settings.load_profile("lab")
# The tests that the last run skipped, in pytest's cache.
SKIPPED = "lab/skipped"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --only-skipped, for a run after what the skipped tests need was installed."""
    parser.addoption("--only-skipped", action="store_true", help="run only the tests that the last run skipped")


def pytest_configure(config: pytest.Config) -> None:
    """Collect the names of skipped tests in the process that starts the others."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkippedTests(config), "skipped-tests")


class SkippedTests:
    """Writes the names of the skipped tests into pytest's cache when the run ends.

    Args:
        config: the configuration of the run.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.cache = config.cache
        self.names: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that was skipped."""
        if report.skipped:
            self.names.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Replace the names of the run before."""
        if self.cache is not None:
            self.cache.set(SKIPPED, sorted(self.names))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put files with the most slow tests first: a worker takes a whole file, and none should begin the longest last."""
    if config.getoption("only_skipped"):
        if config.cache is None:
            raise pytest.UsageError("--only-skipped needs pytest's cache")
        wanted = set(config.cache.get(SKIPPED, []))
        items[:] = [item for item in items if item.nodeid in wanted]
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


class Imports:
    """Keeps what imports have made out of every search for garbage.

    Keras begins each training with such a search, which takes 0.2 s among all that TensorFlow and MLflow hold. Tests
    import these, and so they are noticed by the number of modules.

    Attributes:
        modules: how many modules there were when this was last done.
    """

    MANY = 200

    def __init__(self) -> None:
        self.modules = 0

    def leave_out(self) -> None:
        """Leave out what there is now, if many modules have been imported since the last time."""
        if len(sys.modules) >= self.modules + self.MANY:
            self.modules = len(sys.modules)
            gc.collect()
            gc.freeze()


imports = Imports()


def pytest_collection_finish() -> None:
    """Leave out what the modules of the tests import."""
    imports.leave_out()


@pytest.fixture(autouse=True)
def imports_are_no_garbage() -> None:
    """Leave out what the tests before have imported."""
    imports.leave_out()


@pytest.fixture(autouse=True)
def streams_stay_open() -> None:
    """Keep TensorFlow's logging handler from closing the stream that pytest captures when Hydra sets up logging."""
    if "absl.logging" in sys.modules:
        sys.modules["absl.logging"].get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(autouse=True)
def signals_are_handled_as_before() -> Iterator[None]:
    """Undo what a command does to signals as it ends, for the tests and processes after it."""
    before = {number: signal.getsignal(number) for number in (*SIGNALS, *NOTICES)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def messages_are_shown() -> None:
    """Set up the log as conf/hydra/job_logging/terminal.yaml does, for tests that call what a command calls."""
    logger = logging.getLogger("pipeline")
    logger.handlers = [TerminalHandler()]
    logger.setLevel(logging.INFO)
    logger.propagate = False


@pytest.fixture(autouse=True)
def no_network_is_kept() -> None:
    """Forget the compiled Keras networks of the tests before, which a test may have patched."""
    if "pipeline.backends.keras.building" in sys.modules:
        sys.modules["pipeline.backends.keras.building"].kept.clear()


@pytest.fixture
def syncs_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End with the test the sync threads that it has started, for tests in which a sweep or a worker is broken off."""
    from pipeline.tracking.sync.thread import SyncThread

    real, started, earlier = SyncThread.start, [], threading.enumerate()

    def start(self: SyncThread) -> None:
        started.append(self)
        real(self)

    monkeypatch.setattr(SyncThread, "start", start)
    yield
    for thread in started:
        thread.sync.stop.set()
    for running in threading.enumerate():
        if running.name == "sync" and running not in earlier:
            running.join()


@pytest.fixture(autouse=True)
def slow_steps_are_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print no line of progress where a busy machine is slow: a test that wants one sets its own limit."""
    monkeypatch.setattr(last_line, "QUIET_SECONDS", 1e6)


@pytest.fixture(scope="session")
def tiny_images() -> Arrays:
    """Data like MNIST, small: 50 + 13 rows of 6 numbers between 0 and 1, of 4 classes that can be told apart."""
    random = np.random.default_rng(0)
    centres = random.uniform(0, 1, (4, 6))
    labels = random.integers(0, 4, 63)
    inputs = (centres[labels] + random.uniform(0, 0.3, (63, 6))).clip(0, 1).astype(np.float32)
    return Arrays(inputs[:50], labels[:50], inputs[50:], labels[50:], 4, {"table": "0" * 64})


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A copy of all that `python -m pipeline.train` needs, in a folder where its runs may go."""
    return copy_of_the_project(tmp_path / "lab", "published")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store without runs; making one takes seconds, copying it none."""
    from pipeline.config.schema import Tracking
    from pipeline.tracking.tracker import Tracker

    def make(project: Path) -> None:
        Tracker(Tracking(name="local", uri=None), "unused", project)
        # With an experiment, each copy would be a store that was copied from here.
        with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as database, database:
            database.execute("DELETE FROM experiments WHERE name = 'unused'")

    return made_once(tmp_path_factory, "store", make) / "mlruns" / "mlflow.db"


@pytest.fixture
def project(tmp_path: Path, empty_store: Path) -> Path:
    """A folder with an MLflow store that is ready."""
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_store, tmp_path / "mlruns" / "mlflow.db")
    return tmp_path


@pytest.fixture(scope="module")
def sketched() -> Iterator[None]:
    """Sweeps whose figures, one of each point and one of all, take no time; for tests that do not look at them."""
    from tests.support.swept import sketch_figures

    with pytest.MonkeyPatch.context() as patch:
        sketch_figures(patch)
        yield


@pytest.fixture(scope="module")
def plain_runs() -> Iterator[None]:
    """Sweeps that put little into MLflow, see `make_plain`; for tests that look at no image, and load no model."""
    from tests.support.swept import make_plain

    with pytest.MonkeyPatch.context() as patch:
        make_plain(patch)
        yield
