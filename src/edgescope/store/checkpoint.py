"""Checkpoints of a run: safetensors files that appear whole or not at all, the last few of them kept."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgescope.errors import InputError, RecordError
from edgescope.store.cells import encode_json
from edgescope.store.database import faults, record_error

FOLDER: Final = "checkpoints"


@dataclass(frozen=True)
class Checkpoint:
    """What was saved at ``step``: tensors by name (on the CPU) and ``meta``. ``skipped`` are newer, broken files."""

    step: int
    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    path: Path
    skipped: tuple[Path, ...] = ()


def save_checkpoint(
    folder: str | os.PathLike[str], step: int, tensors: dict[str, Tensor], meta: dict[str, Any], keep: int = 3
) -> Path:
    """Save ``tensors`` and ``meta`` (anything JSON can hold) of ``step`` for the run in ``folder``; give the file.

    The file is written aside, flushed to the disk and renamed, so that a process killed meanwhile leaves the earlier
    ones intact; the newest ``keep`` stay. Tensors of any device, shape and stride are taken, tied ones as copies.
    Raises :class:`InputError` for what safetensors cannot hold and :class:`RecordError` for a full or unwritable disk.
    """
    if step < 0 or keep < 1:
        raise InputError(f"a checkpoint of step {step}, keeping {keep}", expected="a step from 0 and at least 1 kept")
    plain = _separate(tensors)
    header = {"step": int(step), "meta": meta, "checksums": {name: _checksum(t) for name, t in plain.items()}}
    text = encode_json(header, "the meta of a checkpoint")
    path = Path(folder) / FOLDER / f"step-{step:010d}.safetensors"
    aside = path.with_name(f".{path.name}.new")
    with faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(plain, aside, {"edgescope": text})
            _flush(aside)
            aside.replace(path)
        except SafetensorError as error:
            raise record_error(OSError(str(error)), path) from error
        finally:
            aside.unlink(missing_ok=True)
        _flush(path.parent)
        for old in checkpoint_files(folder)[keep:]:
            if old != path:
                old.unlink(missing_ok=True)
    return path


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in one file; :class:`RecordError` for a missing, foreign, truncated or altered one."""
    path = Path(path)
    broken = f"{path} is not a whole checkpoint of Edgescope"
    with faults(path):
        if not path.is_file():
            raise RecordError(f"there is no checkpoint {path}")
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["edgescope"])
                # Copied, because in the mapped file tensors lie unaligned, where vector units sum in another order: a
                # resumed run would differ in the last bits.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
            altered = [name for name, checksum in header["checksums"].items() if _checksum(tensors[name]) != checksum]
            checkpoint = Checkpoint(header["step"], tensors, header["meta"], path)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise RecordError(f"{broken} ({error})", hint="the one before") from error
    if altered:
        raise RecordError(f"{broken}: tensor '{altered[0]}' was altered", hint="the one before")
    return checkpoint


def latest_checkpoint(folder: str | os.PathLike[str]) -> Checkpoint | None:
    """The newest whole checkpoint of the run in ``folder``; None if none was saved.

    A broken file is passed over for the one before and listed in ``skipped``; :class:`RecordError` if all are broken.
    """
    skipped: list[Path] = []
    for path in checkpoint_files(folder):
        try:
            return replace(load_checkpoint(path), skipped=tuple(skipped))
        except RecordError:
            skipped.append(path)
    if skipped:
        raise RecordError(
            f"all {len(skipped)} checkpoints of {folder} are broken", hint=f"removing {skipped[0].parent} to begin anew"
        )
    return None


def checkpoint_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The checkpoints of the run in ``folder``, whole or broken, the newest first."""
    return sorted((Path(folder) / FOLDER).glob("step-*.safetensors"), reverse=True)


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    plain: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype == torch.complex128:
            raise InputError(
                f"tensor '{name}' ({tensor.dtype}, {tensor.layout}) cannot be saved", expected="a dense one"
            )
        tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        if tensor.untyped_storage().data_ptr() in storages:  # safetensors refuses tensors that share memory
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        plain[name] = tensor
    return plain


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data)


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows has no way to flush a folder
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
