"""torch's random generators: those of a DataLoader, and the states of those on whatever accelerator there is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def generators_of(source: Any) -> list[torch.Generator]:
    """The random generators that a DataLoader and its samplers have of their own; empty for other data."""
    batch_sampler = getattr(source, "batch_sampler", None)
    owners = [source, getattr(source, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)]
    found = (getattr(owner, "generator", None) for owner in owners)
    return [generator for generator in found if isinstance(generator, torch.Generator)]


def accelerator_states(*, in_use: bool = False) -> dict[str, list[Tensor]]:
    """The state of the global generator of each accelerator, by the kind of device ("cuda", "mps", "xpu").

    Empty on a machine without. ``in_use=True`` leaves a driver alone that this process has not started: it has drawn no
    random numbers yet, and starting it takes seconds and hundreds of MiB.
    """
    kind, module = _accelerator()
    if module is None or not module.is_available():
        return {}
    if in_use and not getattr(module, "is_initialized", lambda: True)():  # that of MPS starts with torch
        return {}
    return {kind: [module.get_rng_state(torch.device(kind, place)) for place in range(module.device_count())]}


def set_accelerator_states(states: dict[str, list[Tensor]]) -> None:
    """Continue from these states, where there are as many devices of that kind as then; others are ignored."""
    kind, module = _accelerator()
    kept = states.get(kind, [])
    if module is None or not kept or not module.is_available() or module.device_count() != len(kept):
        return
    for place, state in enumerate(kept):
        module.set_rng_state(state, torch.device(kind, place))


def _accelerator() -> tuple[str, Any]:
    found = torch.accelerator.current_accelerator()
    return ("", None) if found is None else (found.type, torch.get_device_module(found))
