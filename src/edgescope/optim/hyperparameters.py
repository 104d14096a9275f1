"""What the hyper-parameters of optimizers may be, by the names that torch gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from edgescope.options import Check, check_bool, check_each, real, refusal

SHARED = ("lr", "momentum", "dampening", "weight_decay")
"""Names that mean the same in every optimizer, whoever wrote it."""


def check_betas(owner: str, name: str, value: Any, *, hint: str | None = None) -> tuple[float, ...]:
    """Two numbers of at least 0 and below 1."""
    betas = check_each(owner, name, value, check=real(least=0, below=1), hint=hint)
    if len(betas) != 2:
        raise refusal(owner, name, value, "two numbers", "betas=0.9x0.999")
    return betas


RANGES: dict[str, Check] = {
    "lr": real(least=0),  # schedules start and end at 0
    "momentum": real(least=0, below=1),
    "dampening": real(least=0, below=1),
    "weight_decay": real(least=0),
    "betas": check_betas,
    "alpha": real(least=0, below=1),
    "eps": real(least=0),
    "rho": real(above=0),
    "adaptive": check_bool,
    "normalized": check_bool,
    "temperature": real(above=0),
}


def check_group(owner: str, group: dict[str, Any], names: Sequence[str] = SHARED) -> None:
    """Raise :class:`InputError` for the first of the options ``names`` of a parameter group that means nothing."""
    for name in names:
        if name in group:
            value = group[name]
            RANGES[name](owner, name, float(value) if isinstance(value, Tensor) else value)
