"""MNIST and Fashion-MNIST in full, from their published files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgescope.data.download import fetch
from edgescope.data.idx import IDX_FILES, find_idx, read_idx
from edgescope.data.images import FromFolder, ImageSource, RawImages
from edgescope.data.source import DataShape


# Fields of the last base come first, so that "mnist:FOLDER" names the folder.
@dataclass(frozen=True)
class MNIST(ImageSource, FromFolder):
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 x 28."""

    name: ClassVar[str] = "mnist"
    source: ClassVar[str] = "LeCun, Cortes and Burges, The MNIST database of handwritten digits (1998)"
    licence: ClassVar[str] = "none stated in the published files; commonly redistributed as CC BY-SA 3.0"
    url: ClassVar[str] = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    published: ClassVar[DataShape | None] = DataShape(60_000, 10_000, (1, 28, 28), 10)
    hashes: ClassVar[tuple[str, ...]] = (  # MD5, in the order of IDX_FILES, as torchvision has them too
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    )

    def images(self) -> RawImages:
        folder = self.path
        if folder is None:
            paths = [fetch(self.url + name, md5) for name, md5 in zip(IDX_FILES, self.hashes, strict=True)]
        else:
            paths = [find_idx(folder, name) for name in IDX_FILES]
        train, train_labels, test, test_labels = (read_idx(path, 3 - 2 * (i % 2)) for i, path in enumerate(paths))
        return RawImages(train[:, None], train_labels, test[:, None], test_labels)


@dataclass(frozen=True)
class FashionMNIST(MNIST):
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 x 28."""

    name: ClassVar[str] = "fashion-mnist"
    source: ClassVar[str] = "Xiao, Rasul and Vollgraf, Fashion-MNIST, arXiv 1708.07747 (2017)"
    licence: ClassVar[str] = "MIT, Copyright (c) 2017 Zalando SE"
    url: ClassVar[str] = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    hashes: ClassVar[tuple[str, ...]] = (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    )
