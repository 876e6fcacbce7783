"""Threads that work side by side: on the points of a stack, and on the parts of a large product.

NumPy releases Python's lock in products and on large arrays. BLAS itself gets one thread: how it splits a product, and
with that the last bits of the result, depends on the number of its threads, and its threads spin while they wait for
each other, which slows other programs and, on a busy machine, the product itself. What is split here does not depend on
the number of threads, so the results do not either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.backends.numpy.array_modules import on_gpu
from pipeline.backends.numpy.network import Array
from pipeline.config.schema import Config
from pipeline.system.processes import threads_to_use

# Products of an input and a weight in a minibatch of one point, from which on threads share the points: with less, they
# would wait for Python's lock most of the time.
WORTH_A_THREAD = 2**20
# A product of fewer multiplications has one part. 2^26 of them take a few milliseconds.
LARGE = 2**26
# The smallest number of rows of a part: BLAS takes longer for many small parts than for the whole product.
PART_ROWS = 256


class Threads:
    """Threads that share pieces of work.

    Args:
        pool: the other threads; None: there are none.
        others: their number.
    """

    def __init__(self, pool: Executor | None = None, others: int = 0) -> None:
        self._pool = pool
        self._others = others

    def for_products(self, count: int) -> Threads:
        """Return these threads, or none if the minibatches of a point have too few products to share the points."""
        if count < WORTH_A_THREAD:
            return Threads()
        return self

    def each(self, work: Callable[[int], object], count: int) -> None:
        """Call `work` with 0, 1, ..., `count` - 1, each thread with the next number as soon as it is free.

        Work may itself call `each`: threads that have nothing else to do help it.

        Raises:
            Exception: what `work` has raised; when this returns, no thread works any more.
        """
        numbers = iter(range(count))

        def take() -> None:
            for number in numbers:
                work(number)

        others = [self._pool.submit(take) for _ in range(min(self._others, count - 1))] if self._pool else []
        try:
            take()
        finally:
            # A thread that has not begun would find nothing to do. Waiting for it could last forever: within `work`,
            # all threads may be waiting in this way.
            failed = [other.exception() for other in others if not other.cancel()]
        for error in failed:
            if error is not None:
                raise error

    def product(self, left: Array, right: Array, out: Array | None = None) -> Array:
        """Compute a matrix product; the threads share the parts of a large one, which depend only on its shape."""
        rows, inner = left.shape
        columns = right.shape[1]
        parts = max(1, rows // PART_ROWS)
        if rows * inner * columns < LARGE or not isinstance(left, np.ndarray):
            parts = 1
        if parts == 1:
            whole: Array = np.matmul(left, right, out=out)
            return whole
        result: Array = np.empty((rows, columns), left.dtype) if out is None else out
        # Whole numbers: the parts differ by at most one row.
        ends = [rows * part // parts for part in range(parts + 1)]

        def one(part: int) -> None:
            own = slice(ends[part], ends[part + 1])
            np.matmul(left[own], right, out=result[own])

        self.each(one, parts)
        return result


@contextmanager
def side_by_side(config: Config) -> Iterator[Threads]:
    """Give the threads that train a point or a stack, and BLAS one thread for as long."""
    count = threads_to_use(config.threads)
    if on_gpu(config):
        count = 1
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(max(1, count - 1), initializer=_quiet) as pool:
        yield Threads(pool, count - 1)


def _quiet() -> None:
    """Treat overflow as `training.train` does: NumPy keeps this setting for each thread."""
    np.seterr(over="ignore", invalid="ignore", divide="ignore")
    # Some builds of BLAS keep their number of threads for each thread too.
    threadpool_limits(1, user_api="blas")
