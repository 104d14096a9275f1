from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from idx_writer import write_idx

from edgescope.data import fashion_5k
from edgescope.errors import InputError


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / "pack_fashion.py"
    spec = importlib.util.spec_from_file_location("pack_fashion", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pack_few(script: ModuleType, folder: Path, out: Path) -> None:
    script.pack(folder, out, train_a_class=2, test_a_class=1)


def test_the_packed_file_holds_the_first_of_each_class(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = write_idx(tmp_path)
    pack_few(script, tmp_path, tmp_path / "packed.npz")
    monkeypatch.setattr(fashion_5k, "PACKED", tmp_path / "packed.npz")
    raw = fashion_5k.Fashion5k().images()
    for part, images, labels, count in (
        ("train", raw.train, raw.train_labels, 2),
        ("t10k", raw.test, raw.test_labels, 1),
    ):
        seen = [0] * 10
        kept = []
        for position, label in enumerate(arrays[f"{part}-labels-idx1-ubyte"]):
            seen[label] += 1
            if seen[label] <= count:
                kept.append(position)
        np.testing.assert_array_equal(labels, arrays[f"{part}-labels-idx1-ubyte"][kept])
        np.testing.assert_array_equal(images[:, 0], arrays[f"{part}-images-idx3-ubyte"][kept])


def test_the_same_files_give_the_same_bytes(script: ModuleType, tmp_path: Path) -> None:
    write_idx(tmp_path)
    pack_few(script, tmp_path, tmp_path / "one.npz")
    pack_few(script, tmp_path, tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.npz") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_too_few_images_are_refused(script: ModuleType, tmp_path: Path) -> None:
    write_idx(tmp_path)
    with pytest.raises(InputError, match="class 0 has 4 images; expected at least 500"):
        script.pack(tmp_path, tmp_path / "packed.npz")


def test_the_licence_lies_beside_the_packed_file() -> None:
    text = (fashion_5k.PACKED.parent / "LICENSE.fashion-mnist").read_text()
    assert "Copyright (c) 2017 Zalando SE, https://tech.zalando.com" in text
    assert "Permission is hereby granted, free of charge" in text
