"""The IDX format of MNIST: a big-endian header, then unsigned bytes in row-major order.

Header: two zero bytes, 0x08 for unsigned bytes, the number of dimensions, then each dimension as a 32-bit integer.
"""

from __future__ import annotations

import math
import struct

import numpy as np
from numpy.typing import NDArray

UNSIGNED_BYTE = 0x08
# Labels (rows,) have the magic number 0x00000801, images (rows, height, width) 0x00000803.
DIMENSIONS = (1, 3)


def encode(array: NDArray[np.uint8]) -> bytes:
    """Return the content of an IDX file with an array.

    Args:
        array: (rows,) or (rows, height, width).

    Raises:
        ValueError: the array has another dtype or number of dimensions.
    """
    if array.dtype != np.uint8 or array.ndim not in DIMENSIONS:
        raise ValueError(f"expected uint8 in 1 or 3 dimensions, received {array.dtype} in {array.ndim} dimensions")
    header = struct.pack(f">{1 + array.ndim}I", UNSIGNED_BYTE << 8 | array.ndim, *array.shape)
    return header + array.tobytes(order="C")


def decode(content: bytes) -> NDArray[np.uint8]:
    """Return the array of an IDX file, read-only: (rows,) for labels, (rows, height, width) for images.

    Raises:
        ValueError: the magic number is wrong, or there are more or fewer bytes than the header announces.

    Example:
        >>> decode(encode(np.array([7, 2], np.uint8)))
        array([7, 2], dtype=uint8)
    """
    magic = int.from_bytes(content[:4], "big")
    dimensions = magic & 0xFF
    if len(content) < 4 or magic >> 8 != UNSIGNED_BYTE or dimensions not in DIMENSIONS:
        raise ValueError(f"not an IDX file of images or labels: it begins with 0x{content[:4].hex()}")
    header = 4 * (1 + dimensions)
    if len(content) < header:
        raise ValueError(f"{len(content)} bytes, fewer than the {header} of an IDX header")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    # Python's integers: the product of three 32-bit numbers can be too large for NumPy's.
    announced = header + math.prod(shape)
    if len(content) != announced:
        raise ValueError(f"{len(content):,} bytes, while its header announces {announced:,}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
