"""The NumPy backend with arrays that are not NumPy's: always with a stand-in, and on a GPU if there is one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.backends.numpy.array_modules import array_module, to_host, uploaded
from pipeline.backends.numpy.maps.rate_map import blocks
from pipeline.backends.numpy.training import train
from pipeline.backends.shared.history import History
from pipeline.config.optimizer import OWN_TRAINING
from pipeline.config.reading import read_config
from pipeline.data.arrays import Arrays, load
from pipeline.points.identity import signature
from pipeline.system.errors import LabError
from tests.backends.test_numpy_one_network import images
from tests.backends.test_numpy_training import Keeper, assert_same
from tests.config.test_rules import fitting
from tests.support import device_arrays
from tests.support.described import SMALL as SMALL_ON_DATA
from tests.support.described import config_of, prepared
from tests.support.maps import SMALL, listed, trained_map
from tests.support.methods import OPTIMIZERS, SCHEDULES
from tests.support.trained import config, trained

GPU = "backend.array_module=cupy"
BITS = ("experiment=three_bits", "model.hidden_size=4", "training.epochs=30", "dtype=float64")
IMAGES = ("experiment=mnist", "training.epochs=3", "training.batch_size=16", "model.hidden_size=5", "dtype=float64")
DEEP = (*IMAGES, "model.further_hidden_sizes=[4]")
FEATURES: dict[str, tuple[str, ...]] = {
    "two hidden layers": (),
    "batch normalization": ("model.batch_normalization=true",),
    "left out by chance": ("model.dropout=0.3", "model.drop_connect=0.2"),
    "penalties": ("training.l1=0.001", "training.l2=0.01"),
    "clipped": ("training.clip_value=0.01", "training.clip_norm=0.02"),
    "without biases": ("model.bias=false",),
    "losses of updates and changes of direction": (
        "recording.update_losses=true",
        "recording.direction_changes=true",
        "recording.weight_metrics=true",
    ),
    **{name: (f"model.hidden_activation={name}",) for name in ("sigmoid", "tanh", "gelu", "leaky_relu", "softplus")},
    **OPTIMIZERS,
    **SCHEDULES,
}
MAPS: dict[str, tuple[str, ...]] = {
    "two rates": (),
    "rectifiers and biases": ("model.hidden_activation=relu", "model.bias=true", "loss=mean_squared_error"),
    "hidden sizes and seeds": (*listed("x", "model.hidden_size", "[2,3]"), *listed("y", "seed", "[1,2,3,4]")),
    "adam": ("optimizer=adam", *listed("y", "seed", "[1,2,3,4]"), "schedule=exponential"),
    "rates that diverge": ("model.output_activation=identity", "grid.x.logspace.stop=100000"),
}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    device_arrays.install(monkeypatch)


@pytest.fixture(scope="module")
def gpu() -> None:
    """CuPy itself, where it finds a GPU."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed (the extra `cuda` of pyproject.toml)")
    if not cupy.cuda.is_available():
        pytest.skip("CuPy finds no GPU")


def close(received: History, expected: History, rtol: float) -> None:
    """The same steps, tables and outcome; numbers within a share of themselves."""
    assert [(m.step, m.name) for m in received.metrics] == [(m.step, m.name) for m in expected.metrics]
    values, wanted = ([metric.value for metric in history.metrics] for history in (received, expected))
    np.testing.assert_allclose(values, wanted, rtol=rtol, atol=1e-12)
    assert list(received.snapshots) == list(expected.snapshots)
    for step, weights in expected.snapshots.items():
        for name, array in weights.items():
            np.testing.assert_allclose(received.snapshots[step][name], array, rtol=rtol, atol=rtol)
    assert received.diverged_step == expected.diverged_step
    assert received.tables.keys() == expected.tables.keys()
    for name, rows in expected.tables.items():
        assert [list(row) for row in received.tables[name]] == [list(row) for row in rows]
        found, wanted = ([value for row in table for value in row.values()] for table in (received.tables[name], rows))
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=1e-12)


def same_points(points: Sequence[tuple[str, ...]], arrays: Arrays | None, rtol: float) -> None:
    """Points of one stack, trained on the device and in memory."""
    there, here = (trained(*(config(*knobs, *more) for knobs in points), arrays=arrays) for more in ((GPU,), ()))
    for received, expected in zip(there, here, strict=True):
        close(received, expected, rtol)


def test_numpy_needs_no_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert array_module(config(*BITS)) is np
    assert array_module(config(*BITS, "backend=keras")) is np


def test_a_cupy_that_is_missing_is_reported_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    words = r"(?s)but CuPy or a library that it needs cannot be imported.*extra `cuda`.*received: .*cupy.*--extra cuda"
    with pytest.raises(LabError, match=words):
        array_module(config(*BITS, GPU))


def test_a_gpu_that_is_missing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    device_arrays.install(monkeypatch)

    def refuse(shape: object) -> None:
        raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    monkeypatch.setattr(sys.modules["cupy"], "ones", refuse)
    with pytest.raises(
        LabError, match=r"(?s)but CuPy finds no GPU that it can use.*NVIDIA GPU.*cudaErrorNoDevice.*array_module=numpy"
    ):
        array_module(config(*BITS, GPU))


def test_a_library_of_cuda_that_is_missing_is_reported_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    device_arrays.install(monkeypatch)

    def fail(*operands: object) -> None:
        raise ImportError("libcublasLt.so.12: no such file")

    monkeypatch.setattr(device_arrays.DeviceArray, "__matmul__", fail)
    with pytest.raises(
        LabError, match=r"(?s)CuPy or a library that it needs cannot be imported.*libcublasLt.*--extra cuda"
    ):
        array_module(config(*BITS, GPU))


def test_it_decides_what_a_point_is() -> None:
    assert signature(config(*BITS), {}) != signature(config(*BITS, GPU), {})


@pytest.mark.parametrize("method", OWN_TRAINING)
def test_a_method_that_computes_in_memory_is_refused(method: str) -> None:
    plain = config(*fitting(method)).model_dump(mode="json")
    plain["backend"]["array_module"] = "cupy"
    with pytest.raises(LabError, match=rf"optimizer: backend.array_module=cupy needs .*optimizer=adam.*{method}"):
        read_config(plain)


@pytest.mark.parametrize(
    ("study", "words"),
    [
        ("experiment=line_y2x", r"gradient: .*gradient=backpropagation.*received finite_difference"),
        ("experiment=curve_stuck", r"data: .*data=three_bits.*received curve"),
        ("experiment=curve_basins", r"data: .*data=three_bits.*received curve"),
    ],
)
def test_differences_and_curves_are_refused(study: str, words: str) -> None:
    with pytest.raises(LabError, match=words):
        config(study, GPU)


def test_the_data_set_is_uploaded_as_numbers(stand_in: None, tiny_images: Arrays) -> None:
    grey = replace(tiny_images, train_inputs=np.arange(12, dtype=np.uint8).reshape(2, 6), dtype="float64")
    there = uploaded(grey, array_module(config(*BITS, GPU)))
    assert type(there.train_inputs) is not np.ndarray
    np.testing.assert_array_equal(to_host(there.train_inputs), grey.scaled(grey.train_inputs))
    np.testing.assert_array_equal(to_host(there.train_targets), grey.train_targets)
    assert uploaded(grey, np) is grey


@pytest.mark.parametrize("case", FEATURES)
def test_minibatches_come_to_what_they_come_to_in_memory(case: str, stand_in: None, tiny_images: Arrays) -> None:
    same_points([(*DEEP, *FEATURES[case])], tiny_images, 1e-12)


def test_minibatches_of_a_table_come_to_the_same(stand_in: None) -> None:
    same_points([(*BITS, "model.hidden_activation=tanh", "training.batch_size=2")], None, 1e-12)


@pytest.mark.parametrize("batch_size", ["32", "null"])
@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("iris", "auto"),
        ("breast_cancer", "auto"),
        ("diabetes", "huber"),
        ("diabetes", "mean_absolute_error"),
        ("diabetes", "half_summed_squared_error"),
    ],
)
def test_the_losses_and_metrics_of_every_task_come_to_the_same(
    name: str, loss: str, batch_size: str, stand_in: None
) -> None:
    knobs = (*SMALL_ON_DATA, f"loss={loss}", f"training.batch_size={batch_size}", "dtype=float64")
    arrays = prepared(name).loaded("float64")
    (there,), (here,) = (trained(config_of(name, *knobs, *more), arrays=arrays) for more in ((GPU,), ()))
    close(there, here, 1e-9)


def test_pixels_that_are_dark_in_a_whole_batch_take_part(stand_in: None) -> None:
    same_points([DEEP], images("bytes"), 1e-9)


def test_a_plain_network_comes_to_what_its_own_kernel_comes_to(stand_in: None, tiny_images: Arrays) -> None:
    same_points([(*IMAGES, f"seed={seed}") for seed in (1, 2)], tiny_images, 1e-9)


@pytest.mark.parametrize("more", [(), ("recording.direction_changes=true",), ("schedule=reduce_on_plateau",)])
def test_small_networks_side_by_side_come_to_the_same(stand_in: None, more: tuple[str, ...]) -> None:
    same_points([(*BITS, *more, f"optimizer.learning_rate={rate}") for rate in (0.1, 1, 10)], None, 1e-12)


def test_a_point_that_diverges_does_so_at_the_same_update(stand_in: None) -> None:
    line = ("experiment=line_y2x", "gradient=backpropagation", "optimizer.learning_rate=3", "dtype=float64")
    with np.errstate(all="ignore"):
        (there,), (here,) = trained(config(*line, GPU)), trained(config(*line))
    assert here.diverged_step is not None
    close(there, here, 1e-12)


@pytest.mark.parametrize(
    "knobs", [(*DEEP, "model.batch_normalization=true", "optimizer=adam", "schedule=reduce_on_plateau"), BITS]
)
def test_training_that_was_stopped_goes_on_from_a_checkpoint_in_memory(
    knobs: tuple[str, ...], stand_in: None, tiny_images: Arrays
) -> None:
    point = config(*knobs, "recording.direction_changes=true", GPU)
    arrays = tiny_images if point.data.kind == "idx" else load(point.data, point.dtype, Path())
    whole, keeper, history = History(), Keeper(2), History()
    train([point], arrays, [whole], lambda epoch, loss: None)
    with pytest.raises(KeyboardInterrupt):
        train([point], arrays, [history], lambda epoch, loss: None, keeper)
    assert all(isinstance(array, np.ndarray | np.generic) for state in keeper.states for array in state.values())
    keeper.stop = np.inf
    train([point], arrays, [history], lambda epoch, loss: None, keeper)
    assert_same(history, whole)


@pytest.mark.parametrize("case", MAPS)
def test_a_map_is_what_it_is_in_memory(case: str, stand_in: None) -> None:
    same_map(MAPS[case], 1e-12)


def test_a_map_is_trained_in_large_blocks() -> None:
    larger = ("experiment=trainability_map", "grid.x.logspace.count=100", "grid.y.logspace.count=100")
    here, there = config(*larger), config(*larger, GPU)
    arrays = load(here.data, here.dtype, Path())
    assert len(blocks(here, arrays)) > 1
    assert len(blocks(there, arrays)) == 1
    assert len(blocks(config("experiment=trainability_map", GPU), arrays)) > 1  # with a checkpoint between them


def same_map(knobs: tuple[str, ...], rtol: float) -> None:
    one, other = config(*SMALL, *knobs, GPU), config(*SMALL, *knobs)
    with np.errstate(all="ignore"):
        there, here = trained_map(one).map_arrays, trained_map(other).map_arrays
    for name, array in here.items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(there[name], array, rtol=rtol)
        else:
            np.testing.assert_array_equal(there[name], array)


def test_the_stand_in_has_nothing_that_cupy_lacks() -> None:
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed (the extra `cuda` of pyproject.toml)")
    import cupyx.scipy.special

    for name in device_arrays.UFUNCS:
        assert callable(getattr(cupyx.scipy.special if name == "erf" else cupy, name)), name
    for name in (*device_arrays.FUNCTIONS, *device_arrays.MAKERS):
        assert callable(getattr(cupy, name)), name
    for name in (*device_arrays.METHODS, "get", "shape", "ndim", "dtype", "size", "T"):
        assert hasattr(cupy.ndarray, name), name
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)
    assert issubclass(cupy.cuda.runtime.CUDARuntimeError, RuntimeError)


@pytest.mark.gpu
@pytest.mark.parametrize("case", FEATURES)
def test_minibatches_on_a_gpu(case: str, gpu: None, tiny_images: Arrays) -> None:
    same_points([(*DEEP, *FEATURES[case])], tiny_images, 1e-6)


@pytest.mark.gpu
def test_small_networks_side_by_side_on_a_gpu(gpu: None) -> None:
    same_points([(*BITS, f"optimizer.learning_rate={rate}") for rate in (0.1, 1, 10)], None, 1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("case", MAPS)
def test_a_map_on_a_gpu(case: str, gpu: None) -> None:
    same_map(MAPS[case], 1e-6)
