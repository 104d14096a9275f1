"""Free memory, the fraction of it that a computation may use, and the one-line error where that is not enough."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import torch

from edgescope.errors import MemoryBudgetError

SHARE: Final = 0.8
"""The fraction of the free memory that a computation may plan to use; the rest is for the system and for rounding."""


def available(device: torch.device | str = "cpu") -> int:
    """Free memory of ``device`` in bytes, with what torch keeps there for its next tensors."""
    device = torch.device(device)
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        (free,) = re.findall(r"^MemAvailable: +(\d+) kB$", text, re.MULTILINE)
        return 1024 * int(free)
    except (OSError, ValueError):  # no Linux
        import psutil  # takes longer than all of a small measurement

        return int(psutil.virtual_memory().available)


def budget(device: torch.device | str = "cpu", limit: int | None = None) -> int:
    """The bytes that a computation may use: the caller's ``limit``, or 80% of what is free on ``device``."""
    return limit if limit is not None else int(SHARE * available(device))


def require(needed: int, what: str, *, device: torch.device | str = "cpu", limit: int | None = None, hint: str) -> None:
    """Raise :class:`MemoryBudgetError`, with both numbers, where ``what`` needs more bytes than the budget allows.

    Every memory check of the package is this one, so that all of them leave the same margin.
    """
    allowed = budget(device, limit)
    if needed > allowed:
        raise MemoryBudgetError(
            f"{what} needs an estimated {readable(needed)}, and {readable(allowed)} may be used", hint=hint
        )


def out_of_memory_error(error: BaseException) -> MemoryBudgetError | None:
    """A :class:`MemoryBudgetError` for an error of torch or Python that means "out of memory"; None for any other."""
    text = " ".join(str(error).split())
    failed = "not enough memory" in text or "DefaultCPUAllocator" in text
    if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and failed)):
        return None
    return MemoryBudgetError(
        f"memory ran out while the loss or its derivatives were computed ({text[:200] or type(error).__name__})",
        hint="fewer samples, chunk=, or a smaller memory_limit=",
    )


def readable(size: float) -> str:
    """A number of bytes in binary units: ``1.4 GiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
