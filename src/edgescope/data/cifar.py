"""CIFAR-10 in its published binary and python formats, from a folder, an archive or a checked download."""

from __future__ import annotations

import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int, UInt8

from edgescope.data.download import fetch
from edgescope.data.images import FromFolder, ImageSource, RawImages
from edgescope.data.safe_pickle import load_arrays
from edgescope.errors import InputError

_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")
_FOLDERS = ("", "cifar-10-batches-bin", "cifar-10-batches-py")
_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32

Batch = tuple[UInt8[np.ndarray, "n 3 32 32"], Int[np.ndarray, " n"]]


@dataclass(frozen=True)
class CIFAR10(ImageSource, FromFolder):
    """CIFAR-10: 50,000 training and 10,000 test colour images of ten kinds of things, 32 x 32."""

    name: ClassVar[str] = "cifar10"
    source: ClassVar[str] = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)"
    licence: ClassVar[str] = "none stated by its authors"
    # The binary version, because it needs no pickles; MD5 as published on the authors' page.
    url: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
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
                return _complete({n: f.read_bytes() for n, f in found.items() if f.is_file()}, path / folder)
    for archive in _ARCHIVES:
        if (path / archive).is_file():
            return _complete(_from_archive(path / archive), path / archive)
    raise InputError(
        f"no CIFAR-10 in folder '{path}'", expected=f"data_batch_1.bin or data_batch_1 and so on, or {_ARCHIVES[0]}"
    )


def _complete(found: dict[str, bytes], path: Path) -> list[tuple[str, bytes]]:
    ending = ".bin" if any(name.endswith(".bin") for name in found) else ""
    for batch in _BATCHES:
        if batch + ending not in found:
            raise InputError(f"no '{batch + ending}' in '{path}'", expected="five training batches and a test batch")
    return [(batch + ending, found[batch + ending]) for batch in _BATCHES]


def _from_archive(path: Path) -> dict[str, bytes]:
    # Members are read, never unpacked to disk, so their paths do not matter.
    wanted = {batch + ending for batch in _BATCHES for ending in ("", ".bin")}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                content = archive.extractfile(member) if name in wanted and member.isfile() else None
                if content is not None:
                    found[name] = content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"archive '{path}' cannot be read ({error})", hint="copying or downloading it again"
        ) from error
    return found


def _read_binary(data: bytes, name: str) -> Batch:
    # A record is one byte of label, then 1024 bytes each of red, green and blue, row by row.
    if not data or len(data) % (1 + _PIXELS):
        raise InputError(f"'{name}' holds {len(data):,} bytes", expected=f"records of {1 + _PIXELS:,} bytes")
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + _PIXELS)
    return records[:, 1:].reshape(-1, *_SHAPE), records[:, 0]


def _read_python(data: bytes, name: str) -> Batch:
    batch = load_arrays(data, name)
    images = batch.get("data") if isinstance(batch, dict) else None
    labels = np.asarray(batch.get("labels")) if isinstance(batch, dict) else None
    if (
        not isinstance(images, np.ndarray)
        or images.dtype != np.uint8
        or images.shape[1:] != (_PIXELS,)
        or labels is None
        or labels.dtype.kind not in "iu"
        or labels.shape != images.shape[:1]
        or not len(labels)
    ):
        raise InputError(
            f"'{name}' is not a CIFAR-10 batch", expected=f"'data' of bytes (n, {_PIXELS}) and n whole 'labels'"
        )
    return images.reshape(-1, *_SHAPE), labels
