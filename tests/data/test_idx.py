"""The IDX format: encoded arrays are decoded, and other content is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from pipeline.data.raw import idx

shapes = st.one_of(st.tuples(st.integers(0, 50)), array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=6))


@given(arrays(np.uint8, shapes))
def test_round_trip(array: NDArray[np.uint8]) -> None:
    decoded = idx.decode(idx.encode(array))
    assert decoded.dtype == np.uint8
    assert decoded.shape == array.shape
    assert np.array_equal(decoded, array)


@given(arrays(np.uint8, shapes), st.integers(1, 40))
def test_a_shortened_or_lengthened_file_is_refused(array: NDArray[np.uint8], count: int) -> None:
    content = idx.encode(array)
    with pytest.raises(ValueError, match=r"bytes|begins"):
        idx.decode(content[:-count])
    with pytest.raises(ValueError, match="announces"):
        idx.decode(content + bytes(count))


@given(st.binary(max_size=40))
def test_other_bytes_are_refused_or_come_back_as_they_were(content: bytes) -> None:
    try:
        array = idx.decode(content)
    except ValueError:
        return
    assert idx.encode(array) == content


def test_headers_are_those_of_mnist() -> None:
    assert idx.encode(np.zeros(5, np.uint8))[:8].hex() == "0000080100000005"
    assert idx.encode(np.zeros((2, 28, 28), np.uint8))[:16].hex() == "00000803000000020000001c0000001c"


def test_rows_are_in_order_whatever_the_memory_layout() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert idx.encode(np.asfortranarray(array))[16:] == bytes(range(24))


@pytest.mark.parametrize("array", [np.zeros((2, 2), np.uint8), np.zeros(3, np.int64), np.zeros((1, 2, 2), np.float32)])
def test_other_arrays_are_refused(array: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="dimensions"):
        idx.encode(array)
