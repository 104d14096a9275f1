from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from edgescope.data import DATA, ImageSource
from edgescope.data.images import RawImages
from edgescope.errors import InputError


def raw(seed: int, train: int = 50, test: int = 20, size: int = 6) -> RawImages:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (train + test, 2, size, size), dtype=np.uint8)
    images[:, :, 0, 0] = 7  # a constant pixel
    images[:, :, 0, 1] = rng.integers(0, 2, (train + test, 2))  # one that hardly varies
    labels = np.arange(train + test) % 10
    return RawImages(images[:train], labels[:train], images[train:], labels[train:])


@dataclass(frozen=True)
class Noise(ImageSource):
    seed: int = 0
    name: ClassVar[str] = "noise"
    source: ClassVar[str] = "a generator"
    licence: ClassVar[str] = "none"

    def images(self) -> RawImages:
        return raw(self.seed)


@dataclass(frozen=True)
class FirstOfNoise(Noise):
    first: ClassVar[int | None] = 30


def reference(train: np.ndarray, images: np.ndarray, pool: int) -> np.ndarray:
    def pooled(x: np.ndarray) -> np.ndarray:
        x = x.astype(np.float64) / 255
        n, c, h, w = x.shape
        return x.reshape(n, c, h // pool, pool, w // pool, pool).mean((3, 5))

    train = pooled(train)
    return (pooled(images) - train.mean(0)) / np.maximum(train.std(0), 0.1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pool", [1, 2, 3])
def test_pixels_are_scaled_pooled_and_standardised(seed: int, pool: int) -> None:
    images = raw(seed)
    dataset = Noise(seed=seed, pool=pool).load()
    for got, part in ((dataset.inputs, images.train), (dataset.test_inputs, images.test)):
        np.testing.assert_allclose(got.numpy(), reference(images.train, part, pool), rtol=1e-6, atol=1e-6)
    assert dataset.inputs.dtype == torch.float32
    assert bool((dataset.inputs.abs() <= 10).all())
    assert ("squares of 2 x 2" in dataset.preprocessing) == (pool == 2)


def test_a_subset_has_the_inputs_of_the_whole() -> None:
    whole, part = Noise().load(), Noise(train=20, test=10).load()
    assert torch.equal(part.inputs, whole.inputs[:20])
    assert torch.equal(part.test_inputs, whole.test_inputs[:10])
    assert "all 50 training images" in part.preprocessing


def test_the_first_images_have_the_statistics_of_all() -> None:
    first = FirstOfNoise().load()
    assert torch.equal(first.inputs, Noise().load().inputs[:30])
    assert "all 50 training images" in first.preprocessing
    assert "first 30 training images" in first.preprocessing


@pytest.mark.parametrize("pool", [0, 4, -1, 12])
def test_a_pooling_that_does_not_fit_is_refused(pool: int) -> None:
    with pytest.raises(InputError, match=f"pool={pool}" + (" for images of 6 x 6" if pool > 0 else ";")):
        Noise(pool=pool).load()


def test_packed_fashion_images_load_with_their_original_labels() -> None:
    dataset = DATA.build("fashion-5k").load()
    assert dataset.inputs.shape == (5000, 1, 28, 28)
    assert dataset.test_inputs.shape == (1000, 1, 28, 28)
    assert torch.bincount(dataset.targets).tolist() == [500] * 10
    assert torch.bincount(dataset.test_targets).tolist() == [100] * 10
    # The labels that Fashion-MNIST is known to begin with, training and test.
    assert dataset.targets[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert dataset.test_targets[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert abs(float(dataset.inputs.mean())) < 1e-6
    assert "MIT" in dataset.licence
    # The first is an ankle boot: bright at the bottom, empty at the top.
    image = DATA["fashion-5k"]().images().train[0, 0]  # type: ignore[attr-defined]
    assert image[:3].max() == 0
    assert image[14:].mean() > 60
