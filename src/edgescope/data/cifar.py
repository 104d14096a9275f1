"""CIFAR-10 in its published binary and python formats, from a folder, an archive or a checked download."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from jaxtyping import Integer, UInt8

from edgescope.bounded import BoundedFile, read_bounded
from edgescope.data.download import fetch
from edgescope.data.images import FromFolder, ImageSource, RawImages
from edgescope.data.safe_pickle import load_arrays
from edgescope.data.source import DataShape
from edgescope.data.tar import tar_members
from edgescope.errors import InputError
from edgescope.memory import require

LARGEST_BATCH: Final = 2**28
"""Bytes of one batch at most; a published one has 31 million."""

LARGEST_ARCHIVE: Final = 2**30
"""Bytes of an archive at most, decompressed; the published ones have 186 million."""

_COPIES = 3  # of a batch while it is read: the file, its pickled text, its array

_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")
_FOLDERS = ("", "cifar-10-batches-bin", "cifar-10-batches-py")
_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32

Batch = tuple[UInt8[np.ndarray, "n 3 32 32"], Integer[np.ndarray, " n"]]


@dataclass(frozen=True)
class CIFAR10(ImageSource, FromFolder):
    """CIFAR-10: 50,000 training and 10,000 test colour images in ten classes, 32 x 32."""

    name: ClassVar[str] = "cifar10"
    source: ClassVar[str] = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)"
    licence: ClassVar[str] = "none stated by its authors"
    # The binary version, because it needs no pickles; MD5 as published on the authors' page.
    url: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    published: ClassVar[DataShape | None] = DataShape(50_000, 10_000, _SHAPE, 10)
    md5: ClassVar[str] = "c32a1d4ab5d03f1284b67883e8d87530"

    def images(self) -> RawImages:
        return read_cifar10(self.path or fetch(self.url, self.md5))


@dataclass(frozen=True)
class CIFAR10First5k(CIFAR10):
    """CIFAR-10, its first 5,000 training images, standardised with the statistics of all 50,000 (Cohen et al. 2021)."""

    name: ClassVar[str] = "cifar10-5k"
    first: ClassVar[int | None] = 5000


def read_cifar10(path: Path) -> RawImages:
    """The six batches in a folder that holds them or their published folder or archive, or in an archive.

    Raises :class:`InputError` for batches that are missing, damaged or not of the same length. Pickles of the python
    version are read without executing them.
    """
    files = _find(path)
    batches = [_read_binary(data, name) if name.endswith(".bin") else _read_python(data, name) for name, data in files]
    counts = [len(labels) for _, labels in batches]
    # Published batches all hold 10,000 images; one cut short by whole images would otherwise pass unseen.
    for (name, _), count in zip(files, counts, strict=True):
        if count != max(counts):
            raise InputError(
                f"'{name}' in '{path}' holds {count:,} images", expected=f"{max(counts):,}, as in the other batches"
            )
    images, labels = zip(*batches, strict=True)
    return RawImages(np.concatenate(images[:5]), np.concatenate(labels[:5]), images[5], labels[5])


def _find(path: Path) -> list[tuple[str, bytes]]:
    if path.is_file():
        return _complete(_from_archive(path), path)
    for folder in _FOLDERS:
        for ending in (".bin", ""):
            found = {b + ending: path / folder / (b + ending) for b in _BATCHES}
            if any(file.is_file() for file in found.values()):
                return _complete(_from_files({n: f for n, f in found.items() if f.is_file()}), path / folder)
    for archive in _ARCHIVES:
        if (path / archive).is_file():
            return _complete(_from_archive(path / archive), path / archive)
    raise InputError(
        f"no CIFAR-10 in folder '{path}'", expected=f"data_batch_1.bin or data_batch_1 and so on, or {_ARCHIVES[0]}"
    )


def _complete(found: Mapping[str, bytes | bytearray], path: Path) -> list[tuple[str, bytes]]:
    ending = ".bin" if any(name.endswith(".bin") for name in found) else ""
    for batch in _BATCHES:
        if batch + ending not in found:
            raise InputError(f"no '{batch + ending}' in '{path}'", expected="five training batches and a test batch")
    return [(batch + ending, bytes(found[batch + ending])) for batch in _BATCHES]


def _from_files(files: Mapping[str, Path]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, file in files.items():
        _require(file.stat().st_size, str(file))
        found[name] = read_bounded(file, LARGEST_BATCH)
    return found


def _from_archive(path: Path) -> dict[str, bytearray]:
    wanted = {batch + ending for batch in _BATCHES for ending in ("", ".bin")}
    found: dict[str, bytearray] = {}
    with BoundedFile(path, LARGEST_ARCHIVE) as file:
        for member, read in tar_members(file):
            name = member.name.rsplit("/", 1)[-1]
            if name not in wanted or not member.isreg():
                continue
            if member.size > LARGEST_BATCH:
                raise InputError(
                    f"'{name}' in '{path}' is of {member.size:,} bytes", expected=f"at most {LARGEST_BATCH:,}"
                )
            _require(member.size, f"{name} in {path}")
            found[name] = read()
    return found


def _require(size: int, what: str) -> None:
    require(_COPIES * size, f"'{what}'", hint="closing other programs")


def _read_binary(data: bytes, name: str) -> Batch:
    # A record is one byte of label, then 1024 bytes each of red, green and blue, row by row.
    if not data or len(data) % (1 + _PIXELS):
        raise InputError(f"'{name}' holds {len(data):,} bytes", expected=f"records of {1 + _PIXELS:,} bytes")
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + _PIXELS)
    return records[:, 1:].reshape(-1, *_SHAPE), records[:, 0]


def _read_python(data: bytes, name: str) -> Batch:
    batch = load_arrays(data, name)
    images: Any = batch.get("data") if type(batch) is dict else None
    labels: Any = batch.get("labels") if type(batch) is dict else None
    if (
        type(images) is not np.ndarray
        or images.dtype != np.uint8
        or images.ndim != 2
        or images.shape[1] != _PIXELS
        or type(labels) not in (list, np.ndarray)
        or len(labels) != len(images)
    ):
        labels = None
    elif type(labels) is list:
        # Whole numbers themselves, before numpy looks at them: a list may hold itself, or lists that double.
        whole = all(type(label) is int and 0 <= label < 2**31 for label in labels)
        labels = np.array(labels, np.int64) if whole else None
    elif labels.dtype.kind not in "iu" or labels.ndim != 1:
        labels = None
    if labels is None:
        raise InputError(
            f"'{name}' is not a CIFAR-10 batch", expected=f"'data' of bytes (n, {_PIXELS}) and n whole 'labels'"
        )
    return images.reshape(-1, *_SHAPE), labels
