"""The part of Fashion-MNIST that is packed with Edgescope."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgescope.data.images import ImageSource, RawImages

PACKED = Path(__file__).parent / "files" / "fashion_5k.npz"


@dataclass(frozen=True)
class Fashion5k(ImageSource):
    """Fashion-MNIST, the first 500 training and 100 test images of each class, packed: no download.

    In their original order with their original labels; ``tools/pack_fashion.py`` rebuilds the file.
    """

    name: ClassVar[str] = "fashion-5k"
    source: ClassVar[str] = (
        "Xiao, Rasul and Vollgraf, Fashion-MNIST, arXiv 1708.07747 (2017): the first 500 training and 100 test images "
        "of each class"
    )
    licence: ClassVar[str] = "MIT, Copyright (c) 2017 Zalando SE"

    def images(self) -> RawImages:
        with np.load(PACKED, allow_pickle=False) as packed:
            return RawImages(
                packed["train_images"][:, None],
                packed["train_labels"],
                packed["test_images"][:, None],
                packed["test_labels"],
            )
