"""Checkpoints made to do harm are refused in one line."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgescope.cli.weights import read_weights
from edgescope.errors import EdgescopeError, InputError
from edgescope.store.cells import decode_array, encode_array

STATE = {"weight": torch.zeros(64, 64), "bias": torch.ones(3)}


def saved(state: Any) -> bytes:
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def compressed(data: bytes) -> bytes:
    """The same archive, its parts deflated."""
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return content.getvalue()


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("hit",)


class Large:
    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (2**62,)


def test_a_checkpoint_that_unfolds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(saved(STATE))
    assert set(read_weights(path).state) == set(STATE)
    path.write_bytes(compressed(saved(STATE)))
    with pytest.raises(InputError, match="is not a readable checkpoint"):
        read_weights(path)


@pytest.mark.parametrize("content", [Bomb(), {"weight": Bomb()}, Large(), {"model": Large()}])
@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_run_or_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, zipped: bool) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pt"
    path.write_bytes(saved(content) if zipped else pickle.dumps(content))
    with pytest.raises(InputError) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "hit").exists()


def test_a_pipe_or_device_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InputError, match="is not a regular file"):
            read_weights(path)


@pytest.mark.parametrize("size", [2**62, 2**40, 10**8])
def test_a_header_that_promises_much_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "weights.safetensors"
    header = f'{{"a":{{"dtype":"F32","shape":[{size}],"data_offsets":[0,{4 * size}]}}}}'.encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(InputError, match="is not a complete safetensors file"):
        read_weights(path)
    path.write_bytes(size.to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(InputError, match="is not a complete safetensors file"):
        read_weights(path)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(data=st.binary(max_size=60), start=st.sampled_from([b"", b"PK\3\4", b"\x80\2", b"\x10" + bytes(7) + b"{"]))
def test_any_bytes_are_weights_or_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.pt"
    path.write_bytes(start + data)
    with pytest.raises(EdgescopeError) as caught:
        read_weights(path)
    assert str(caught.value).isprintable()


ARRAY = np.arange(6, dtype="<f4").reshape(2, 3)


@pytest.mark.parametrize(
    "array",
    [ARRAY, ARRAY.T, ARRAY[:, :0], np.array(2.5), ARRAY.astype(">f8"), ARRAY.astype(complex), ARRAY > 2, np.array("ü")],
    ids=str,
)
def test_arrays_of_a_record_read_back(array: np.ndarray) -> None:
    found = decode_array(encode_array(array, "x"))
    np.testing.assert_array_equal(found, array)
    assert (found.dtype, found.shape, found.flags.writeable) == (array.dtype, array.shape, True)
    assert found.flags.f_contiguous == array.flags.f_contiguous


@pytest.mark.parametrize(
    "change",
    [
        (b"(2, 3)", b"(9, 9)"),
        (b"(2, 3), ", b"(2**60,)"),
        (b"(2, 3)", b"(2,-3)"),
        (b"(2, 3), }    ", b"(99999999999"),
        (b"(2, 3), }      ", b"(10000000000,)}"),
        (b"'<f4'", b"'|O4'"),
        (b"'<f4'", b"'|O8'"),
        (b"'<f4'", b"'<f8'"),
        (b"NUMPY", b"numpy"),
        (b"\x01\x00", b"\x03\x00"),
        (b"fortran", b"FORTRAN"),
    ],
)
def test_an_array_with_another_header_is_refused(change: tuple[bytes, bytes]) -> None:
    cell = encode_array(ARRAY, "x")
    assert change[0] in cell
    with pytest.raises(ValueError, match="no array"):
        decode_array(cell.replace(*change, 1))
