from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from idx_writer import idx_bytes, write_idx

from edgescope.data import DATA
from edgescope.data.idx import read_idx
from edgescope.errors import InputError


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("compress", [True, False])
def test_published_files_load(tmp_path: Path, name: str, compress: bool) -> None:
    arrays = write_idx(tmp_path, compress=compress)
    dataset = DATA.build(f"{name}:{tmp_path}").load()
    images = arrays["train-images-idx3-ubyte"][:, None] / 255.0
    wanted = (images - images.mean(0)) / np.maximum(images.std(0), 0.1)
    np.testing.assert_allclose(dataset.inputs.numpy(), wanted, atol=1e-6)
    assert dataset.targets.tolist() == arrays["train-labels-idx1-ubyte"].tolist()
    assert dataset.test_targets.tolist() == arrays["t10k-labels-idx1-ubyte"].tolist()
    assert dataset.test_inputs.shape == (20, 1, 28, 28)
    assert dataset.name == name


def test_a_subset_is_stratified(tmp_path: Path) -> None:
    write_idx(tmp_path)
    dataset = DATA.build(f"mnist:{tmp_path},train=20,test=10").load()
    assert torch.bincount(dataset.targets).tolist() == [2] * 10
    assert torch.bincount(dataset.test_targets).tolist() == [1] * 10


ARRAY = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
GOOD = idx_bytes(ARRAY)


def test_one_file_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(GOOD)
    np.testing.assert_array_equal(read_idx(path, 3), ARRAY)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "starts with nothing"),
        (b"PNG image", "starts with 50 4e 47"),
        (idx_bytes(np.zeros(3)), "expected 00 00 08 03"),
        (bytes((0, 0, 13, 3)) + GOOD[4:], "starts with 00 00 0d 03"),
        (GOOD[:9], "cut short in its header"),
        (GOOD[:-1], r"holds 23 bytes of data; expected 24.*2 x 3 x 4"),
        (GOOD + b"x", "holds 25 bytes of data"),
        (gzip.compress(GOOD, mtime=0)[:-9], "cannot be read"),
        (gzip.compress(GOOD, mtime=0)[:12] + b"\xff\xff\xff" + gzip.compress(GOOD, mtime=0)[15:], "cannot be read"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, data: bytes, fault: str) -> None:
    path = tmp_path / "damaged-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(InputError, match=fault) as caught:
        read_idx(path, 3)
    assert "damaged-idx3-ubyte" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere' cannot be read .*; expected the folder"):
        DATA.build(f"mnist:{tmp_path}/nowhere").load()
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match="no file 't10k-labels-idx1-ubyte'"):
        DATA.build(f"mnist:{tmp_path}").load()


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    arrays = write_idx(tmp_path, compress=False)
    labels = arrays["train-labels-idx1-ubyte"]
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels[:-1]))
    with pytest.raises(InputError, match="40 training images with 39 labels"):
        DATA.build(f"mnist:{tmp_path}").load()
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels + 1))
    with pytest.raises(InputError, match="contain the index 10"):
        DATA.build(f"mnist:{tmp_path}").load()
