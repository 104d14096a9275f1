"""Writes files in the published IDX format."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, seed: int = 0, per_class: int = 4, compress: bool = True) -> dict[str, np.ndarray]:
    """The four files of MNIST with random images of ten classes in random order; returns what they hold by name."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for part, count in (("train", 10 * per_class), ("t10k", 10 * per_class // 2)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = rng.permutation(np.arange(count, dtype=np.uint8) % 10)
    for name, array in arrays.items():
        data = idx_bytes(array)
        (folder / (f"{name}.gz" if compress else name)).write_bytes(gzip.compress(data, mtime=0) if compress else data)
    return arrays
