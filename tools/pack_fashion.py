"""Packs the part of Fashion-MNIST that comes with Edgescope.

    python tools/pack_fashion.py FOLDER [OUT]

FOLDER holds the four published IDX files (Debian's package ``dataset-fashion-mnist`` installs them; ``.gz`` or plain).
The first 500 training and 100 test images of each class are taken, in their original order, with their labels, as
bytes. OUT is the packed file in the package unless given. The same files give the same bytes: members are dated 1980
and compressed with deflate, which every Python reads (LZMA would save 14 %, but a Python built without it could not
load the data).
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np

from edgescope.data.fashion_5k import PACKED
from edgescope.data.mnist import FashionMNIST
from edgescope.errors import InputError


def pack(folder: Path, out: Path, train_a_class: int = 500, test_a_class: int = 100) -> None:
    """Write the packed file; raises InputError if FOLDER lacks a file or a class lacks images."""
    raw = FashionMNIST(folder=str(folder)).images()
    train = _first_of_each_class(raw.train_labels, train_a_class)
    test = _first_of_each_class(raw.test_labels, test_a_class)
    arrays = {
        "train_images": raw.train[train, 0],
        "train_labels": raw.train_labels[train],
        "test_images": raw.test[test, 0],
        "test_labels": raw.test_labels[test],
    }
    with zipfile.ZipFile(out, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3
            member.external_attr = 0o644 << 16
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(member, content.getvalue(), compresslevel=9)


def _first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    chosen = [np.flatnonzero(labels == label)[:count] for label in range(FashionMNIST.classes)]
    for label, indices in enumerate(chosen):
        if len(indices) < count:
            raise InputError(f"class {label} has {len(indices)} images", expected=f"at least {count}")
    return np.sort(np.concatenate(chosen))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Pack the part of Fashion-MNIST that comes with Edgescope.")
    parser.add_argument("folder", type=Path, help="folder with the four published IDX files")
    parser.add_argument("out", type=Path, nargs="?", default=PACKED, help="file to write (the one in the package)")
    given = parser.parse_args()
    try:
        pack(given.folder, given.out)
    except InputError as error:
        parser.exit(2, f"{error}\n")
