"""Buffers that a second forward pass would change again, such as running statistics, put back afterwards."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle


class KeptBuffers:
    """Between ``start`` and ``stop``, notes the buffers of every module that runs and holds one of the ``parameters``.

    ``stop`` puts them back, also where a module has replaced the tensor. An optimizer knows parameters and no module,
    so modules are met when they run: by a hook of torch that is there in between only, and goes when this object does.
    Where the ``model`` is given there is no hook, about which torch would warn before it runs a compiled one.
    """

    def __init__(self) -> None:
        self._handle: RemovableHandle | None = None
        self._members: set[int] = set()
        self._met: set[nn.Module] = set()
        self._kept: list[tuple[nn.Module, str, Tensor, Tensor]] = []

    def start(self, parameters: Iterable[Tensor], model: nn.Module | None = None) -> None:
        """Begin, forgetting what was noted before."""
        self._remove()
        self._members = {id(p) for p in parameters}
        if model is not None:
            self._note(model)
            return
        here = weakref.ref(self)

        def note(module: nn.Module, _: Any) -> None:
            kept = here()
            if kept is not None:
                kept._note(module)

        self._handle = register_module_forward_pre_hook(note)
        weakref.finalize(self, self._handle.remove)

    def stop(self) -> None:
        """End, with every buffer as it was when its module began to run."""
        with torch.no_grad():
            for module, name, buffer, value in self._kept:
                buffer.copy_(value)
                module._buffers[name] = buffer
        self._remove()

    def _note(self, module: nn.Module) -> None:
        if module in self._met:
            return
        held = any(id(p) in self._members for p in module.parameters())
        for part in module.modules() if held else (module,):
            if part in self._met:
                continue
            self._met.add(part)
            if held:
                self._kept += [
                    (part, name, b, b.detach().clone()) for name, b in part._buffers.items() if b is not None
                ]

    def _remove(self) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = None
        self._met.clear()
        self._kept.clear()
