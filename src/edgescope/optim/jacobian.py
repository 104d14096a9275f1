"""The Jacobian of one optimizer step: the linear map of small changes in parameters and optimizer state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import jvp, vmap

from edgescope.errors import InputError, NotKnownError
from edgescope.objective.modules import own_deprecations_quiet
from edgescope.options import type_of
from edgescope.short_errors import short_errors


@runtime_checkable
class Differentiable(Protocol):
    """What a Jacobian needs of an objective."""

    @property
    def size(self) -> int: ...

    def parameters(self) -> Float[Tensor, " P"]: ...

    def gradient(self) -> Float[Tensor, " P"]: ...

    def hvp(self, V: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]: ...


@runtime_checkable
class Updates(Protocol):
    """What a Jacobian needs of an :class:`~edgescope.optim.UpdateRule`."""

    @property
    def tensors(self) -> list[Tensor]: ...

    def layout(self) -> dict[str, list[bool]]: ...

    def state(self) -> dict[str, Tensor]: ...

    @property
    def update(self) -> Callable[..., tuple[Tensor, dict[str, Tensor]]]: ...


class UpdateJacobian:
    """The map (dw, dstate) -> (dw', dstate') of one step, at the point and state where it was made.

    ``names`` is the layout of a vector: ``"parameters"`` and then the state vectors of the rule, one after the other,
    each of length P; ``size`` is P times their number. Where there are constants, or optimizers that keep different
    state, each has only the entries of the tensors that ``rule.layout()`` names, and ``size`` is the sum: what never
    moves is no direction of the dynamics. Step counts and other numbers of ``rule.state()`` that ``rule.layout()`` does
    not name are time, not state: they are held fixed. ``@`` takes ``(size,)``
    or ``(size, k)``; every column is one Hessian product, counted in ``products``, and a derivative of the update
    itself. Not symmetric, hence not an ``Operator``.
    """

    def __init__(self, rule: Updates, objective: Differentiable) -> None:
        self._rule = rule
        self._objective = objective
        self._w = objective.parameters()
        self._gradient = objective.gradient()
        layout = rule.layout()
        own = {k: v.to(self._w) if k in layout else v.to(self._w.device) for k, v in rule.state().items()}
        self._state = {k: v for k, v in own.items() if k in layout}
        self._counts = {k: v for k, v in own.items() if k not in layout}
        self.names = ("parameters", *self._state)
        present = [_entries(rule.tensors, layout[name]) for name in self.names]
        self._present = None if all(bool(p.all()) for p in present) else torch.cat(present).to(self._w.device)
        self.size = sum(int(p.sum()) for p in present)
        self.dtype, self.device = self._w.dtype, self._w.device
        self.products = 0

    def __matmul__(self, block: Tensor) -> Tensor:
        if block.ndim not in (1, 2) or block.shape[0] != self.size:
            raise InputError(
                f"a block of shape {tuple(block.shape)} for the Jacobian of an update of size {self.size}",
                expected=f"shape ({self.size},) or ({self.size}, k), laid out as {', '.join(self.names)}",
            )
        columns = (block[:, None] if block.ndim == 1 else block).to(self._w)
        if self._present is not None:
            whole = columns.new_zeros((len(self._present), columns.shape[1]))
            whole[self._present] = columns
            columns = whole
        dw, *dstate = columns.chunk(len(self.names))
        tangents = (dw, self._objective.hvp(dw), *dstate)
        with own_deprecations_quiet():
            result = vmap(self._push, in_dims=1, out_dims=1)(*tangents)
        if self._present is not None:
            result = result[self._present]
        self.products += columns.shape[1]
        if not bool(torch.isfinite(result).all()):
            raise InputError(
                "a product with the Jacobian of the update is not finite (NaN or infinity)",
                hint="a smaller learning rate, float64, or checking the parameters and the data for NaN",
            )
        return result[:, 0] if block.ndim == 1 else result

    def _push(self, *tangents: Tensor) -> Tensor:
        return jvp(self._step, (self._w, self._gradient, *self._state.values()), tangents)[1]

    def _step(self, w: Tensor, gradient: Tensor, *vectors: Tensor) -> Tensor:
        state = dict(zip(self._state, vectors, strict=True))
        new, after = self._rule.update(w, state | self._counts, gradient)
        return torch.cat([new, *(after[name] for name in self._state)])


def _entries(tensors: list[Tensor], present: list[bool]) -> Bool[Tensor, " P"]:
    """The mask of tensors as one of their entries."""
    return torch.cat([torch.full((t.numel(),), here, device="cpu") for t, here in zip(tensors, present, strict=True)])


@short_errors
def update_jacobian(rule: Updates, objective: Differentiable) -> UpdateJacobian:
    """The Jacobian of the next step of ``rule`` on ``objective``, at its present parameters and the optimizer's state.

    Exact, preconditioners that depend on the gradient included: the tangent of the gradient is the Hessian product.
    Making it costs one gradient, a product with k columns k Hessian products. Raises :class:`InputError` where rule and
    objective are not of the same size.
    """
    for given, name, needed in (
        (rule, "rule", ("tensors", "state", "update", "layout")),
        (objective, "objective", ("size", "parameters", "gradient", "hvp")),
    ):
        if isinstance(given, type) or not all(hasattr(given, each) for each in needed):
            raise InputError(
                f"update_jacobian with a {name} that is {type_of(given)}",
                expected="an UpdateRule and an Objective",
                hint="update_jacobian(rule_for(optimizer, objective.tensors), objective)",
            )
    size = sum(tensor.numel() for tensor in rule.tensors)
    if getattr(rule, "gradients", 1) != 1:
        raise NotKnownError(
            f"the Jacobian of a step of {rule.gradients} gradients is not known",  # type: ignore[attr-defined]
            expected="an optimizer that takes one gradient a step",
        )
    if objective.size != size:
        raise InputError(
            f"an update rule for {size} parameters and an objective of {objective.size}", expected="the same"
        )
    return UpdateJacobian(rule, objective)
