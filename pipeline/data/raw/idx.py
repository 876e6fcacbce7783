"""The IDX format of MNIST: a big-endian header, then unsigned bytes in row-major order.

Header: two zero bytes, 0x08 for unsigned bytes, the number of dimensions, then each dimension as a 32-bit integer.
"""

from __future__ import annotations

import math
import struct

import numpy as np
from numpy.typing import NDArray

UNSIGNED_BYTE = 0x08
DIMENSIONS = (1, 3)  # labels (rows,) have magic number 0x00000801, images (rows, height, width) 0x00000803


def encode(array: NDArray[np.uint8]) -> bytes:
    """An IDX file's content.

    Args:
        array: (rows,) or (rows, height, width).

    Raises:
        ValueError: another dtype or number of dimensions.
    """
    if array.dtype != np.uint8 or array.ndim not in DIMENSIONS:
        raise ValueError(f"an array of {array.ndim} dimensions of {array.dtype}; IDX images are 3 of uint8, labels 1")
    header = struct.pack(f">{1 + array.ndim}I", UNSIGNED_BYTE << 8 | array.ndim, *array.shape)
    return header + array.tobytes(order="C")


def decode(content: bytes) -> NDArray[np.uint8]:
    """The array of an IDX file, read-only: (rows,) for labels, (rows, height, width) for images.

    Raises:
        ValueError: wrong magic number, or more or fewer bytes than the header announces.
    """
    magic = int.from_bytes(content[:4], "big")
    dimensions = magic & 0xFF
    if len(content) < 4 or magic >> 8 != UNSIGNED_BYTE or dimensions not in DIMENSIONS:
        raise ValueError(f"not an IDX file of images or labels: it begins with 0x{content[:4].hex()}")
    size = 4 * (1 + dimensions)
    if len(content) < size:
        raise ValueError(f"{len(content)} bytes, which is less than an IDX header of {size}")
    shape = struct.unpack(f">{dimensions}I", content[4:size])
    announced = size + math.prod(shape)
    if len(content) != announced:
        raise ValueError(f"{len(content):,} bytes, while its header announces {announced:,}")
    return np.frombuffer(content, np.uint8, offset=size).reshape(shape)
