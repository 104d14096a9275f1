"""Checkpoints appear whole or not at all, and a broken one is passed over for the one before."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgescope.errors import EdgescopeWarning, InputError, RecordError
from edgescope.process_identity import machine_key
from edgescope.store import latest_checkpoint, load_checkpoint, save_checkpoint


def save(folder: Path, step: int, **options: int) -> Path:
    return save_checkpoint(folder, step, {"w": torch.full((50,), float(step))}, {"epoch": step, "x": None}, **options)


def test_round_trip_and_the_newest_are_kept(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    paths = [save(tmp_path, step, keep=2) for step in (2, 10, 100)]
    assert [path.exists() for path in paths] == [False, True, True]
    latest = latest_checkpoint(tmp_path)
    assert latest
    assert (latest.step, latest.meta, latest.path, latest.skipped) == (100, {"epoch": 100, "x": None}, paths[2], ())
    assert torch.equal(latest.tensors["w"], torch.full((50,), 100.0))
    assert sorted(os.listdir(tmp_path / "checkpoints")) == sorted(path.name for path in paths[1:])


def test_a_step_saved_again_replaces_itself(tmp_path: Path) -> None:
    save(tmp_path, 5)
    path = save_checkpoint(tmp_path, 5, {"w": torch.zeros(1)}, {})
    assert load_checkpoint(path).meta == {}
    assert len(os.listdir(path.parent)) == 1


def test_loaded_tensors_outlive_the_file_and_may_be_written(tmp_path: Path) -> None:
    path = save(tmp_path, 5)
    tensors = load_checkpoint(path).tensors
    tensors["w"] += 1
    assert load_checkpoint(path).tensors["w"][0] == 5
    path.unlink()
    assert tensors["w"][49] == 6


def test_loaded_tensors_lie_aligned_as_fresh_ones_do(tmp_path: Path) -> None:
    # Sums over unaligned memory differ in the last bits, so a resumed run would leave the path of the undisturbed one.
    tensors = {str(size): torch.rand(size) for size in (3, 7, 23, 1)}
    loaded = load_checkpoint(save_checkpoint(tmp_path, 0, tensors, {})).tensors
    assert [tensor.data_ptr() % 64 for tensor in loaded.values()] == [0] * 4


@pytest.mark.parametrize("position", ["empty", "header", "half", "last byte", "flipped bit", "flipped header"])
def test_a_broken_newest_file_is_passed_over_and_named(tmp_path: Path, position: str) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    whole = newest.read_bytes()
    data = len(whole) - 200
    newest.write_bytes(
        {
            "empty": b"",
            "header": whole[:20],
            "half": whole[: data + 100],
            "last byte": whole[:-1],
            "flipped bit": whole[: data + 77] + bytes([whole[data + 77] ^ 1]) + whole[data + 78 :],
            "flipped header": whole.replace(b'"edgescope"', b'"EDGEscope"'),
        }[position]
    )
    with pytest.raises(RecordError, match=r"step-0000000002.*not a complete checkpoint") as caught:
        load_checkpoint(newest)
    assert "\n" not in str(caught.value)
    with pytest.warns(EdgescopeWarning, match=r"damaged: step-0000000002.*step-0000000001.* was taken instead"):
        found = latest_checkpoint(tmp_path)
    assert found
    assert (found.step, found.skipped) == (1, (newest,))
    assert found.notice.count("\n") == 0


def test_all_broken_is_an_error_and_no_fresh_start(tmp_path: Path) -> None:
    save(tmp_path, 1).write_bytes(b"x")
    save(tmp_path, 2).write_bytes(b"x")
    with pytest.raises(RecordError, match=r"all 2 checkpoints .* are damaged"):
        latest_checkpoint(tmp_path)


def test_foreign_and_missing_files(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(RecordError, match="not a complete checkpoint of Edgescope"):
        load_checkpoint(tmp_path / "model.safetensors")
    save_file({"w": torch.ones(2)}, tmp_path / "odd.safetensors", {"edgescope": "[1]"})
    with pytest.raises(RecordError, match="not a complete checkpoint of Edgescope"):
        load_checkpoint(tmp_path / "odd.safetensors")
    with pytest.raises(RecordError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_a_save_that_dies_leaves_the_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = save(tmp_path, 1)
    # A process killed before the rename leaves only a folder aside, which nobody reads and the next save sweeps up.
    aside = earlier.parent / f".step-0000000002.safetensors.{machine_key()}-{os.getpid()}-1-0123abcd.part"
    aside.mkdir()
    (aside / "step-0000000002.safetensors").write_bytes(b"half")
    latest = latest_checkpoint(tmp_path)
    assert latest
    assert (latest.step, latest.skipped) == (1, ())

    def no_space(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    for function in ("edgescope.store.checkpoint.save_file", "os.fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(function, no_space)
            with pytest.raises(RecordError, match=r"the disk is full.*committed before is kept") as caught:
                save(tmp_path, 2)
        assert "\n" not in str(caught.value)
        assert [path.name for path in earlier.parent.iterdir()] == [earlier.name]


def test_a_file_that_the_system_stops_from_growing(tmp_path: Path) -> None:
    earlier = save(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(RecordError, match="committed before is kept") as caught:
            save_checkpoint(tmp_path, 2, {"w": torch.ones(5000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert [path.name for path in earlier.parent.iterdir()] == [earlier.name]


def test_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecordError, match="cannot read or write"):
        save(tmp_path / "file", 1)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="step -1"):
        save(tmp_path, -1)
    with pytest.raises(InputError, match="keeping 0"):
        save(tmp_path, 1, keep=0)
    with pytest.raises(InputError, match="meta of a checkpoint cannot be stored as JSON"):
        save_checkpoint(tmp_path, 1, {}, {"a": object()})
    for bad in (torch.eye(2).to_sparse(), torch.zeros(2, dtype=torch.complex128)):
        with pytest.raises(InputError, match="tensor 'w'"):
            save_checkpoint(tmp_path, 1, {"w": bad}, {})
    assert latest_checkpoint(tmp_path) is None
