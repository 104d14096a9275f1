from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgescope.data import DATA
from edgescope.data.cifar import read_cifar10
from edgescope.data.safe_pickle import load_arrays
from edgescope.errors import InputError

NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def batches(count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [
        (rng.integers(0, 256, (count, 3072), dtype=np.uint8), rng.permutation(np.arange(count) % 10)) for _ in NAMES
    ]


def binary(images: np.ndarray, labels: np.ndarray) -> bytes:
    return np.concatenate([labels.astype(np.uint8)[:, None], images], axis=1).tobytes()


def python2(images: np.ndarray, labels: np.ndarray) -> bytes:
    """A batch as Python 2 pickled it (protocol 2, byte strings), which is how the published ones were written."""

    def text(value: bytes) -> bytes:
        short = len(value) < 256
        return (b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    dtype = (
        b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNN" + number(-1) * 2 + b"K\x00tb"
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
        b"(K\x01" + number(len(images)) + b"M\x00\x0c\x86" + dtype + b"\x89" + text(images.tobytes()) + b"tb"
    )
    listed = b"](" + b"".join(number(int(label)) for label in labels) + b"e"
    label = text(b"batch_label") + text(b"training batch 1 of 5")
    return b"\x80\x02}(" + label + text(b"labels") + listed + text(b"data") + array + b"u."


def python3(images: np.ndarray, labels: np.ndarray) -> bytes:
    return pickle.dumps({"data": images, "labels": labels.tolist()}, protocol=2)


FORMATS = {
    "binary": (binary, ".bin", "cifar-10-batches-bin", "cifar-10-binary.tar.gz"),
    "python2": (python2, "", "cifar-10-batches-py", "cifar-10-python.tar.gz"),
    "python3": (python3, "", "cifar-10-batches-py", "cifar-10-python.tar.gz"),
}


def write(folder: Path, kind: str, count: int = 10) -> list[tuple[np.ndarray, np.ndarray]]:
    encode, ending, _, _ = FORMATS[kind]
    data = batches(count)
    folder.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in zip(NAMES, data, strict=True):
        (folder / (name + ending)).write_bytes(encode(images, labels))
    return data


@pytest.mark.parametrize("place", ["folder", "parent", "archive", "archive in folder"])
@pytest.mark.parametrize("kind", FORMATS)
def test_published_formats_load(tmp_path: Path, kind: str, place: str) -> None:
    _, _, inner, archive = FORMATS[kind]
    data = write(tmp_path / "files" / inner, kind)
    path = {"folder": tmp_path / "files" / inner, "parent": tmp_path / "files"}.get(place, tmp_path)
    if place.startswith("archive"):
        with tarfile.open(tmp_path / archive, "w:gz") as tar:
            tar.add(tmp_path / "files" / inner, arcname=inner)
        path = tmp_path / archive if place == "archive" else tmp_path
    raw = read_cifar10(path)
    np.testing.assert_array_equal(raw.train.reshape(-1, 3072), np.concatenate([images for images, _ in data[:5]]))
    np.testing.assert_array_equal(raw.train_labels, np.concatenate([labels for _, labels in data[:5]]))
    np.testing.assert_array_equal(raw.test.reshape(-1, 3072), data[5][0])
    np.testing.assert_array_equal(raw.test_labels, data[5][1])
    # Channels lie one after the other in a record, rows within a channel.
    assert raw.train[3, 1, 2, 5] == data[0][0][3, 1024 + 2 * 32 + 5]


def test_the_first_5000_have_the_statistics_of_all(tmp_path: Path) -> None:
    data = write(tmp_path, "binary", count=1010)
    dataset = DATA.build(f"cifar10-5k:{tmp_path},test=100").load()
    every = np.concatenate([images for images, _ in data[:5]]).reshape(-1, 3, 32, 32)
    every = every[:, :, ::5, ::7] / 255
    wanted = (every[:5000] - every.mean(0)) / every.std(0)
    np.testing.assert_allclose(dataset.inputs[:, :, ::5, ::7].numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert dataset.inputs.shape == (5000, 3, 32, 32)
    assert dataset.test_inputs.shape == (100, 3, 32, 32)
    assert "all 5,050 training images" in dataset.preprocessing


def test_fewer_than_5000_images_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "binary")
    with pytest.raises(InputError, match="found 50 training images; expected at least 5,000"):
        DATA.build(f"cifar10-5k:{tmp_path}").load()


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["BOMB"],)


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    target = tmp_path / "hit"
    monkeypatch.setenv("BOMB", str(target))
    images, labels = batches(10)[0]
    bomb = pickle.dumps({"more": Bomb(), "data": images, "labels": labels.tolist()}, protocol=protocol)
    write(tmp_path, "python2")
    (tmp_path / "data_batch_2").write_bytes(bomb)
    with pytest.raises(InputError, match=r"'data_batch_2' is not a readable pickle of arrays"):
        read_cifar10(tmp_path)
    assert not target.exists()
    pickle.loads(bomb)  # the ordinary reader does run it, so this test can fail
    assert target.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cbuiltins\neval\n(V1+1\ntR.",
        b"cos\nsystem\n(Vtrue\ntR.",
        b"c_codecs\nencode\n(Vabc\nVidna\ntR.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93.",
        b"\x80\x02\x82\x01.",
        b"",
        b"garbage",
    ],
)
def test_nothing_but_arrays_is_admitted(data: bytes) -> None:
    with pytest.raises(InputError, match="'batch' is not a readable pickle of arrays") as caught:
        load_arrays(data, "batch")
    assert "\n" not in str(caught.value)


def encoded(content: Any) -> bytes:
    return pickle.dumps(content, protocol=2)


IMAGES, LABELS = batches(10)[0]


@pytest.mark.parametrize(
    ("name", "data", "fault"),
    [
        ("data_batch_3", encoded([1, 2]), "'data_batch_3' is not a CIFAR-10 batch"),
        ("data_batch_3", encoded({"data": IMAGES}), "is not a CIFAR-10 batch"),
        ("data_batch_3", encoded({"data": IMAGES, "labels": [0] * 9}), "is not a CIFAR-10 batch"),
        ("data_batch_3", encoded({"data": IMAGES[:, 1:], "labels": [0] * 10}), "is not a CIFAR-10 batch"),
        ("data_batch_3", encoded({"data": IMAGES, "labels": ["cat"] * 10}), "is not a CIFAR-10 batch"),
        ("data_batch_3", encoded({"data": IMAGES.astype(float), "labels": [0] * 10}), "is not a CIFAR-10 batch"),
        ("data_batch_3", python2(IMAGES, LABELS)[:-5], "is not a readable pickle"),
        ("test_batch", python2(IMAGES[:8], LABELS[:8]), "'test_batch' .* holds 8 images; expected 10"),
        ("data_batch_4", None, "no 'data_batch_4'"),
    ],
)
def test_a_damaged_python_batch_is_named(tmp_path: Path, name: str, data: bytes | None, fault: str) -> None:
    write(tmp_path, "python2")
    (tmp_path / name).unlink() if data is None else (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=fault) as caught:
        read_cifar10(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (binary(IMAGES, LABELS)[:-1], "'data_batch_3.bin' holds 30,729 bytes; expected records of 3,073"),
        (binary(IMAGES[:9], LABELS[:9]), "'data_batch_3.bin' .* holds 9 images; expected 10"),
        (b"", "holds 0 bytes"),
    ],
)
def test_a_damaged_binary_batch_is_named(tmp_path: Path, data: bytes, fault: str) -> None:
    write(tmp_path, "binary")
    (tmp_path / "data_batch_3.bin").write_bytes(data)
    with pytest.raises(InputError, match=fault):
        read_cifar10(tmp_path)


def test_labels_out_of_range_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "binary")
    (tmp_path / "test_batch.bin").write_bytes(binary(IMAGES, LABELS + 1))
    with pytest.raises(InputError, match=r"test targets .* contain the index 10"):
        DATA.build(f"cifar10:{tmp_path}").load()


def test_damaged_archives_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no CIFAR-10 in folder"):
        read_cifar10(tmp_path)
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(b"not an archive")
    with pytest.raises(InputError, match=r"archive '.*' cannot be read"):
        read_cifar10(tmp_path)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        member.size = 30730
        tar.addfile(member, io.BytesIO(binary(IMAGES, LABELS)))
    path.write_bytes(content.getvalue())
    with pytest.raises(InputError, match=r"no 'data_batch_2\.bin'"):
        read_cifar10(path)
    path.write_bytes(content.getvalue()[:20000])
    with pytest.raises(InputError, match=r"tar\.gz' cannot be read \(it is cut short\)"):
        read_cifar10(path)
