"""The IDX format in which MNIST and Fashion-MNIST are published: a header with sizes, then bytes."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import UInt8

from edgescope.bounded import BoundedFile
from edgescope.errors import InputError
from edgescope.memory import require

LARGEST: Final = 2**32
"""Bytes in a file at most, decompressed: the largest published one, of EMNIST, has an eighth of them."""

# The file names that both data sets are published under; the same without .gz is accepted.
IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def find_idx(folder: Path, name: str) -> Path:
    """The file of this published name in ``folder``, compressed or not; InputError if there is neither."""
    plain = name.removesuffix(".gz")
    for path in (folder / plain, folder / f"{plain}.gz"):
        if path.is_file():
            return path
    raise InputError(f"no file '{plain}' in folder '{folder}'", expected=f"'{plain}' or '{plain}.gz'")


def read_idx(path: Path, dimensions: int) -> UInt8[np.ndarray, " ..."]:
    """The array in an IDX file of unsigned bytes with this many dimensions, gzip-compressed or plain.

    Raises :class:`InputError` for a file that cannot be read, is of another kind, or is cut short or too long, before
    any memory is taken for what a header promises and the file cannot hold.
    Source of the format: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
    """
    header = 4 + 4 * dimensions
    expected = f"an IDX file of bytes with {dimensions} dimensions"
    magic = bytes((0, 0, 8, dimensions))
    with BoundedFile(path, LARGEST) as file:
        start = file.read(header)
        if start[:4] != magic:
            raise InputError(
                f"'{path}' starts with {start[:4].hex(' ') or 'nothing'}", expected=f"{magic.hex(' ')}, {expected}"
            )
        if len(start) < header:
            raise InputError(f"'{path}' is cut short in its header", expected=expected)
        shape = struct.unpack(f">{dimensions}I", start[4:])
        count, sizes = math.prod(shape), " x ".join(map(str, shape))
        if not count:
            raise InputError(
                f"'{path}' contains no data according to its header ({sizes})", expected="sizes of at least 1"
            )
        room = file.most - header
        if count <= room:
            require(count, f"'{path}' of {sizes} bytes", hint="a smaller file")
        # One byte more, to see the end; none where the file cannot hold what its header says.
        data = file.read(count + 1) if count <= room else bytearray()
        if len(data) != count:
            held = f"{len(data):,}" if len(data) < count else f"more than {count:,}"
            if file.plain or count > room:
                held = f"{'' if file.plain else 'at most '}{room:,}"
            raise InputError(
                f"'{path}' holds {held} bytes of data",
                expected=f"{count:,}, as its header says ({sizes})",
                hint="copying or downloading it again",
            )
    return np.frombuffer(data, np.uint8).reshape(shape)
