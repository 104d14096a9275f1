"""References by plain autograd on the live model, with nothing put into it from outside."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from objective_problems import relative
from torch import Tensor, nn

from edgescope.errors import EdgescopeError
from edgescope.objective import Objective

LossFunction = Callable[[nn.Module, Any], Tensor]


@dataclass(frozen=True)
class Live:
    loss: Tensor
    gradient: Tensor
    hessian: Tensor


def flat(pieces: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
    return torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in zip(pieces, like, strict=True)])


def of_live_model(loss: Tensor, parameters: Sequence[Tensor]) -> Live:
    """Gradient and dense Hessian of a loss that was computed from live parameters, by double backward."""
    found = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    gradient = flat(found, parameters)
    rows = [
        flat(torch.autograd.grad(entry, parameters, retain_graph=True, allow_unused=True), parameters)
        if entry.requires_grad
        else torch.zeros_like(gradient)
        for entry in gradient
    ]
    return Live(loss.detach(), gradient.detach(), torch.stack(rows))


def at_once(model: nn.Module, loss_fn: LossFunction, whole: Any) -> Live:
    """All data in one batch, through the model as it is."""
    return of_live_model(loss_fn(model, whole), [p for p in model.parameters() if p.requires_grad])


def over_batches(
    model: nn.Module, loss_fn: LossFunction, batches: Sequence[Any], training: Sequence[type[nn.Module]] = ()
) -> Live:
    """The mean over batches, weighted by their samples, in evaluation but for parts of these types."""
    inside = copy.deepcopy(model).eval()
    for part in inside.modules():
        part.training = isinstance(part, tuple(training))
    sizes = [len(batch[0]) for batch in batches]
    losses = [loss_fn(inside, batch) for batch in batches]
    loss = sum(n * one for n, one in zip(sizes, losses, strict=True)) / sum(sizes)
    return of_live_model(loss, [p for p in inside.parameters() if p.requires_grad])


def agrees(objective: Objective, live: Live, slack: float = 1e-9) -> None:
    """Loss, gradient and every Hessian column are those of the live model."""
    assert relative(objective.loss(), live.loss) < slack
    assert relative(objective.gradient(), live.gradient) < slack
    columns = torch.eye(objective.size, dtype=objective.dtype)
    assert relative(objective.hvp(columns), live.hessian) < slack


def refused(kind: type[EdgescopeError], *words: str, make: Callable[[], object]) -> None:
    """One line of this type, which says these words."""
    with pytest.raises(kind) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def notices(objective: Objective, warned: bool = True) -> list[str]:
    """What was told, as a warning or for information."""
    return [notice.text for notice in objective.notices if notice.warned == warned]
