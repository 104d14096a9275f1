"""How much memory there is, and a refusal in plain figures when a measurement would need more."""

from __future__ import annotations

import psutil
import torch

from edgescope.errors import MemoryBudgetError

SHARE = 0.8
"""The share of the free memory that a measurement may plan to use; the rest is left to the system and to rounding."""


def available(device: torch.device | str = "cpu") -> int:
    """Free memory of ``device`` in bytes."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def budget(device: torch.device | str = "cpu", limit: int | None = None) -> int:
    """What a measurement may use in bytes: the caller's ``limit``, or a share of what is free on ``device``."""
    return limit if limit is not None else int(SHARE * available(device))


def require(needed: int, what: str, *, device: torch.device | str = "cpu", limit: int | None = None, hint: str) -> None:
    """Raise :class:`MemoryBudgetError`, which names both figures, when ``needed`` bytes are more than the budget."""
    allowed = budget(device, limit)
    if needed > allowed:
        raise MemoryBudgetError(
            f"{what} needs an estimated {readable(needed)}, and {readable(allowed)} may be used", hint=hint
        )


def readable(size: float) -> str:
    """A number of bytes for people: ``1.4 GiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
