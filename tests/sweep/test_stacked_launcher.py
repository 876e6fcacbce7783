"""The launcher and its sweeper: Hydra's own test suites for launchers, and their additional features."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir, version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import ConfigCompositionException
from hydra.plugins.launcher import Launcher
from hydra.test_utils.launcher_common_tests import IntegrationTestSuite, LauncherTestSuite
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT

pytestmark = [
    pytest.mark.filterwarnings("ignore:(?s).*version_base:UserWarning"),
    pytest.mark.filterwarnings("ignore:(?s).*automatic_schema_matching:UserWarning"),
    pytest.mark.filterwarnings("ignore:Future Hydra versions:UserWarning"),
]
TARGET = {"_target_": "hydra_plugins.stacked_launcher.StackedLauncher"}


@pytest.fixture(autouse=True)
def in_config_store(hydra_restore_singletons: None) -> None:
    """Hydra's suites run apps that know nothing of our conf/: for them the launcher is in the ConfigStore."""
    ConfigStore.instance().store("stacked", TARGET, group="hydra/launcher")
    # The suites expect this version, whatever other tests have set.
    version.setbase("1.1")


def test_hydra_finds_the_launcher() -> None:
    found = {f"{launcher.__module__}.{launcher.__qualname__}" for launcher in Plugins.instance().discover(Launcher)}
    assert TARGET["_target_"] in found


@pytest.mark.parametrize(("launcher_name", "overrides"), [("stacked", [])])
class TestLikeAnyLauncher(LauncherTestSuite):
    """Hydra's conformance suite, task by task."""


def stack_of(configs: Sequence[DictConfig], total: int | None) -> list[int]:
    return [100 for _ in configs]


@pytest.mark.parametrize(("launcher_name", "overrides"), [("stacked", [])])
class TestLikeAnyLauncherInOneCall(LauncherTestSuite):
    """The same for a task that is called with all points."""

    @pytest.fixture(autouse=True)
    def stacked(self, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
        # The task of that test returns something else.
        if "custom_resolver" not in request.node.name:
            monkeypatch.setattr(
                "hydra.test_utils.test_utils.SweepTaskFunction.train_all", staticmethod(stack_of), raising=False
            )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [({}, ["-m", f"hydra.searchpath=[file://{PROJECT / 'conf'}]", "hydra/launcher=stacked"])],
)
class TestLikeAnyLauncherFromTheCommandLine(IntegrationTestSuite):
    """Hydra's suite of apps that are run as scripts."""

    @pytest.fixture(autouse=True)
    def path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", str(PROJECT))


# --- beyond the suites


Launch = Callable[[Callable[[DictConfig], Any], list[list[str]]], Sequence[JobReturn]]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Return a function that runs points of an app with the keys a and b, and returns their jobs.

    Example:
        launch(task, [["a=1"], ["a=2"]])
    """
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text(
        "defaults: [_self_, {override hydra/launcher: stacked}]\na: 0\nb: 0\n"
    )

    def run(task: Callable[[DictConfig], Any], points: list[list[str]]) -> Sequence[JobReturn]:
        with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3", job_name="app"):
            hydra = GlobalHydra.instance().hydra
            assert isinstance(hydra, Hydra)
            overrides = [f"hydra.sweep.dir={tmp_path / 'out'}"]
            config = hydra.compose_config("config", overrides, RunMode.MULTIRUN, with_log_configuration=False)
            context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
            launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=config)
            return launcher.launch(points, initial_job_idx=0)

    yield run
    GlobalHydra.instance().clear()


class Task:
    """A task that can be called with all points; `answer` gives each point's result."""

    def __init__(self, answer: Callable[[DictConfig], Any]) -> None:
        self.answer = answer
        self.calls: list[list[tuple[int, int]]] = []
        self.single: list[int] = []

    def __call__(self, config: DictConfig) -> Any:
        self.single.append(config.a)

    def train_all(self, configs: Sequence[DictConfig], total: int | None) -> list[Any]:
        self.calls.append([(config.a, config.b) for config in configs])
        assert [config.hydra.job.num for config in configs] == list(range(len(configs)))
        return [self.answer(config) for config in configs]


def test_train_all_is_called_once_with_all_points(launch: Launch, tmp_path: Path) -> None:
    task = Task(lambda config: config.a * 10 + config.b)
    points = [(3, 5), (3, 4), (1, 5), (1, 4), (2, 5), (2, 4)]
    jobs = launch(task, [[f"a={a}", f"b={b}"] for a, b in points])
    assert task.calls == [points]
    assert task.single == []
    assert [job.return_value for job in jobs] == [35, 34, 15, 14, 25, 24]
    assert [job.overrides for job in jobs] == [[f"a={a}", f"b={b}"] for a, b in task.calls[0]]
    assert [job.cfg for job in jobs] == [{"a": a, "b": b} for a, b in task.calls[0]]
    for number, job in enumerate(jobs):
        assert job.status == JobStatus.COMPLETED
        assert job.hydra_cfg is not None
        assert job.hydra_cfg.hydra.runtime.output_dir == str(tmp_path / "out" / str(number))
        assert (tmp_path / "out" / str(number) / ".hydra" / "overrides.yaml").exists()


def test_nothing_to_do_leaves_no_jobs(launch: Launch, tmp_path: Path) -> None:
    task = Task(lambda config: config.a)
    vars(task)["idle"] = True
    jobs = launch(task, [["a=1"], ["a=2"]])
    assert [job.return_value for job in jobs] == [1, 2]
    assert not [path for path in (tmp_path / "out").iterdir() if path.is_dir()]


def test_an_exception_for_one_point_leaves_the_others(launch: Launch) -> None:
    failure = RuntimeError("this one failed")
    task = Task(lambda config: failure if config.a == 2 else config.a)
    first, second, third = launch(task, [["a=1"], ["a=2"], ["a=3"]])
    assert (first.return_value, third.return_value) == (1, 3)
    assert second.status == JobStatus.FAILED
    with pytest.raises(RuntimeError, match="this one failed"):
        _ = second.return_value


def test_an_exception_of_the_whole_call_goes_through(launch: Launch) -> None:
    def interrupted(config: DictConfig) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(Task(interrupted), [["a=1"], ["a=2"]])


def test_too_few_results_are_an_error(launch: Launch) -> None:
    task = Task(lambda config: 1)
    task.train_all = lambda configs, total: [1]  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="zip"):
        launch(task, [["a=1"], ["a=2"]])


def test_a_task_without_train_all_is_run_point_by_point(launch: Launch) -> None:
    seen: list[tuple[int, int]] = []

    def task(config: DictConfig) -> int:
        seen.append((config.a, HydraConfig.get().job.num))
        if config.a == 2:
            raise RuntimeError("this one failed")
        return int(config.a)

    jobs = launch(task, [["a=1"], ["a=2"], ["a=3"]])
    assert seen == [(1, 0), (2, 1), (3, 2)]
    assert [job.status for job in jobs] == [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.COMPLETED]


# The stacked launcher sets the values in copies of the config of the sweep.
@pytest.mark.parametrize(("launcher", "times"), [("stacked", 0), ("basic", 2)])
def test_how_often_hydra_composes_a_point_of_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str, times: int
) -> None:
    composed, run = [], []
    compose = ConfigLoaderImpl.load_sweep_config

    def compose_one(*given: Any, **named: Any) -> DictConfig:
        composed.append(given)
        return compose(*given, **named)

    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3", job_name="app"):
        monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", compose_one)
        hydra = GlobalHydra.instance().hydra
        assert isinstance(hydra, Hydra)
        flags = [f"hydra/launcher={launcher}", f"hydra.sweep.dir={tmp_path / 'out'}"]
        hydra.multirun("config", lambda config: run.append(config.seed), ["seed=1,2,3", *flags], False)
    GlobalHydra.instance().clear()
    assert run == [1, 2, 3]
    assert len(composed) == 3 * times


Sweep = Callable[..., list[tuple[str, str]]]
RATES = ["0.001", "0.01", "0.1", "1", "10", "100", "1000"]


@pytest.fixture
def points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[dict[str, str]]]]:
    """Return a function that gives the overrides of each point as the launcher gets them.

    Example:
        points("experiment=three_bits", "profile=small")
    """
    asked: list[Sequence[str]] = []

    def launch(self: Launcher, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        asked.extend(job_overrides)
        return []

    def points(*typed: str) -> list[dict[str, str]]:
        asked.clear()
        with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3", job_name="app"):
            hydra = GlobalHydra.instance().hydra
            assert isinstance(hydra, Hydra)
            flags = [f"hydra.sweep.dir={tmp_path / 'out'}"]
            hydra.multirun("config", lambda config: None, [*flags, *typed], False)
        return [dict(override.split("=") for override in point) for point in asked]

    for launcher in Plugins.instance().discover(Launcher):
        monkeypatch.setattr(launcher, "launch", launch)
    yield points
    GlobalHydra.instance().clear()


@pytest.fixture
def sweep(points: Callable[..., list[dict[str, str]]]) -> Sweep:
    """Return a function that gives the rates and hidden sizes of three_bits as the launcher gets them.

    Example:
        sweep("profile=small")
    """

    def asked(*typed: str) -> list[tuple[str, str]]:
        found = points("experiment=three_bits", *typed)
        return [(point["optimizer.learning_rate"], point["model.hidden_size"]) for point in found]

    return asked


@pytest.mark.parametrize(
    ("most", "kept"),
    [
        ("2", ["0.001", "1000"]),
        ("3", ["0.001", "1", "1000"]),
        ("4", ["0.001", "0.1", "10", "1000"]),
        ("6", ["0.001", "0.01", "0.1", "10", "100", "1000"]),
        ("7", RATES),
        ("8", RATES),
        ("null", RATES),
    ],
)
def test_a_grid_is_thinned_to_values_that_keep_the_ends(sweep: Sweep, most: str, kept: list[str]) -> None:
    asked = sweep(f"hydra.sweeper.values_per_axis={most}")
    assert asked == [(rate, size) for rate in kept for size in ("4", "32")]


def test_the_small_profile_thins_and_what_is_typed_keeps_all_its_values(sweep: Sweep) -> None:
    assert sweep("profile=small") == [(rate, size) for rate in RATES[::2] for size in ("4", "32")]
    typed = sweep("profile=small", "model.hidden_size=range(1,6)")
    assert typed == [(rate, size) for rate in RATES[::2] for size in "12345"]
    assert sweep("profile=small", "optimizer.learning_rate=3") == [("3", "4"), ("3", "32")]


def test_spaced_values_are_written_out_on_the_command_line_and_in_files(sweep: Sweep) -> None:
    asked = sweep("optimizer.learning_rate=0.5,logspace(1,100,3)", "model.hidden_size=geomspace(4,30,3)")
    assert asked == [(rate, size) for rate in ("0.5", "1", "10", "100") for size in ("4", "11", "30")]
    # As a file has it.
    params = "{optimizer.learning_rate:'logspace(0.0001,1,9)',model.hidden_size:'4,linspace(6,8,2)'}"
    asked = sweep(f"hydra.sweeper.params={params}", "hydra.sweeper.values_per_axis=3")
    assert asked == [(rate, size) for rate in ("0.0001", "0.01", "1") for size in ("4", "6", "8")]


def test_values_that_round_to_one_whole_number_are_refused(sweep: Sweep) -> None:
    with pytest.raises(LabError, match=r"(?s)model.hidden_size takes whole numbers.*received: 1, 1, 2, 2"):
        sweep("model.hidden_size=logspace(1,2,4)")


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("model.kernel_size=linspace(0.1,0.9,2)", ["0.1", "0.9"]),  # 3 by default, but a knob has no type
        ("model.filters=linspace(2,5,3)", ["2", "4", "5"]),
        ("+model.hidden_size=linspace(0.5,1.5,2)", ["0.5", "1.5"]),  # dense networks have a key of this name
    ],
)
def test_values_of_a_knob_of_ones_own_model_are_rounded_only_between_whole_ends(
    points: Callable[..., list[dict[str, str]]], axis: str, values: list[str]
) -> None:
    key = axis.partition("=")[0]
    assert [point[key] for point in points("model=convnet", "backend=keras", axis)] == values


def test_each_of_several_experiments_has_its_own_model(
    points: Callable[..., list[dict[str, str]]], tmp_path: Path
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "filters.yaml").write_text(
        "# @package _global_\ndefaults: [{override /model: convnet}, {override /backend: keras}]\n"
        "hydra: {sweeper: {params: {model.filters: 'linspace(2,5,3)'}}}\n"
    )
    asked = points("experiment=three_bits,filters", f"hydra.searchpath=[file://{tmp_path}]")
    assert [point["model.filters"] for point in asked if point["experiment"] == "filters"] == ["2", "4", "5"]


@pytest.mark.parametrize("most", ["1", "0", "-3", "2.5", "true", "few"])
def test_an_axis_keeps_its_two_ends_at_least(sweep: Sweep, most: str) -> None:
    with pytest.raises(LabError, match=r"(?s)values_per_axis cannot be used.*whole number from 2.*received: "):
        sweep(f"hydra.sweeper.values_per_axis={most}")


def test_an_error_of_composing_comes_before_a_point_is_trained(launch: Launch) -> None:
    task = Task(lambda config: 1)
    with pytest.raises(ConfigCompositionException, match="no_such_key"):
        launch(task, [["a=1"], ["no_such_key=2"]])
    assert task.calls == []


def test_launcher_and_sweeper_import_no_framework() -> None:
    """Every Hydra command imports them, `--help` too."""
    code = "import sys, hydra_plugins.stacked_sweeper; print({'mlflow', 'numpy', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
