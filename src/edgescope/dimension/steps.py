"""One step of an optimizer as numbers: for each direction a node, and the exponent that belongs to it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.dimension.sources import Source
from edgescope.errors import InputError
from edgescope.linalg import Spectrum, spectrum
from edgescope.memory import require
from edgescope.objective import Objective
from edgescope.optim import UpdateJacobian, rule_for, update_jacobian

Measure = tuple[Float[Tensor, " n"], Float[Tensor, " n"]]
"""Nodes, and the share of the directions that each stands for; the shares sum to 1."""

_BLOCK = 64  # columns of a dense Jacobian that are multiplied together


class GradientDescentStep:
    """I - lr H. A node is lr times an eigenvalue, its exponent ln|1 - node|, its distance from neutral |node|."""

    def __init__(self, lr: float) -> None:
        if isinstance(lr, bool) or not isinstance(lr, int | float) or not (math.isfinite(lr) and lr > 0):
            raise InputError(f"a learning rate of {lr}", expected="a positive finite number")
        self.lr = float(lr)

    def exponent(self, nodes: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return (1 - nodes).abs().log()

    def exact(self, member: Source) -> Measure:
        """All eigenvalues; InputError where one is 1/lr up to rounding, so that the Jacobian is singular."""
        found = member if isinstance(member, Spectrum) else spectrum(member, method="exact")
        if found.method != "exact" or len(found.nodes) != found.size:
            raise InputError(
                f"method='exact' of a spectrum by '{found.method}' with {len(found.nodes)} nodes of {found.size}",
                expected="one exact spectrum for each mini-batch",
                hint="method='slq', or spectra in a list instead of merged",
            )
        nodes = self.lr * found.nodes
        resolved = 4 * torch.finfo(torch.float64).eps * max(1.0, float(nodes.abs().max()))
        _refuse_singular(int(((1 - nodes).abs() <= resolved).sum()), f"I - lr H at lr={self.lr:g}")
        return nodes, found.weights

    def sampled(self, found: Spectrum) -> list[Measure]:
        """The measures of all probes of a quadrature."""
        return [(self.lr * nodes, shares) for nodes, shares in found.measures()]


class OptimizerStep:
    """The Jacobian of a live optimizer's own step, state included. A node is ln sigma, and is its own exponent."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        rates = {float(group["lr"]) for group in optimizer.param_groups}
        self.lr = rates.pop() if len(rates) == 1 else math.nan

    def exponent(self, nodes: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return nodes

    def exact(self, member: Source) -> Measure:
        """All singular values, of a dense float64 matrix of (P (1 + state vectors))^2 numbers."""
        if not isinstance(member, Objective):
            raise InputError("optimizer= without an Objective", expected="the one whose parameters it steps")
        jacobian = update_jacobian(rule_for(self.optimizer, member.tensors), member)
        values = torch.linalg.svdvals(dense(jacobian))
        resolved = 4 * torch.finfo(torch.float64).eps * float(values[0])
        _refuse_singular(
            int((values <= resolved).sum()),
            f"a step of {type(self.optimizer).__name__}",
            "a step of the optimizer first, where it has no state yet; or lyapunov_exponents, which do not depend on "
            "the state's units",
        )
        return values.log(), torch.full_like(values, 1 / len(values))


def dense(jacobian: UpdateJacobian) -> Float[Tensor, "n n"]:
    """The matrix of an update's Jacobian in float64, from as many products as it has columns."""
    size = jacobian.size
    require(4 * 8 * size**2, f"a dense Jacobian of size {size} ({', '.join(jacobian.names)})", hint="a smaller model")
    matrix = torch.empty((size, size), dtype=torch.float64)
    for start in range(0, size, _BLOCK):
        width = min(_BLOCK, size - start)
        unit = torch.zeros((size, width), dtype=jacobian.dtype, device=jacobian.device)
        unit[torch.arange(start, start + width), torch.arange(width)] = 1
        matrix[:, start : start + width] = jacobian @ unit
    return matrix


def step_of(lr: float | None, optimizer: torch.optim.Optimizer | None) -> GradientDescentStep | OptimizerStep:
    """The step that is meant: by ``lr`` alone gradient descent, else the ``optimizer``'s own."""
    if (lr is None) == (optimizer is None):
        raise InputError(
            "both lr and optimizer" if lr is not None else "neither lr nor optimizer", expected="one of them"
        )
    if optimizer is None:
        return GradientDescentStep(lr)  # type: ignore[arg-type]
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"optimizer of type {type(optimizer).__name__}", expected="a torch.optim.Optimizer")
    return OptimizerStep(optimizer)


def with_dead_zone(
    exponent: Callable[[Tensor], Tensor], zone: float
) -> Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]]:
    """The same exponents, 0 for all nodes that are nearer than ``zone`` to neutral."""
    return lambda nodes: torch.where(nodes.abs() < zone, 0.0, exponent(nodes))


def _refuse_singular(count: int, what: str, hint: str = "a slightly different learning rate") -> None:
    if count:
        raise InputError(
            f"the Jacobian of {what} is singular ({count} singular value{'s' * (count > 1)} 0 to rounding)",
            expected="exponents above -inf",
            hint=hint,
        )
