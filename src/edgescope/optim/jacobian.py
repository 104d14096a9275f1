"""The Jacobian of one optimizer step: the linear map of small changes in parameters and optimizer state."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vmap

from edgescope.errors import InputError
from edgescope.optim.rule import UpdateRule


class Differentiable(Protocol):
    """What a Jacobian needs of an objective."""

    @property
    def size(self) -> int: ...

    def parameters(self) -> Float[Tensor, " P"]: ...

    def gradient(self) -> Float[Tensor, " P"]: ...

    def hvp(self, V: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]: ...


class UpdateJacobian:
    """The map (dw, dstate) -> (dw', dstate') of one step, at the point and state where it was made.

    ``names`` is the layout of a vector: ``"parameters"`` and then the state vectors of the rule, each of length P, one
    after the other; ``size`` is P times their number. Step counts are time, not state: they are held fixed. ``@`` takes
    ``(size,)`` or ``(size, k)``; every column is one Hessian product, counted in ``products``, and a derivative of the
    update itself. Not symmetric, hence not an ``Operator``.
    """

    def __init__(self, rule: UpdateRule, objective: Differentiable) -> None:
        self._rule = rule
        self._objective = objective
        self._w = objective.parameters()
        self._gradient = objective.gradient()
        state = {k: v if k == "step" else v.to(self._w) for k, v in rule.state().items()}
        self._counts = {"step": state.pop("step")}
        self._state = state
        self.names = ("parameters", *state)
        self.size = objective.size * len(self.names)
        self.dtype, self.device = self._w.dtype, self._w.device
        self.products = 0

    def __matmul__(self, block: Tensor) -> Tensor:
        if block.ndim not in (1, 2) or block.shape[0] != self.size:
            raise InputError(
                f"a block of shape {tuple(block.shape)} for the Jacobian of an update of size {self.size}",
                expected=f"shape ({self.size},) or ({self.size}, k), laid out as {', '.join(self.names)}",
            )
        columns = (block[:, None] if block.ndim == 1 else block).to(self._w)
        dw, *dstate = columns.chunk(len(self.names))
        tangents = (dw, self._objective.hvp(dw), *dstate)
        result = vmap(self._push, in_dims=1, out_dims=1)(*tangents)
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


def update_jacobian(rule: UpdateRule, objective: Differentiable) -> UpdateJacobian:
    """The Jacobian of the next step of ``rule`` on ``objective``, at its present parameters and the optimizer's state.

    Exact, preconditioners that depend on the gradient included: the tangent of the gradient is the Hessian product.
    Making it costs one gradient, a product with k columns k Hessian products. Raises :class:`InputError` where rule and
    objective are not of the same size.
    """
    size = sum(tensor.numel() for tensor in rule.tensors)
    if objective.size != size:
        raise InputError(
            f"an update rule for {size} parameters and an objective of {objective.size}", expected="the same"
        )
    return UpdateJacobian(rule, objective)
