"""Checkpoints of a run: safetensors files that appear whole or not at all, the last few of them kept.

A checkpoint has the BLAKE2b digest of its whole file in its own header, taken with zeros in that place, so that every
altered bit is seen. Those of earlier versions, with checksums of the tensors alone, are read as unchecked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgescope.atomic import flush, subfolder, write_aside
from edgescope.disk_errors import storage_error
from edgescope.errors import EdgescopeWarning, InputError, RecordError
from edgescope.faq import see
from edgescope.store.cells import encode_json
from edgescope.store.database import FILE, KEPT, RESUME
from edgescope.transfers import to_host

FOLDER: Final = "checkpoints"
CHUNK: Final = 1 << 20
_DIGITS: Final = 64
_PLACEHOLDER: Final = "0" * _DIGITS
_KEY: Final = re.compile(rb'"edgescope\.digest"\s*:\s*"')


@dataclass(frozen=True)
class Checkpoint:
    """What was saved at ``step``: tensors by name (on the CPU) and ``meta``. ``skipped`` are newer, damaged files.

    ``checked`` says whether the whole file was compared with its digest, which those of earlier versions lack.
    """

    step: int
    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    path: Path
    skipped: tuple[Path, ...] = ()
    checked: bool = True

    @property
    def notice(self) -> str:
        """In one line, that newer checkpoints are damaged and this one was taken; empty where it is the newest."""
        names = ", ".join(path.name for path in self.skipped)
        return f"damaged: {names}; {self.path.name} was taken instead" if names else ""


def save_checkpoint(
    folder: str | os.PathLike[str], step: int, tensors: dict[str, Tensor], meta: dict[str, Any], keep: int = 3
) -> Path:
    """Save ``tensors`` and ``meta`` (anything JSON can hold) of ``step`` for the run in ``folder``; give the file.

    The file is written aside, flushed to the disk and renamed, so that a process killed meanwhile leaves the earlier
    ones intact; the newest ``keep`` stay. What the record of the run has committed is flushed first: no checkpoint is
    ahead of its record. Tensors of any device, shape and stride are taken, tied ones as copies. Raises
    :class:`InputError` for what safetensors cannot hold and :class:`RecordError` for a full or unwritable disk.
    """
    if step < 0 or keep < 1:
        raise InputError(f"a checkpoint of step {step}, keeping {keep}", expected="a step from 0 and at least 1 kept")
    header = encode_json({"step": int(step), "meta": meta}, "the meta of a checkpoint")
    plain = _separate(tensors)
    path = Path(folder) / FOLDER / f"step-{step:010d}.safetensors"
    try:
        subfolder(folder, FOLDER)
        log = Path(folder) / f"{FILE}-wal"
        if log.exists():
            flush(log)
        with write_aside(path) as aside:
            save_file(plain, aside, {"edgescope": header, "edgescope.digest": _PLACEHOLDER})
            with aside.open("r+b", buffering=0) as file:
                place = _place_of_digest(file)
                digest = _digest(file, place)
                file.seek(place)
                file.write(digest)
        for old in checkpoint_files(folder)[keep:]:
            if old != path:
                old.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:  # safetensors reports the system's error as text
        raise storage_error(error, path, KEPT, RESUME) from error
    return path


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in one file; :class:`RecordError` for a missing, foreign, truncated or altered one."""
    path = Path(path)
    damaged = f"{path} is not a complete checkpoint of Edgescope"
    before = "the checkpoint before it"
    if not path.is_file():
        raise RecordError(f"there is no checkpoint {path}")
    try:
        checked = _check_digest(path)
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["edgescope"])
            # Copied, because in the mapped file tensors lie unaligned, where vector units sum in another order: a
            # resumed run would differ in the last bits.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
        altered = []
        if not checked:
            sums = header["checksums"]
            altered = [name for name in sums if _checksum(tensors[name]) != sums[name]]
        checkpoint = Checkpoint(header["step"], tensors, header["meta"], path, checked=checked)
    except OSError as error:
        raise storage_error(error, path) from error
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"{damaged} ({' '.join(str(error).split())})", hint=before) from error
    if altered:
        raise RecordError(f"{damaged}: tensor '{altered[0]}' was altered", hint=before)
    return checkpoint


def latest_checkpoint(folder: str | os.PathLike[str]) -> Checkpoint | None:
    """The newest whole checkpoint of the run in ``folder``; None if none was saved.

    A damaged file is passed over for the one before, with an :class:`EdgescopeWarning`, and listed in ``skipped``;
    :class:`RecordError` if all are damaged.
    """
    skipped: list[Path] = []
    for path in checkpoint_files(folder):
        try:
            found = replace(load_checkpoint(path), skipped=tuple(skipped))
        except RecordError:
            skipped.append(path)
            continue
        if found.notice:
            warnings.warn(f"{path.parent}: {found.notice} {see('damaged-files')}", EdgescopeWarning, stacklevel=2)
        return found
    if skipped:
        raise RecordError(
            f"all {len(skipped)} checkpoints of {folder} are damaged",
            hint=f"removing {skipped[0].parent} to start again",
        )
    return None


def checkpoint_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The checkpoints of the run in ``folder``, whole or damaged, the newest first."""
    return sorted((Path(folder) / FOLDER).glob("step-*.safetensors"), reverse=True)


def _check_digest(path: Path) -> bool:
    """Whether the file has a digest, which is that of its content; ValueError where it is another."""
    with path.open("rb", buffering=0) as file:
        try:
            place = _place_of_digest(file)
        except KeyError:
            with safe_open(path, framework="pt") as content:
                if "checksums" not in json.loads((content.metadata() or {})["edgescope"]):
                    raise ValueError("its digest is missing") from None
            return False
        file.seek(place)
        if file.read(_DIGITS) != _digest(file, place):
            raise ValueError("it was altered: its digest is that of another content")
    return True


def _place_of_digest(file: BinaryIO) -> int:
    """Where in the file the digest lies; KeyError where its header has none."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    header = file.read(min(length, os.fstat(file.fileno()).st_size))
    found = [match.end() for match in _KEY.finditer(header)]
    if len(found) != 1:
        raise KeyError("its digest is missing")
    return 8 + found[0]


def _digest(file: BinaryIO, place: int) -> bytes:
    """BLAKE2b of the file with zeros for the digest at ``place``, as text."""
    digest = hashlib.blake2b(digest_size=_DIGITS // 2)
    file.seek(0)
    digest.update(file.read(place))
    digest.update(_PLACEHOLDER.encode())
    file.seek(place + _DIGITS)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest().encode()


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype == torch.complex128:
            raise InputError(
                f"tensor '{name}' ({tensor.dtype}, {tensor.layout}) cannot be saved", expected="a dense one"
            )
    plain: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in zip(tensors, to_host(list(tensors.values())), strict=True):
        tensor = tensor.resolve_conj().resolve_neg().contiguous()
        if tensor.untyped_storage().data_ptr() in storages:  # safetensors refuses tensors that share memory
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        plain[name] = tensor
    return plain


def _checksum(tensor: Tensor) -> int:
    """What earlier versions kept for every tensor."""
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data)
