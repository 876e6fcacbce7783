"""The benchmarks: their arithmetic and output, and that programs that are compared give the same results."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from benchmarks import __main__ as program
from benchmarks import (
    commands,
    growth,
    mnist,
    peak_memory,
    plain_script,
    small_networks,
    threads,
    tracked_grids,
    tracked_loops,
    untracked,
)
from benchmarks.growth import Growth, Series, grow
from benchmarks.measuring import Benchmark, Contenders, NotMeasured, Result, exponent, measure, peer, spread
from benchmarks.report import goal, growth_lines, render, row
from pipeline.backends.numpy.training import train
from pipeline.backends.shared.history import History
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT
from tests.support.trained import config, trained

Make = Callable[..., Benchmark]


@pytest.fixture(autouse=True)
def no_search_for_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among the objects of all tests, each search between two measurements takes seconds."""
    monkeypatch.setattr("benchmarks.measuring.gc.collect", lambda: 0)


@pytest.fixture
def make() -> Make:
    """A benchmark whose contenders give numbers from lists; `log` tells what happened in which order."""

    def benchmark(
        name: str, ours: Any = (1.0,), theirs: Any = (2.0,), log: list[str] | None = None, **more: Any
    ) -> Benchmark:
        happened = [] if log is None else log

        def contender(side: str, numbers: Any) -> Callable[[], float]:
            left = iter(numbers)

            def once() -> float:
                happened.append(side)
                return float(next(left))

            return once

        @contextmanager
        def ready() -> Iterator[Contenders]:
            yield Contenders(contender("ours", ours), contender("theirs", theirs))
            happened.append("over")

        return Benchmark(name, f"what {name} does", "another", 0.9, "As it is.", ready, **more)

    return benchmark


# --- arithmetic


def test_a_ratio_is_of_medians_and_a_goal_that_is_reached_is_met(make: Make) -> None:
    result = measure(make("one", [9, 1, 3], [100, 5, 6]), 3)
    assert (result.ours, result.theirs) == ([9, 1, 3], [100, 5, 6])
    assert result.ratio == 3 / 6
    assert result.met
    assert Result(result.benchmark, [0.9], [1.0]).met
    assert not Result(result.benchmark, [0.91], [1.0]).met


def test_contenders_take_turns_and_are_taken_away(make: Make) -> None:
    log: list[str] = []
    measure(make("one", [1] * 3, [1] * 3, log), 3)
    assert log == ["ours", "theirs", "theirs", "ours", "ours", "theirs", "over"]


@pytest.mark.parametrize(("asked", "most", "made"), [(3, 2, 2), (1, 2, 1), (2, 100, 2)])
def test_what_takes_long_has_fewer_rounds(make: Make, asked: int, most: int, made: int) -> None:
    assert len(measure(make("one", [1] * 3, [1] * 3, most_rounds=most), asked).ours) == made


@pytest.mark.parametrize("power", [0, 1, 2.5, -0.5])
def test_an_exponent_is_that_of_the_power(power: float) -> None:
    sizes = [10, 30, 100, 1000]
    assert exponent(sizes, [7 * size**power for size in sizes]) == pytest.approx(power, abs=1e-12)


def test_an_exponent_is_a_least_squares_fit() -> None:
    sizes, values = [1, 2, 5, 9], [3.0, 5.0, 20.0, 21.0]
    assert exponent(sizes, values) == pytest.approx(np.polyfit(np.log(sizes), np.log(values), 1)[0])
    assert math.isnan(exponent(sizes, [1.0, 2.0, 0.0, 4.0]))


def test_growth_is_the_median_of_rounds_above_the_bare_process(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([(1, 10), (2, 20), (5, 30), (4, 60), (3, 11), (9, 70)])
    asked = []

    def run(command: Any) -> str:
        asked.append(command[-1])
        seconds, mebibytes = next(answers)
        return json.dumps({"seconds": seconds, "before": 2**20, "peak": (mebibytes + 1) * 2**20})

    monkeypatch.setattr(growth, "run", run)
    found = grow(Series("rows", "all else", (1, 2), lambda size: [f"rows={size}"]), rounds=growth.ROUNDS)
    assert asked == ["rows=1", "rows=2"] * 3
    assert (found.seconds, found.memory) == ([3, 4], [11, 60])
    assert found.exponents == pytest.approx((math.log2(4 / 3), math.log2(60 / 11)))


def test_the_first_epoch_is_left_out() -> None:
    assert mnist.per_epoch([100.0, 101.0, 104.0]) == 2


# --- what is told


def test_spread_and_goals() -> None:
    assert spread([1.5, 1.0, 30.0]) == "1.5 (1 to 30)"
    assert [goal(value) for value in (1 / 8, 0.9, 1.05)] == ["<= 1/8", "<= 0.9", "<= 1.05"]


def test_a_row_of_the_terminal(make: Make) -> None:
    one = make("one", unit="MiB")
    words = " ".join(row(Result(one, [1, 2, 3], [4])).split())
    assert words == "one 0.500 <= 0.9 met 2 (1 to 3) MiB 4 (4 to 4) MiB"
    assert " missed " in row(Result(one, [5], [4]))
    assert row(Result(one, missing="torch is not installed")).split(maxsplit=1) == [
        "one",
        "not measured: torch is not installed",
    ]


def test_the_report_has_every_row_and_how_it_was_measured(make: Make) -> None:
    results = [
        Result(make("good"), [1.0, 1.2, 1.1], [2.0, 2.0, 2.0]),
        Result(make("bad"), [3.0], [2.0]),
        Result(make("absent"), missing="jax is not installed (pip install -r benchmarks/peers.txt)"),
    ]
    grown = Growth(Series("grid points", "all else", (10, 1000), lambda size: []), [1.0, 10.0], [5.0, -1.0])
    text = render(results, [grown], {"CPU": "a fast one"}, {"numpy": "2.0", "jax": "not installed"}, {"commit": "abc"})
    assert "Of 3 goals 1 are met, 1 missed and 1 not measured." in text
    assert (
        "| `good` | what good does | another | <= 0.9 | **0.550** | met | 1.1 (1 to 1.2) s | 2 (2 to 2) s | 3 |\n"
        "| `bad` | what bad does | another | <= 0.9 | **1.500** | missed | 3 (3 to 3) s | 2 (2 to 2) s | 1 |\n"
        "| `absent` | what absent does | another | <= 0.9 |  | not measured: jax is not installed (pip install -r "
        "benchmarks/peers.txt) |  |  |  |\n"
    ) in text
    assert text.count("As it is.") == 3
    assert list(growth_lines(grown)) == [
        "| grid points | 10 | 1,000 | exponent |",
        "| --- | ---: | ---: | ---: |",
        "| seconds | 1 | 10 | 0.50 |",
        "| MiB | 5 | -1 | none |",
    ]
    assert "\n".join(growth_lines(grown)) in text
    assert "- CPU: a fast one\n- commit: abc\n- versions: numpy 2.0, jax not installed\n" in text


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("torch", "torch"),
        ("jax", "jax"),
        ("sklearn.neural_network", "scikit-learn"),
        ("optuna", "optuna"),
        ("ray.tune", "ray[tune]"),
        ("lightning", "lightning"),
    ],
)
def test_a_peer_that_is_missing_is_said(module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    told = rf"^{re.escape(package)} is not installed \(pip install -r benchmarks/peers.txt\)$"
    with pytest.raises(NotMeasured, match=told):
        peer(module)
    assert f"\n{package}==" in (PROJECT / "benchmarks" / "peers.txt").read_text()


def test_a_row_without_its_peer_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    [benchmark] = [one for one in small_networks.BENCHMARKS if one.name == "ten_thousand_rates"]
    result = measure(benchmark, 1)
    assert "not measured: jax is not installed" in row(result)
    assert not result.met


@pytest.mark.parametrize("name", ["gpu_mnist", "gpu_map"])
def test_a_row_without_its_gpu_is_in_the_table(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    [benchmark] = [one for one in program.ALL if one.name == name]
    assert (
        "not measured: backend.array_module=cupy trains on a GPU, but CuPy or a library that it needs cannot be "
        "imported."
    ) in row(measure(benchmark, 1))


def test_data_that_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (mnist, commands):
        monkeypatch.setattr(module, "PROJECT", tmp_path)
    mnist.without_test_rows.cache_clear()
    for name in ("mnist_floor", "tracking", "memory"):
        [benchmark] = [one for one in program.ALL if one.name == name]
        assert "MNIST is not prepared" in measure(benchmark, 1).missing


# --- the command


@pytest.fixture
def some(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two benchmarks and no series in the place of the real ones; where the report goes."""
    monkeypatch.setattr(program, "ALL", [make("first"), make("second")])
    monkeypatch.setattr(growth, "SERIES", ())
    monkeypatch.setattr(program, "REPORT", tmp_path / "benchmarks.md")
    return tmp_path / "benchmarks.md"


def test_all_of_them_are_printed_and_written(some: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--rounds", "1"]) == 0
    printed, written = capsys.readouterr().out, some.read_text()
    for name in ("first", "second"):
        assert printed.count(f"\n{name} ") == 1
        assert written.count(f"\n| `{name}` |") == 1
    assert "- cores: " in written
    assert "python 3." in written


def test_some_of_them_are_printed_and_not_written(some: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some.write_text("as it was")
    assert program.main(["--only", "second", "--rounds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "\nsecond " in printed
    assert "first" not in printed
    assert some.read_text() == "as it was"


@pytest.mark.parametrize("arguments", [["--only", "thrid"], ["--rounds", "0"], ["--rounds", "x"]])
def test_wrong_arguments(some: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        program.main(arguments)
    assert not some.exists()


@pytest.mark.parametrize(("error", "code", "told"), [(LabError("dvc failed."), 1, "error: dvc failed."),
                                                     (KeyboardInterrupt(), 130, "interrupted")])  # fmt: skip
def test_a_run_that_breaks_off_writes_nothing(
    some: Path, error: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fail(*arguments: Any) -> Result:
        raise error

    monkeypatch.setattr(program, "measure", fail)
    assert program.main([]) == code
    assert capsys.readouterr().err.startswith(told)
    assert not some.exists()


def test_the_list_has_every_goal(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--list"]) == 0
    listed = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert [(name, bound) for name, _, bound in listed[:-1]] == [
        ("three_bits", "1/8"),
        ("ten_thousand_rates", "0.6"),
        ("points_in_threads", "0.55"),
        ("busy_machine", "2.2"),
        ("mnist_floor", "1.1"),
        ("mnist_torch", "0.85"),
        ("mnist_sklearn", "0.8"),
        ("mnist_keras_fit", "0.8"),
        ("keras_backend", "1.05"),
        ("gpu_mnist", "0.5"),
        ("gpu_map", "0.5"),
        ("sweep", "0.6"),
        ("tracking", "1.05"),
        ("nothing_to_do", "3"),
        ("dry_run", "3"),
        ("show_config", "1.5"),
        ("repro", "1.5"),
        ("toy_point", "1.5"),
        ("grid_keras_loop", "1/5"),
        ("grid_through_keras", "0.8"),
        ("grid_optuna", "1/5"),
        ("grid_ray_tune", "1/5"),
        ("grid_lightning", "1/5"),
        ("memory", "1.5"),
        ("memory_together", "1.6"),
    ]
    assert listed[-1][0] == "growth"


# --- what is measured


@pytest.mark.parametrize("rate", plain_script.RATES)
def test_the_plain_script_computes_what_the_pipeline_does(rate: float) -> None:
    with np.errstate(over="ignore"):
        plain = plain_script.train(rate, 4, 100)
    [history] = trained(config("experiment=three_bits", "model.hidden_size=4", "training.epochs=100",
                               f"optimizer.learning_rate={rate}"))  # fmt: skip
    nearly = 1e-4 if rate == 100 else 1e-11  # at 100 each step makes more of what was rounded before
    for place, array in enumerate(plain):
        np.testing.assert_allclose(array, history.snapshots[100][f"layer_{place}/weights"], rtol=nearly)


def test_jax_computes_what_the_plain_script_does() -> None:
    pytest.importorskip("jax")
    rates = np.array([0.1, 1, 10])
    both = small_networks.jax_training(*small_networks.three_bits(100))(rates, rates)
    for point, rate in enumerate(rates):
        for array, expected in zip(both, plain_script.train(rate, 4, 100), strict=True):
            np.testing.assert_allclose(array[point], expected, rtol=1e-9)


def test_the_script_prints_the_errors_of_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    plain_script.train_all([4], 1)
    errors = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert errors == pytest.approx([0.496410031903] * 7, abs=1e-12)


def test_points_side_by_side_are_those_of_the_study() -> None:
    points = [point for stack in threads.stacks() for point in stack]
    assert len({(point.optimizer.name, json.dumps(point.optimizer.model_dump())) for point in points}) == 120


def test_the_points_differ_in_their_rates_alone() -> None:
    one = untracked.composed("experiment=three_bits")
    assert one == config("experiment=three_bits")
    assert [point.optimizer.learning_rate for point in untracked.with_rates(one, [0.5, 2])] == [0.5, 2.0]
    assert untracked.with_rates(one, [one.optimizer.learning_rate]) == [one]


def test_epochs_end_one_after_the_other() -> None:
    images = untracked.made_up_images(64)
    ends = untracked.train_points(train, [config("training.epochs=3", "model.hidden_size=2")], images)
    assert len(ends) == 3
    assert 0 < ends[0] < ends[1] < ends[2]


def test_training_without_anything_around_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[History] = []

    def spy(points: Any, arrays: Any, histories: list[History], report: Any) -> None:
        train(points, arrays, histories, report)
        seen.extend(histories)

    monkeypatch.setattr(untracked, "train", spy)
    monkeypatch.setattr(sys, "argv", ["", "--rates=3", "experiment=three_bits", "training.epochs=2"])
    untracked.main()
    told = json.loads(capsys.readouterr().out)
    assert told["seconds"] > 0
    assert told["peak"] >= told["before"]
    assert [history.epochs for history in seen] == [2, 2, 2]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured on Linux only")
def test_peak_memory_is_that_of_the_processes_below_too(tmp_path: Path) -> None:
    hold = "import time; held = b'x' * 2**26; time.sleep(0.5)"
    below = f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {hold!r}]); {hold}; child.wait()"
    largest, together = peak_memory.peaks([sys.executable, "-c", below], tmp_path)
    assert 64 < largest < 120
    assert together > 128


def test_a_command_that_fails_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('out of luck')"]
    for attempt in (commands.run, peak_memory.peaks):
        with pytest.raises(LabError, match="out of luck"):
            attempt(command, tmp_path)


def test_a_fresh_project_has_code_and_no_runs() -> None:
    with commands.fresh_project() as folder:
        assert (folder / "pipeline" / "train.py").exists()
        assert not (folder / "mlruns").exists()
        assert not (folder / ".points").exists()
    assert not folder.exists()


def test_what_memory_is_held_to() -> None:
    """70,000 rows of 784, and three times 784 x 1000 + 1000 + 1000 x 10 + 10, of four bytes."""
    assert peak_memory.BASE * 2**20 == 4 * (70_000 * 784 + 3 * 795_010)


def test_others_train_the_grid_of_the_study(tmp_path: Path) -> None:
    (tmp_path / "grid.json").write_text(json.dumps(tracked_grids.values()))
    params = {tuple(point.items()) for point in tracked_loops.points(tmp_path)}
    assert len(params) == 54
    assert (("learning_rate", 0.03), ("hidden_size", 64), ("seed", 2)) in params
    typed = tracked_grids.lightning(tmp_path)
    assert typed[-3:] == (
        "learning_rate=0.0003,0.001,0.003,0.01,0.03,0.1", "hidden_size=16,64,256", "seed=1,2,3",
    )  # fmt: skip


@pytest.mark.slow
def test_a_loop_of_others_tracks_every_point(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows: dict[str, Any] = {f"{name}_inputs": generator.random((20, 3), np.float32) for name in ("train", "validation")}
    rows |= {f"{name}_targets": generator.integers(0, 10, 20) for name in ("train", "validation")}
    np.savez(tmp_path / "rows.npz", **rows)
    (tmp_path / "grid.json").write_text('{"learning_rate": [0.1, 0.01], "hidden_size": [2], "seed": [1]}')
    (tmp_path / "settings.json").write_text('{"epochs": 3, "batch_size": 8}')
    commands.run(tracked_grids.loop("keras", tmp_path))
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    [experiment] = [one for one in client.search_experiments() if one.name == "grid"]
    runs = client.search_runs([experiment.experiment_id])
    assert {run.data.params["learning_rate"] for run in runs} == {"0.1", "0.01"}
    assert all(len(client.get_metric_history(run.info.run_id, "val_loss")) == 3 for run in runs)


def test_the_floor_counts_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 59.0])
    monkeypatch.setattr(mnist, "ROWS", 1536)
    monkeypatch.setattr("benchmarks.mnist.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert mnist.floor() == pytest.approx(59 * 1.5 / 2)
