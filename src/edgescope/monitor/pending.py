"""The optimizer step under way: where it began, and what is known of it until its reading is taken."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.measures import Previous, StepTaken
from edgescope.measures.rules import ids_of
from edgescope.measures.step_taken import compare_gradients, compare_parts, compare_steps, step_of_rule
from edgescope.objective import Objective
from edgescope.optim import UpdateRule
from edgescope.shards import whole

Pieces = dict[int, Tensor]
"""Flat pieces of a vector, by the places of their tensors among those of the objective."""


@dataclass
class PartOfStep:
    """What one optimizer does in a step: the ``state`` of its rule before it, the ``gradients`` that it steps with,
    where there are any, and the step of the rule on them (``ruled``; None: no rule that could say).

    ``ready`` says whether the gradients were there when the step began.
    """

    name: str
    rule: UpdateRule | None
    state: dict[str, Tensor] | None = None
    gradients: Pieces = field(default_factory=dict)
    ruled: Pieces | None = None
    ready: bool = True


@dataclass
class PendingStep:
    """One step: the measures that are ``due`` after it, and what they need of the parameters before it.

    ``previous`` is where the step began; None where no measure needs that, or it could not be had. ``parts`` are those
    of the optimizers, by identity, which have begun their part of the step, and ``stepped`` the optimizers that have
    ended theirs. ``cost`` and ``seconds`` are what all this took. ``start`` are the parameters where it began,
    ``rates`` its learning rates, and ``batch`` and ``loss`` the data and the loss that the caller says it was taken on.
    """

    due: set[str]
    previous: Previous | None = None
    parts: dict[int, PartOfStep] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0
    stepped: list[torch.optim.Optimizer] = field(default_factory=list)
    start: Float[Tensor, " P"] | None = None
    rates: list[float] = field(default_factory=list)
    batch: Any = None
    loss: Any = None

    def begin(self, objective: Objective, known: Previous | None) -> None:
        """Note where the step begins; ``known`` is what was found at the same parameters before."""
        began, before = time.perf_counter(), objective.spent
        parameters = objective.parameters()
        if known is not None and torch.equal(known.parameters, parameters):
            self.previous = known
        else:
            gradient = objective.gradient()
            self.previous = Previous(parameters, objective.loss(), gradient)
        self.start = self.previous.parameters
        self.cost += objective.spent - before
        self.seconds += time.perf_counter() - began

    def begin_part(
        self, objective: Objective, optimizer: torch.optim.Optimizer, rule: UpdateRule | None, ready: bool
    ) -> None:
        """Note what ``optimizer`` is going to step with."""
        part = self.parts[id(optimizer)] = PartOfStep(type(optimizer).__name__, rule, ready=ready)
        if ready:
            part.gradients = gradients_of(objective, ids_of(optimizer), loss_scale(optimizer))
        part.state = None if rule is None else rule.state()

    def end_part(self, objective: Objective, optimizer: torch.optim.Optimizer) -> None:
        """Note the gradient of a closure, and the step of the rule with the options that it has now."""
        part = self.parts.get(id(optimizer))
        self.rates += [float(group["lr"]) for group in optimizer.param_groups if "lr" in group]
        if part is None:
            return
        if not part.ready:
            part.gradients = gradients_of(objective, ids_of(optimizer), loss_scale(optimizer))
        if self.previous is not None and part.rule is not None and part.state is not None:
            gradient = _filled(part.gradients, objective)
            step = step_of_rule(part.rule, self.previous.parameters, part.state, gradient)
            part.ruled = {i: step[objective.layout[i].slice] for i in part.gradients}

    def training_gradient(self, objective: Objective) -> Float[Tensor, " P"] | None:
        """The gradients of all optimizers as one vector, zero where there was none; None where none is known."""
        each = [_filled(part.gradients, objective) for part in self.parts.values() if part.gradients]
        return sum(each[1:], each[0]) if each else None

    def of_the_rule(self, objective: Objective) -> Float[Tensor, " P"] | None:
        """The steps of the rules on these gradients as one vector, zero where there was none; None where not known."""
        parts = [part for part in self.parts.values() if part.gradients]
        pieces = {i: piece for part in parts for i, piece in (part.ruled or {}).items()}
        return None if not parts or any(part.ruled is None for part in parts) else _filled(pieces, objective)

    def at_target_rate(self, objective: Objective) -> tuple[Float[Tensor, " P"], tuple[float, ...]] | None:
        """The step of the rules at the rates that a schedule starts from, and these; None where one is not known."""
        found, rates = torch.zeros(objective.size, dtype=torch.float64, device=objective.device), []
        for part in self.parts.values():
            if self.start is None or part.rule is None or part.state is None or not part.gradients:
                return None
            groups = list({id(group): group for group in part.rule.groups() if "initial_lr" in group}.values())
            rates += [float(group["initial_lr"]) for group in groups]
            kept = [group["lr"] for group in groups]
            try:
                for group in groups:
                    group["lr"] = group["initial_lr"]
                step = step_of_rule(part.rule, self.start, part.state, _filled(part.gradients, objective))
            finally:
                for group, rate in zip(groups, kept, strict=True):
                    group["lr"] = rate
            for i in part.gradients:
                found[objective.layout[i].slice] = step[objective.layout[i].slice].to(found)
        return (found, tuple(dict.fromkeys(rates))) if any(rates) else None

    def taken(
        self, objective: Objective, now: Float[Tensor, " P"] | None, history: Sequence[tuple[float, float, int]]
    ) -> StepTaken | None:
        """How the step compares with its rules and the objective, ended at ``now`` (None: only about to be taken).

        ``history`` has the norm of training's gradient at the readings before, what it was times the objective's, and
        of how many parameters.
        """
        parts = [part for part in self.parts.values() if part.gradients]
        if self.previous is None or not parts:
            return None
        each = [_filled(part.gradients, objective) for part in parts]
        masks = [_filled({i: torch.ones_like(p) for i, p in part.gradients.items()}, objective) for part in parts]
        training, among = sum(each[1:], each[0]), sum(masks[1:], masks[0])
        size, gradient = int(among.sum()), self.previous.gradient
        before = [(norm, factor) for norm, factor, count in history if count == size]
        found = compare_gradients(training, gradient * among, before, None if size == objective.size else among)
        if len(parts) > 1:
            alone = [compare_gradients(one, gradient * mask) for one, mask in zip(each, masks, strict=True)]
            found = compare_parts(found, [(part.name, one) for part, one in zip(parts, alone, strict=True)])
        ruled = None if now is None else self.of_the_rule(objective)
        if now is None or ruled is None:
            return found
        moved = (now - self.previous.parameters) * among
        kinds = {objective.tensors[i].dtype for part in parts for i in part.gradients}
        coarsest = max(kinds, key=lambda dtype: torch.finfo(dtype).eps)
        own = [
            part.rule.rounding(part.state, g) for part, g in zip(parts, each, strict=True) if part.rule and part.state
        ]
        return compare_steps(found, ruled, self.previous.parameters * among, moved, coarsest, max(own, default=0.0))


def gradients_of(objective: Objective, held: Container[int], scale: float = 1.0) -> Pieces:
    """Copies of the gradients that stand in ``.grad`` of the tensors whose identities are ``held``, over ``scale``."""
    found: Pieces = {}
    for i, tensor in enumerate(objective.tensors):
        if id(tensor) in held and tensor.grad is not None:
            grad = whole(tensor.grad)
            flat = (grad.to_dense() if grad.is_sparse else grad).reshape(-1)
            found[i] = flat.to(objective.device, objective.dtype, copy=True) / scale
    return found


def loss_scale(optimizer: torch.optim.Optimizer) -> float:
    """By how much the optimizer itself is to divide its gradients in the step under way."""
    scale = getattr(optimizer, "grad_scale", None)
    return float(scale) if isinstance(scale, Tensor) else 1.0


def _filled(pieces: Pieces, objective: Objective) -> Float[Tensor, " P"]:
    """A vector of all parameters with these pieces, and zeros elsewhere."""
    kind = next((piece.dtype for piece in pieces.values()), objective.dtype)
    flat = torch.zeros(objective.size, dtype=kind, device=objective.device)
    for i, piece in pieces.items():
        flat[objective.layout[i].slice] = piece
    return flat
