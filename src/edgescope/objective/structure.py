"""The parameters of a model at one moment, and how they have changed since an earlier one."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

Kind = Literal["replaced", "added", "removed", "reshaped", "frozen", "thawed", "cast", "moved"]
Owned = tuple[str, dict[str, Any], str]


class ParameterState(NamedTuple):
    """One parameter: which tensor it is (by identity), and what of it can change."""

    tensor: int
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    trainable: bool


Structure = dict[str, ParameterState]


@dataclass(frozen=True)
class Change:
    """What has happened to the parameters with these names."""

    kind: Kind
    names: tuple[str, ...]

    def __str__(self) -> str:
        some = ", ".join(f"'{name}'" for name in self.names[:3])
        more = f" and {len(self.names) - 3} more" if len(self.names) > 3 else ""
        return f"{self.kind}: {some}{more}"


def owned_tensors(model: nn.Module, chosen: Container[str] | None = None) -> tuple[list[Owned], list[Owned]]:
    """Tensors to differentiate by, each once however often it is tied, and constants.

    The first are the trainable parameters, of those ``chosen`` by name; the second all others and the buffers. Each
    comes as its name, the dictionary that its module keeps it in, and its key there.
    """
    trainable: list[Owned] = []
    constant: list[Owned] = []
    seen: set[int] = set()
    modules = list(model.named_modules())
    for prefix, module in modules:
        for key, tensor in module._parameters.items():
            if tensor is None or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            name = f"{prefix}.{key}" if prefix else key
            wanted = tensor.requires_grad and (chosen is None or name in chosen)
            (trainable if wanted else constant).append((name, module._parameters, key))
    for prefix, module in modules:
        for key, tensor in module._buffers.items():
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                constant.append((f"{prefix}.{key}" if prefix else key, module._buffers, key))
    return trainable, constant


def structure_of(model: nn.Module) -> Structure:
    """All parameters of the model by name, tied ones once."""
    return {
        name: ParameterState(id(p), p.shape, p.dtype, p.device, p.requires_grad)
        for name, p in model.named_parameters()
        if isinstance(p, Tensor)
    }


def changes(before: Structure, now: Structure, chosen: Container[str] | None = None) -> list[Change]:
    """What differs between two moments, for the parameters ``chosen`` by name (None: all), one change a kind."""
    found: dict[Kind, list[str]] = {}

    def note(kind: Kind, name: str) -> None:
        found.setdefault(kind, []).append(name)

    for name in dict.fromkeys((*before, *now)):
        if chosen is not None and name not in chosen:
            continue
        old, new = before.get(name), now.get(name)
        if old is None or new is None:
            note("removed" if new is None else "added", name)
        elif old.shape != new.shape:
            note("reshaped", name)
        else:
            if old.trainable != new.trainable:
                note("thawed" if new.trainable else "frozen", name)
            if old.dtype != new.dtype:
                note("cast", name)
            if old.device != new.device:
                note("moved", name)
            if old.tensor != new.tensor and old.dtype == new.dtype and old.device == new.device:
                note("replaced", name)
    return [Change(kind, tuple(names)) for kind, names in found.items()]
