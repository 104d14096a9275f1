"""The processes that share the data of an objective: failures of one are failures of all, and one of them decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
import torch.distributed as distributed
from torch import Tensor

from edgescope.errors import EdgescopeError, InputError, NotKnownError

ProcessGroup: TypeAlias = distributed.ProcessGroup


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


def summed_over(group: ProcessGroup | None, value: Tensor, device: torch.device) -> Tensor:
    """The sum of a tensor over the processes of a group, which compute on ``device``; without a group, the tensor."""
    if group is None:
        return value
    shared = value.to(device, copy=True).contiguous()
    distributed.all_reduce(shared, group=group)
    return shared


def on_all(group: ProcessGroup | None, given: bool, device: torch.device, what: str, hint: str) -> bool:
    """Whether something is ``given`` on the processes of a group, which all ask; without one, whether it is here.

    Raises :class:`NotKnownError` on all where it is given on some alone, which would then wait for the others.
    """
    if group is None:
        return given
    number = int(summed_over(group, torch.tensor(float(given), device="cpu"), device))
    if number not in (0, group.size()):
        raise NotKnownError(f"{what} on {number} of the {group.size()} processes that share the data", hint=hint)
    return given


def is_first(group: ProcessGroup | None) -> bool:
    """Whether this process is the first of the group (None: of all), or the only one: the one that writes."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return True
    return distributed.get_rank(group) == 0


def as_the_first(function: Callable[[], Any], group: ProcessGroup | None) -> Any:
    """What ``function`` gives on the first process of the group, where alone it is called; without one, here.

    Anything that can be pickled. An :class:`EdgescopeError` is raised on all.
    """
    if group is None:
        return function()
    found: list[Any] = [None, None]
    if is_first(group):
        try:
            found[0] = function()
        except EdgescopeError as error:
            found[1] = error
    distributed.broadcast_object_list(found, group=group, group_src=0)
    if found[1] is not None:
        raise found[1]
    return found[0]
