"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgescope.data.images import ImageSource, RawImages
from edgescope.extras import load


@dataclass(frozen=True)
class Digits(ImageSource):
    """Handwritten digits, 8 x 8: 1,797 images, of which every fifth of each class is a test image.

    Every fifth, not the last fifth, because the images of one writer follow each other.
    """

    name: ClassVar[str] = "digits"
    source: ClassVar[str] = (
        "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), as in scikit-learn; every fifth "
        "image of each class is test, the others training"
    )
    licence: ClassVar[str] = "CC BY 4.0 (UCI Machine Learning Repository)"
    largest: ClassVar[int] = 16

    def images(self) -> RawImages:
        images, labels = load("sklearn.datasets").load_digits(return_X_y=True)
        images = images.astype(np.uint8).reshape(-1, 1, 8, 8)
        test = np.zeros(len(labels), dtype=bool)
        for label in range(self.classes):
            test[np.flatnonzero(labels == label)[4::5]] = True
        return RawImages(images[~test], labels[~test], images[test], labels[test])
