"""Sharpness-aware minimization around any optimizer: full batch, single samples, and any group size in between."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from edgescope.errors import InputError
from edgescope.optim.hyperparameters import check_group
from edgescope.optim.kept_buffers import KeptBuffers

Closure = Callable[[], Any]


class SAM(torch.optim.Optimizer):
    """Steps of ``base`` along the gradient at w + e, e = rho g / ||g||, with g the gradient at w.

    Foret et al. (2021, arXiv 2010.01412). With ``adaptive`` e = rho w^2 g / ||w g||, elementwise (Kwon et al. 2021),
    where rho is usually some ten times larger. The norm is that of all parameters together; ``rho`` and ``adaptive``
    may differ between groups. ``base`` is any optimizer class whose step needs no closure, ``options`` are its own:
    ``SAM(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9, rho=0.05)``.

    Three forms of a step, each of two gradients:

    - ``step(closure)``: the closure computes the loss of a batch, calls ``backward`` and returns the loss; gradients
      are cleared before each of its two calls. What it accumulates over micro-batches is one gradient. On the full
      batch this is full-batch SAM, on one sample 1-SAM.
    - ``first_step()`` after one ``backward``, then gradients cleared (``zero_grad=True``) and computed again, then
      ``step()`` or ``second_step()``. This is the form for accumulation in a loop of one's own, for clipping (between
      the second ``backward`` and ``step``), and for a gradient scaler: ``scaler.scale(loss).backward()``,
      ``first_step``, the same again, ``scaler.step(optimizer)``, ``scaler.update()``. The direction does not depend
      on the scale, so nothing is unscaled before ``first_step``; a step skipped for overflow restores the weights.
    - ``step([closure, ...], weights=sizes)``: m-sharpness. Every closure has its own perturbation, from its own group
      of m samples (m = 1: per sample), and the base steps along the weighted mean of the gradients found there.

    Weights are put back from a copy, bit for bit. A gradient that is zero or not finite perturbs nothing. Buffers that
    the second forward pass changes (running statistics) are put back to those of the first pass; the modules are found
    by a hook while they run, unless ``model`` is given, as it should be where it is compiled. ``param_groups``,
    ``state`` and ``state_dict()`` are those of the base, so a scheduler may be attached to either of them. Under
    data-parallel training gradients are averaged in both passes: one perturbation for all ranks.

    Raises :class:`InputError` for rho that is not positive and finite, options that the base refuses, sparse gradients,
    and calls out of order. Cost: two gradients a step and one more copy of the parameters.
    """

    # With this torch's gradient scaler calls `step` also after an overflow, when the weights still have to be restored.
    _step_supports_amp_scaling = True

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        base: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        adaptive: bool = False,
        model: nn.Module | None = None,
        **options: Any,
    ) -> None:
        super().__init__(params, {"rho": rho, "adaptive": adaptive})
        try:
            self.base = base(self.param_groups, **options)
        except (IndexError, TypeError, ValueError) as error:
            raise InputError(f"the base optimizer of SAM cannot be made: {error}") from error
        if isinstance(self.base, torch.optim.LBFGS | SAM):
            raise InputError(
                f"SAM around {type(self.base).__name__}", expected="an optimizer that takes one gradient a step"
            )
        for group in self.base.param_groups:
            _check_shared(group)
        self.defaults |= self.base.defaults
        self._share()
        self._saved: dict[Tensor, Tensor] | None = None
        self._buffers, self._model = KeptBuffers(), model
        self._first_step_hooks: OrderedDict[int, Callable[[SAM], None]] = OrderedDict()

    def register_first_step_pre_hook(self, hook: Callable[[SAM], None]) -> RemovableHandle:
        """Have ``hook(optimizer)`` called before each :meth:`first_step`, while the parameters are still those at w."""
        handle = RemovableHandle(self._first_step_hooks)
        self._first_step_hooks[handle.id] = hook
        return handle

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """One more group, ``rho`` and ``adaptive`` as for the others unless it says otherwise."""
        own = {name: param_group.get(name, self.defaults[name]) for name in ("rho", "adaptive")}
        check_group("optimizer SAM", own, ("rho", "adaptive"))
        _check_shared(param_group)
        if hasattr(self, "base"):
            self.base.add_param_group(own | param_group)
        else:
            super().add_param_group(param_group)

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        """Go from w to w + e, given the gradient at w; ``zero_grad`` clears it afterwards."""
        if self._saved is not None:
            raise InputError("SAM.first_step() twice in a row", expected="step() between, at the perturbed weights")
        for hook in tuple(self._first_step_hooks.values()):
            hook(self)
        members = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if any(p.grad.is_sparse for p, _ in members):
            raise InputError("SAM with sparse gradients", expected="dense ones", hint="sparse=False")
        self._saved = {p: p.detach().clone() for p, _ in members}
        norm = _length([p * p.grad if group["adaptive"] else p.grad for p, group in members])
        if 0 < norm < math.inf:
            for p, group in members:
                direction = p.square() * p.grad if group["adaptive"] else p.grad
                p.add_(direction, alpha=float(group["rho"]) / norm)
        self._buffers.start((p for group in self.param_groups for p in group["params"]), self._model)
        if zero_grad:
            self.zero_grad()

    def second_step(self, zero_grad: bool = False) -> None:
        """Go back to w and let the base step along the gradient at w + e; the same as ``step()`` without closure."""
        self.step()
        if zero_grad:
            self.zero_grad()

    def step(self, closure: Closure | Sequence[Closure] | None = None, weights: Sequence[float] | None = None) -> Any:
        """One step in one of the three forms above; returns the (weighted mean) loss at w, None without closure."""
        if closure is None:
            if self._saved is None:
                raise InputError("SAM.step() without a closure", expected="first_step() before it, or step(closure)")
            self._restore()
            self._base_step()
            return None
        if getattr(self, "found_inf", None) is not None:
            raise InputError("SAM with a closure and a gradient scaler", expected="first_step(), then scaler.step()")
        if self._saved is not None:
            raise InputError("SAM.step(closure) after first_step()", expected="step() without a closure")
        if callable(closure):
            loss = self._gradient_at_perturbed(closure)
            self.base.step()
            return loss
        return self._step_of_groups(list(closure), weights)

    def state_dict(self) -> dict[str, Any]:
        """That of the base, with ``rho`` and ``adaptive`` in its groups."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        self.base.load_state_dict(state_dict)
        self._share()

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in ("base", "_saved", "_model")}
        return super().__getstate__() | kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._buffers, self._first_step_hooks = KeptBuffers(), OrderedDict()
        if "base" in state:
            self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self.base.param_groups, self.base.state

    def _gradient_at_perturbed(self, closure: Closure) -> Any:
        """The loss at w; afterwards weights are those of before, and gradients those at w + e."""
        with torch.enable_grad():
            self.zero_grad()
            loss = closure()
        self.first_step(zero_grad=True)
        try:
            with torch.enable_grad():
                closure()
        finally:
            self._restore()
        return loss

    def _step_of_groups(self, closures: list[Closure], weights: Sequence[float] | None) -> Any:
        sizes = [1.0] * len(closures) if weights is None else [float(weight) for weight in weights]
        if not closures or len(sizes) != len(closures) or not all(0 < size < math.inf for size in sizes):
            raise InputError(
                f"SAM with {len(closures)} closures and {len(sizes)} weights",
                expected="at least one closure, and a positive weight for each",
            )
        members = [p for group in self.param_groups for p in group["params"]]
        mean: dict[Tensor, Tensor] = {}
        losses = []
        for closure, size in zip(closures, sizes, strict=True):
            share = size / sum(sizes)
            losses.append(share * self._gradient_at_perturbed(closure))
            for p in members:
                if p.grad is not None:
                    mean[p] = mean[p].add_(p.grad, alpha=share) if p in mean else share * p.grad
        for p in members:
            p.grad = mean.get(p)
        self.base.step()
        return sum(losses[1:], losses[0])

    @torch.no_grad()
    def _restore(self) -> None:
        for p, before in (self._saved or {}).items():
            p.copy_(before)
        self._saved = None
        self._buffers.stop()

    @torch.no_grad()
    def _base_step(self) -> None:
        """The base's step, on what a gradient scaler has left scaled and unless it has found an overflow."""
        scale = getattr(self, "grad_scale", None)
        if float(getattr(self, "found_inf", None) or 0.0):
            return
        if scale is not None:
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.grad.div_(scale.to(p.grad.device))
        self.base.step()


def _check_shared(group: dict[str, Any]) -> None:
    """Refuse what means nothing in any optimizer; None is for the base to judge, which may find its own rate."""
    check_group("optimizer SAM", {name: value for name, value in group.items() if value is not None})


def _length(pieces: list[Tensor]) -> float:
    """The Euclidean norm of all pieces together, worked out in float32 at least."""
    squares = [piece.to(torch.promote_types(piece.dtype, torch.float32)).square().sum() for piece in pieces]
    return float(torch.stack([square.to(squares[0].device) for square in squares]).sum().sqrt()) if squares else 0.0
