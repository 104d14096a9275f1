"""An optimizer as its time average sees it: preconditioner, critical metric, and how slow state moves."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.linalg.metric import DiagonalMetric
from edgescope.objective.objective import Objective
from edgescope.optim.joint import JointRule, rule_for
from edgescope.optim.unwrap import OptimizerLike

Slow = dict[str, Tensor]
"""The state that a preconditioner depends on (second moments), by the optimizer's names; empty where it is constant."""

CRITICAL = 2.0
"""Of the largest eigenvalue in the critical metric: the threshold, whatever the optimizer."""


class AveragedRule:
    """The optimizer in the equations of a central flow, with its present options and state, which it copies.

    Averaged over its oscillation the optimizer moves the weights by -P^-1 (mean gradient) in a step, P = D/(eta Q(1)),
    and it is stable where H <= 2K, K = D/(eta Gamma). D is its preconditioner, 1 for gradient descent, Q(1) the
    ``steady`` and Gamma the ``gauge`` of its momentum (1 without), eta its learning rate. So K = P without momentum.
    Groups may differ in all of these. Coupled weight decay (``shift``, lambda for each parameter) is part of the loss
    that descends. Parameters at a learning rate of 0 are constants: 1/P and 1/K are 0 there.

    Raises :class:`NotKnownError` for optimizers whose averaged dynamics is not known, among them Adam, for which
    ``experimental`` takes a proposal (:meth:`UpdateRule.experimental_state_rate`).
    """

    def __init__(self, objective: Objective, optimizer: OptimizerLike, experimental: bool = False) -> None:
        rule = rule_for(optimizer, objective.tensors)
        if isinstance(rule, JointRule):
            raise NotKnownError(
                "the flow of several optimizers, or of one that holds only some of the parameters, is not known",
                expected="one optimizer that holds all parameters of the objective",
                hint="Objective(params=optimizer), for which all others are constants",
            )
        if rule.gradients != 1:
            raise NotKnownError(f"the averaged dynamics of {rule.name}, which takes two gradients, is not known")
        if rule.sign() < 0:
            raise NotKnownError(f"the averaged dynamics of {rule.name} with maximize=True is not known")
        groups = rule.groups()
        if any(rule.decoupled_decay(group) for group in groups):
            raise NotKnownError(f"the averaged dynamics of {rule.name} with decoupled weight decay is not known")
        self.rule = rule
        self._zeros = torch.zeros(objective.size, dtype=objective.dtype, device=objective.device)
        present = {name: value.to(self._zeros) for name, value in rule.state().items()}
        self._state_rate = rule.experimental_state_rate if experimental else rule.state_rate
        names = tuple(self._state_rate(present, self._zeros))
        self.slow: Slow = {name: present[name] for name in names}
        """The slow state at the start."""
        steps = present["step"]
        momenta = [rule.momentum_of(group) for group in groups]
        rates = [lr for lr, _ in rule.rates()]
        if not any(rates):
            raise InputError(f"{rule.name} with a learning rate of 0", expected="a positive learning rate")
        if names and bool((steps == 0).any()):
            raise NotKnownError(
                f"the preconditioner of {rule.name} is not known before its first step",
                hint="a few steps of training before the flow starts",
            )
        self.momentum = max(momentum.memory for momentum in momenta)
        self.stiffness = max(
            CRITICAL * momentum.steady / momentum.gauge for momentum, lr in zip(momenta, rates, strict=True) if lr
        )
        """The rate, per step, at which the flow would contract a mode at the threshold: 2 without momentum."""
        self.shift = rule.shift()
        if self.shift is not None:
            self.shift = self.shift.to(self._zeros)
        self._rates = self._spread(rates)
        self._through = self._spread([lr * m.steady for lr, m in zip(rates, momenta, strict=True)])
        self._at_edge = self._spread([lr * m.gauge for lr, m in zip(rates, momenta, strict=True)])
        self._fixed = self._rates == 0
        self._any_fixed = bool(self._fixed.any())

    def inverse(self, slow: Slow) -> Float[Tensor, " P"]:
        """1/P, zero for constants."""
        return self._through / self.rule.steady_diagonal(slow)

    def critical(self, slow: Slow) -> Float[Tensor, " P"]:
        """K, zero for constants."""
        found = self.rule.diagonal(slow) / self._at_edge
        return found.masked_fill(self._fixed, 0.0) if self._any_fixed else found

    def metric(self, slow: Slow) -> DiagonalMetric:
        """K as a metric, infinite for constants."""
        entries = self.critical(slow)
        return DiagonalMetric(entries, self._fixed) if self._any_fixed else DiagonalMetric(entries)

    def change_of_critical(self, slow: Slow, rate: Slow) -> Float[Tensor, " P"]:
        """The derivative of K where the slow state moves at this rate."""
        if not slow:
            return torch.zeros_like(self._rates)
        # J v is the derivative over u of u^T J v: forward derivatives of torch are not needed.
        with torch.enable_grad():
            places = {name: value.detach().requires_grad_() for name, value in slow.items()}
            critical = self.critical(places)
            dual = torch.zeros_like(critical, requires_grad=True)
            back = torch.autograd.grad(critical, list(places.values()), dual, create_graph=True)
            total = torch.stack([(b * rate[name].detach()).sum() for b, name in zip(back, places, strict=True)]).sum()
            return torch.autograd.grad(total, dual)[0]

    def rate(self, slow: Slow, mean_square: Float[Tensor, " P"]) -> Slow:
        """How fast the slow state moves, per step."""
        return self._state_rate(slow, mean_square)

    def _spread(self, values: list[float]) -> Float[Tensor, " P"]:
        pieces = [
            self._zeros.new_full((tensor.numel(),), value)
            for tensor, value in zip(self.rule.tensors, values, strict=True)
        ]
        return torch.cat(pieces)


def advanced(slow: Slow, rate: Slow, dt: float) -> Slow:
    """The slow state after a time ``dt``; second moments stay at least 0."""
    return {name: (value + dt * rate[name]).clamp(min=0.0) for name, value in slow.items()}
