"""Sums over the processes that share the data, and failures that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from edgescope.errors import InputError


@contextmanager
def jointly(summed: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """What fails inside on one process of a group fails on all, so that none waits for the others.

    ``summed`` adds up over the processes, which is done once, and must not be done inside.
    """
    try:
        yield
    except Exception:
        summed(torch.ones((), dtype=torch.float64, device="cpu"))
        raise
    refused = float(summed(torch.zeros((), dtype=torch.float64, device="cpu")))
    if refused:
        raise InputError(f"{refused:g} of the processes of the group refused their data or loss; see their errors")
