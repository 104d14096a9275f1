"""Data sets of images: the one preprocessing that all of them share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float64, Integer, UInt8
from torch import Tensor

from edgescope.data.dataset import Dataset
from edgescope.data.source import DataShape, DataSource, existing
from edgescope.errors import InputError
from edgescope.memory import require
from edgescope.options import check_fields, integer, optional, text

# Pixels at the border are almost always zero: in Fashion-MNIST the smallest standard deviation is 0.0004 of the full
# range, and without a floor one image has 30 times the mean squared norm of all, so that a handful of images with a
# mark in a corner would set the sharpness. At 0.1 no pixel lies further than 10 from its mean. The pixels of CIFAR-10
# all vary by more than twice that, so there the floor changes nothing and the figures are those of Cohen et al. (2021).
_SMALLEST_DEVIATION = 0.1

_CHUNK = 4096
_BYTES = 8  # for each pixel: it, standardised, and once more where a part is taken
_CHUNK_BYTES = 24  # for each pixel of a chunk, in float64


@dataclass(frozen=True)
class RawImages:
    """Images as they are published, pixels as whole numbers, training and test part."""

    train: UInt8[np.ndarray, "N C H W"]
    train_labels: Integer[np.ndarray, " N"]
    test: UInt8[np.ndarray, "M C H W"]
    test_labels: Integer[np.ndarray, " M"]

    def __post_init__(self) -> None:
        for part, images, labels in (
            ("training", self.train, self.train_labels),
            ("test", self.test, self.test_labels),
        ):
            if len(images) != len(labels) or not len(images):
                raise InputError(
                    f"{len(images):,} {part} images with {len(labels):,} labels",
                    expected="as many labels as images, at least one",
                )
        if self.train.shape[1:] != self.test.shape[1:]:
            raise InputError(
                f"test images of {_sides(self.test)}", expected=f"{_sides(self.train)}, as the training images are"
            )


def _sides(images: UInt8[np.ndarray, "N C H W"]) -> str:
    return " x ".join(map(str, images.shape[1:]))


@dataclass(frozen=True)
class FromFolder:
    """The option of data sets that lie in a folder: ``folder`` names it; without it they are downloaded."""

    folder: str | None = None

    @property
    def path(self) -> Path | None:
        """The folder, which must exist; None if none was named."""
        return None if self.folder is None else existing(self.folder, "the folder that holds the published files")


@dataclass(frozen=True)
class ImageSource(DataSource):
    """Images with ten classes. ``train`` and ``test`` take that many samples; ``pool`` averages squares of pixels.

    Pixels are divided by their largest value, averaged over ``pool`` x ``pool`` squares, and standardised pixel by
    pixel with the mean and standard deviation of all training images (not only of those taken, so that a subset sees
    the same inputs as the whole).
    """

    train: int | None = None
    test: int | None = None
    pool: int = 1

    name: ClassVar[str]
    source: ClassVar[str]
    licence: ClassVar[str]
    largest: ClassVar[int] = 255
    first: ClassVar[int | None] = None
    classes: ClassVar[int] = 10
    published: ClassVar[DataShape | None] = None

    def __post_init__(self) -> None:
        count, folder = optional(integer(1)), {"folder": optional(text(empty=False))}
        named = folder if isinstance(self, FromFolder) else {}
        check_fields(self, f"data set '{self.name}'", train=count, test=count, pool=integer(1), **named)

    @abstractmethod
    def images(self) -> RawImages:
        """The images and labels in their published order."""

    def published_shape(self) -> DataShape | None:
        whole = self.published
        if whole is None or (isinstance(self, FromFolder) and self.folder is not None):
            return None
        channels, *sides = whole.input_shape
        return DataShape(
            train=min(self.train or whole.train, self.first or whole.train, whole.train),
            test=min(self.test or whole.test, whole.test),
            input_shape=(channels, *(side // self.pool for side in sides)),
            classes=whole.classes,
        )

    def load(self) -> Dataset:
        raw = self.images()
        values = raw.train.size + raw.test.size
        chunk = min(_CHUNK, len(raw.train)) * raw.train[0].size
        require(_BYTES * values + _CHUNK_BYTES * chunk, f"data set '{self.name}'", hint="fewer images")
        train, test = self._pooled(raw.train), self._pooled(raw.test)
        scale = float(self.largest * self.pool**2)
        mean, deviation = _statistics(train, scale)
        deviation = np.maximum(deviation, _SMALLEST_DEVIATION)
        if self.first is not None and len(train) < self.first:
            raise InputError(
                f"data set '{self.name}' found {len(train):,} training images", expected=f"at least {self.first:,}"
            )
        dataset = Dataset(
            name=self.name,
            inputs=_standardised(train[: self.first], scale, mean, deviation),
            targets=torch.from_numpy(raw.train_labels[: self.first].astype(np.int64)),
            test_inputs=_standardised(test, scale, mean, deviation),
            test_targets=torch.from_numpy(raw.test_labels.astype(np.int64)),
            classes=self.classes,
            preprocessing=self._preprocessing(len(train)),
            source=self.source,
            licence=self.licence,
        )
        return dataset.subset(self.train, self.test)

    def _pooled(self, images: UInt8[np.ndarray, "N C H W"]) -> Integer[np.ndarray, "N C h w"]:
        # Sums, not averages: they are exact, and `scale` holds the divisor.
        count, channels, height, width = images.shape
        if height % self.pool or width % self.pool:
            raise InputError(
                f"pool={self.pool} for images of {height} x {width} pixels", expected="a number that divides both sides"
            )
        if self.pool == 1:
            return images
        size = self.pool
        squares = images.reshape(count, channels, height // size, size, width // size, size)
        return squares.sum((3, 5), dtype=np.int32)

    def _preprocessing(self, samples: int) -> str:
        pooled = f", averaged over squares of {self.pool} x {self.pool}" if self.pool > 1 else ""
        first = f"; of these the first {self.first:,} training images" if self.first is not None else ""
        return (
            f"pixels divided by {self.largest}{pooled}; for each pixel, minus the mean and divided by the standard "
            f"deviation over all {samples:,} training images (a deviation below {_SMALLEST_DEVIATION} counts as "
            f"{_SMALLEST_DEVIATION}){first}"
        )


def _chunks(images: Integer[np.ndarray, "N C H W"]) -> Iterator[tuple[slice, Integer[np.ndarray, "n C H W"]]]:
    # Chunks keep the float64 copies small beside the images themselves.
    for start in range(0, len(images), _CHUNK):
        part = slice(start, start + _CHUNK)
        yield part, images[part]


def _statistics(
    images: Integer[np.ndarray, "N C H W"], scale: float
) -> tuple[Float64[np.ndarray, "C H W"], Float64[np.ndarray, "C H W"]]:
    count = len(images)
    mean = images.sum(0, dtype=np.int64) / (count * scale)
    variance = sum(np.square(chunk / scale - mean).sum(0) for _, chunk in _chunks(images)) / count
    return mean, np.sqrt(variance)


def _standardised(
    images: Integer[np.ndarray, "N C H W"],
    scale: float,
    mean: Float64[np.ndarray, "C H W"],
    deviation: Float64[np.ndarray, "C H W"],
) -> Tensor:
    inputs = np.empty(images.shape, dtype=np.float32)
    for part, chunk in _chunks(images):
        inputs[part] = (chunk / scale - mean) / deviation
    return torch.from_numpy(inputs)
