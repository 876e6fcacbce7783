"""The NumPy backend with its arrays on a GPU, beside itself in memory: an epoch of MNIST, and ten thousand networks."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from benchmarks.measuring import Benchmark, Contenders, NotMeasured
from benchmarks.mnist import BATCH, CLASSES, FEATURES, HIDDEN, numpy_epoch, without_test_rows
from benchmarks.small_networks import ITERATIONS, SIDE, rate_map
from benchmarks.untracked import composed
from pipeline.backends.numpy.array_modules import array_module
from pipeline.system.errors import LabError

GPU = "backend.array_module=cupy"


def check_gpu() -> None:
    """Make sure that CuPy and a GPU are there.

    Raises:
        NotMeasured: one of them is missing.
    """
    try:
        array_module(composed("experiment=mnist", GPU))
    except LabError as error:
        raise NotMeasured(f"{error.happened} {error.received}") from None


def epochs() -> AbstractContextManager[Contenders]:
    """Seconds of an epoch; what CuPy compiles, it compiles in the first one, which is left out."""
    check_gpu()
    arrays = without_test_rows()
    return nullcontext(Contenders(numpy_epoch(arrays, GPU), numpy_epoch(arrays)))


def maps() -> AbstractContextManager[Contenders]:
    """A map on each, in nanoseconds per point and iteration, after one that CuPy compiles its kernels in."""
    check_gpu()
    ours = rate_map(GPU)
    ours()
    return nullcontext(Contenders(ours, rate_map()))


BENCHMARKS = [
    Benchmark(
        "gpu_mnist",
        f"MNIST epoch {FEATURES}-{HIDDEN}-{CLASSES}, Adam, batch {BATCH}, NumPy backend on a GPU",
        "the same in memory",
        0.5,
        "`pipeline.backends.numpy.training.train` on the prepared rows without the test rows, with "
        f"`{GPU}` and without.",
        epochs,
    ),
    Benchmark(
        "gpu_map",
        f"{SIDE * SIDE:,} rates of three_bits, NumPy backend on a GPU, per point and iteration",
        "the same in memory",
        0.5,
        f"`pipeline.backends.numpy.maps.rate_map.train_map` as in `ten_thousand_rates`, {ITERATIONS:,} iterations in "
        f"float64, with `{GPU}` and without.",
        maps,
        "ns",
    ),
]
