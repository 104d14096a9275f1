"""The step of an optimizer without memory as a function of the weights alone, which its flows average."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.flows.checks import check_objective
from edgescope.objective import Objective
from edgescope.optim import LabelNoiseSGD, Langevin, UpdateRule, rule_for
from edgescope.options import type_of


class StepMap:
    """F(w), which the optimizer would subtract from w in one step on all data: w' = w - F(w).

    For steepest descent F(w) = eta D(g(w)), where D is the gradient of half the squared dual norm (normalized: of the
    dual norm); coupled weight decay is part of g, and decoupled decay adds eta lambda w. Learning rates and options
    are read from the live optimizer at every call, neither it nor the model is changed, and parameters that it does
    not hold stay: F is 0 there.

    Raises :class:`NotKnownError` for optimizers whose step is not a function of w alone (momentum, second moments, two
    gradients a step, noise) and without a rule, and :class:`InputError` where the loss is not a function of the
    weights in training (dropout), or the objective is none. ``owner`` is what needs the map, in these errors.
    """

    def __init__(self, objective: Objective, optimizer: Any, owner: str) -> None:
        check_objective(objective, owner)
        self.objective = objective
        self.rule = rule_for(optimizer, objective.tensors)
        self.owner = owner
        check_memoryless(self.rule, owner)
        self._state = {name: value for name, value in self.rule.state().items() if name in self.rule.counts()}

    def __call__(self, w: Float[Tensor, " P"], gradient: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """F(w), given the gradient at w; no cost beyond that of one step of the optimizer."""
        with torch.no_grad():
            return w - self.rule.update(w, self._state, gradient)[0]

    def moving(self) -> Float[Tensor, " P"]:
        """1 for the entries that the optimizer holds, 0 for the others."""
        pieces = [
            torch.full((t.numel(),), float(held)) for t, held in zip(self.rule.tensors, self.rule.held, strict=True)
        ]
        return torch.cat(pieces).to(self.objective.device, self.objective.dtype)


def checked_weights(w: Any, objective: Objective, what: str) -> Float[Tensor, " P"]:
    """A flat vector where the objective measures; :class:`InputError` for anything else. ``what`` it is given as."""
    if not isinstance(w, Tensor):
        raise InputError(f"{what} given as {type_of(w)}", expected="flat weights", hint="objective.parameters()")
    if w.shape != (objective.size,):
        raise InputError(f"{what} with a vector of shape {tuple(w.shape)}", expected=f"shape ({objective.size},)")
    found = w.detach().to(objective.device, objective.dtype)
    if not bool(torch.isfinite(found).all()):
        raise InputError(f"{what} with a vector that is not finite (NaN or infinity)")
    return found


def check_memoryless(rule: UpdateRule, owner: str) -> None:
    """Raise :class:`NotKnownError` for a rule whose step is not a function of the weights alone."""
    reason = memory_of(rule)
    if reason is not None:
        raise NotKnownError(
            f"{owner} of {reason}, is not known",
            expected="an optimizer without memory: SGD without momentum, or SteepestDescent in any norm",
        )


def memory_of(rule: UpdateRule) -> str | None:
    """Why a step is not a function of the weights alone, as "SGD, which keeps momentum_buffer"; None where it is."""
    for one in rule.rules:
        if is_random(one):
            return f"{one.name}, whose steps are random"
        if one.gradients != 1:
            return f"{one.name}, which takes {one.gradients} gradients a step"
        if one.vectors():
            return f"{one.name}, which keeps {', '.join(one.vectors())}"
    return None


def is_random(rule: UpdateRule) -> bool:
    """Whether the steps of the optimizer have noise of their own."""
    return isinstance(rule.optimizer, Langevin | LabelNoiseSGD)
