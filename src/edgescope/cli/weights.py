"""Weights from a checkpoint file: read without running any code that it holds, and put into a model that fits."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from edgescope.errors import InputError
from edgescope.memory import require
from edgescope.store import Checkpoint, latest_checkpoint, load_checkpoint, unpack_state

WEIGHTS: Final = ("model", "state_dict", "model_state_dict", "model_state")
OPTIMIZER: Final = ("optimizer", "optimizer_state_dict", "optimizer_state", "optimizer_states")
WRAPPERS: Final = ("module.", "_orig_mod.", "model.")
"""Prefixes that data-parallel and compiled wrappers, and trainers, put before every name."""


@dataclass(frozen=True)
class Weights:
    """What a checkpoint holds: the model's state by name and, where it is there, its optimizer's ``state_dict``."""

    path: Path
    state: dict[str, Tensor]
    optimizer: dict[str, Any] | None = None


def read_weights(path: Path) -> Weights:
    """The weights in a safetensors file, a ``torch.save`` file, a checkpoint of Edgescope, or a run's newest one.

    In a ``torch.save`` file they are the whole (a ``state_dict``) or lie under one of ``WEIGHTS``. Only tensors and
    plain containers are read: a file that would have to run code to be read raises :class:`InputError`, as does one
    that is no checkpoint; a damaged checkpoint of a run raises :class:`RecordError`.
    """
    if path.is_dir():
        newest = latest_checkpoint(path)
        if newest is None:
            raise InputError(f"{path} contains no checkpoint", expected="a checkpoint file, or the folder of a run")
        return _own(newest)
    if path.exists() and not path.is_file():  # a pipe would be waited for, a device never ends
        raise InputError(f"{path} is not a regular file", expected="a checkpoint file, or the folder of a run")
    try:
        with path.open("rb") as file:
            start = file.read(9)
        require(path.stat().st_size, f"the checkpoint {path}", hint="a machine with more memory")
    except OSError as error:
        raise InputError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    return _safetensors(path) if start[8:9] == b"{" else _torch(path)


def put_weights(weights: Weights, model: nn.Module) -> None:
    """Copy the weights into ``model``; InputError that names the first few keys where they are not those of it."""
    wanted = model.state_dict(keep_vars=True)
    given = _unwrapped(weights.state, wanted)
    shared = {id(t): name for name, t in wanted.items() if name in given}  # tied weights may be stored once
    missing = [name for name, t in wanted.items() if name not in given and id(t) not in shared]
    unexpected = [name for name in given if name not in wanted]
    misfits = [
        f"{name} {tuple(given[name].shape)} where the model has {tuple(t.shape)}"
        for name, t in wanted.items()
        if name in given and isinstance(t, Tensor) and given[name].shape != t.shape
    ]
    faults = [
        f"{kind} {_few(names)}"
        for kind, names in (("it lacks", missing), ("it has besides", unexpected), ("of other shape:", misfits))
        if names
    ]
    if faults:
        raise InputError(
            f"{weights.path} is a checkpoint of another model: {'; '.join(faults)}",
            expected="the model that the objective's function makes",
        )
    spoilt = [name for name, t in given.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if spoilt:
        raise InputError(f"{weights.path} contains weights that are NaN or infinite: {_few(spoilt)}")
    with torch.no_grad():
        for name, tensor in given.items():
            if isinstance(wanted[name], Tensor):
                wanted[name].copy_(tensor)


def _safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            if "edgescope" in (file.metadata() or {}):
                return _own(load_checkpoint(path))
            return Weights(path, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise InputError(f"{path} is not a complete safetensors file ({_line(error)})") from error


def _own(checkpoint: Checkpoint) -> Weights:
    state, optimizer = (unpack_state(part, checkpoint.tensors, checkpoint.meta) for part in ("model", "optimizer"))
    return Weights(checkpoint.path, state, optimizer)


def _torch(path: Path) -> Weights:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                # torch.save stores; what is compressed could grow a thousandfold.
                grown = [part.filename for part in archive.infolist() if part.file_size != part.compress_size]
            if grown:
                raise pickle.UnpicklingError
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zipfile and pickle each raise their own for a damaged file
        if refused := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise InputError(
                f"{path} was refused: it contains a pickled Python object ({refused[1]}), which runs code when read",
                expected="tensors only",
                hint="torch.save(model.state_dict(), ...) or safetensors",
            ) from error
        reason = "not written by torch.save" if isinstance(error, pickle.UnpicklingError) else _line(error)
        raise InputError(
            f"{path} is not a readable checkpoint ({reason})", expected="a safetensors or torch.save file"
        ) from error
    state = content
    if isinstance(content, Mapping) and not _is_state(content):
        state = next((content[key] for key in WEIGHTS if _is_state(content.get(key))), None)
    if not _is_state(state):
        keys = f" (its keys: {_few([str(key) for key in content])})" if isinstance(content, Mapping) else ""
        raise InputError(
            f"{path} contains no weights{keys}",
            expected=f"a state_dict, by itself or under one of {', '.join(WEIGHTS)}",
        )
    optimizer = next((content[key] for key in OPTIMIZER if key in content), None)
    if isinstance(optimizer, list | tuple):
        optimizer = optimizer[0] if len(optimizer) == 1 else None
    if not (isinstance(optimizer, Mapping) and {"state", "param_groups"} <= optimizer.keys()):
        optimizer = None
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    return Weights(path, tensors, None if optimizer is None else dict(optimizer))


def _is_state(thing: Any) -> bool:
    return (
        isinstance(thing, Mapping)
        and any(isinstance(value, Tensor) for value in thing.values())
        and all(isinstance(v, Tensor) or str(name).endswith("_extra_state") for name, v in thing.items())
    )


def _unwrapped(given: dict[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    for prefix in WRAPPERS * 2:
        if all(name.startswith(prefix) for name in given) and not any(name in wanted for name in given):
            given = {name.removeprefix(prefix): tensor for name, tensor in given.items()}
    return given


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:160] or type(error).__name__
