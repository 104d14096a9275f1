"""What the hyper-parameters of optimizers may be, by the names that torch gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
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


@contextmanager
def kept_if_valid(groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The newest of an optimizer's parameter groups, to be checked in the block; removed again where that raises."""
    try:
        yield groups[-1]
    except BaseException:
        groups.pop()
        raise


def loss_of(closure: Callable[[], Any] | None) -> Any:
    """What ``closure`` returns, called with gradients enabled as ``step`` has to; None where there is none."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
