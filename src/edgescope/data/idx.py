"""The IDX format in which MNIST and Fashion-MNIST are published: a header with sizes, then bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from edgescope.errors import InputError

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

    Raises :class:`InputError` for a file that cannot be read, is of another kind, or is cut short or too long.
    Source of the format: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
    """
    data = _read(path)
    header = 4 + 4 * dimensions
    expected = f"an IDX file of bytes with {dimensions} dimensions"
    magic = bytes((0, 0, 8, dimensions))
    if data[:4] != magic:
        raise InputError(
            f"'{path}' starts with {data[:4].hex(' ') or 'nothing'}", expected=f"{magic.hex(' ')}, {expected}"
        )
    if len(data) < header:
        raise InputError(f"'{path}' is cut short in its header", expected=expected)
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    if len(data) - header != math.prod(shape):
        raise InputError(
            f"'{path}' holds {len(data) - header:,} bytes of data",
            expected=f"{math.prod(shape):,}, as its header says ({' x '.join(map(str, shape))})",
            hint="copying or downloading it again",
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"'{path}' cannot be read ({error})", hint="copying or downloading it again") from error
