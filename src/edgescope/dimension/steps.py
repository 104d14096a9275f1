"""One optimizer step: a node for each direction of its Jacobian, and the exponent of a node."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.dimension.sources import Source
from edgescope.errors import InputError
from edgescope.linalg import Spectrum, spectrum
from edgescope.linalg.nodes import Nodes, from_eigenvalues
from edgescope.memory import require
from edgescope.objective import Objective
from edgescope.optim import UpdateJacobian, rule_for, update_jacobian
from edgescope.optim.unwrap import OptimizerLike
from edgescope.options import LARGEST_RATE, check_float, type_of

_BLOCK = 64  # columns of a dense Jacobian that are multiplied together


class GradientDescentStep:
    """The Jacobian I - lr H. A node is lr * eigenvalue, its exponent ln|1 - node|, its distance from neutral |node|."""

    def __init__(self, lr: float) -> None:
        self.lr = check_float("sharpness_dimension", "lr", lr, above=0, most=LARGEST_RATE)

    def exponent(self, nodes: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return (1 - nodes).abs().log()

    def exact(self, member: Source) -> tuple[Nodes, float]:
        """All nodes, and the possible rounding error of each.

        Raises :class:`InputError` where an eigenvalue is 1/lr up to rounding, so that the Jacobian is singular.
        """
        found = member if isinstance(member, Spectrum) else spectrum(member, method="exact")
        if found.method != "exact" or len(found.nodes) != found.size:
            raise InputError(
                f"method='exact' of a spectrum by '{found.method}' with {len(found.nodes)} nodes for {found.size} "
                "eigenvalues",
                expected="one exact spectrum for each mini-batch",
                hint="method='slq', or spectra in a list instead of merged",
            )
        nodes = self.lr * found.nodes
        resolved = 4 * torch.finfo(torch.float64).eps * max(1.0, float(nodes.abs().max()))
        _refuse_singular(int(((1 - nodes).abs() <= resolved).sum()), f"I - lr H at lr={self.lr:g}")
        return from_eigenvalues(nodes), self.lr * found.rounding

    def sampled(self, found: Spectrum) -> list[Nodes]:
        """The nodes of all probes of a quadrature."""
        return [one._replace(values=self.lr * one.values, spread=self.lr * one.spread) for one in found.by_probe()]


class OptimizerStep:
    """The Jacobian of a live optimizer's step on parameters and state. A node is ln(singular value), its exponent."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        rates = {float(group["lr"]) for group in optimizer.param_groups}
        self.lr = rates.pop() if len(rates) == 1 else math.nan

    def exponent(self, nodes: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return nodes

    def exact(self, member: Source) -> tuple[Nodes, float]:
        """All nodes, whose spread is their rounding error; from a dense matrix of (P (1 + state vectors))^2 numbers."""
        if not isinstance(member, Objective):
            raise InputError("optimizer= without an Objective", expected="the Objective whose parameters it updates")
        jacobian = update_jacobian(rule_for(self.optimizer, member.tensors), member)
        values = torch.linalg.svdvals(dense(jacobian))
        resolved = 4 * torch.finfo(torch.float64).eps * float(values[0])
        _refuse_singular(
            int((values <= resolved).sum()),
            f"a step of {type(self.optimizer).__name__}",
            "taking one optimizer step first, so that it has a state; or lyapunov_exponents, which do not depend on "
            "the units of the state",
        )
        rounding = torch.finfo(member.dtype).eps * float(values[0]) / values
        return from_eigenvalues(values.log())._replace(spread=rounding), 0.0


def dense(jacobian: UpdateJacobian) -> Float[Tensor, "n n"]:
    """The Jacobian as a dense float64 matrix, from as many products as it has columns."""
    size = jacobian.size
    require(4 * 8 * size**2, f"a dense Jacobian of size {size} ({', '.join(jacobian.names)})", hint="a smaller model")
    matrix = torch.empty((size, size), dtype=torch.float64, device="cpu")
    for start in range(0, size, _BLOCK):
        width = min(_BLOCK, size - start)
        unit = torch.zeros((size, width), dtype=jacobian.dtype, device=jacobian.device)
        unit[torch.arange(start, start + width, device="cpu"), torch.arange(width, device="cpu")] = 1
        matrix[:, start : start + width] = jacobian @ unit
    return matrix


def step_of(lr: float | None, optimizer: OptimizerLike | None) -> GradientDescentStep | OptimizerStep:
    """The step of gradient descent with learning rate ``lr``, or that of the ``optimizer``."""
    if (lr is None) == (optimizer is None):
        raise InputError(
            "both lr and optimizer" if lr is not None else "neither lr nor optimizer", expected="one of them"
        )
    if optimizer is None:
        return GradientDescentStep(lr)  # type: ignore[arg-type]
    if not isinstance(optimizer, torch.optim.Optimizer):
        given = (
            type_of(optimizer) if isinstance(optimizer, type) else f"an optimizer of type {type(optimizer).__name__}"
        )
        raise InputError(f"sharpness_dimension with {given}", expected="an instance of a torch.optim.Optimizer")
    return OptimizerStep(optimizer)


def _refuse_singular(count: int, what: str, hint: str = "a slightly different learning rate") -> None:
    if count:
        raise InputError(
            f"the Jacobian of {what} is singular ({count} singular value{'s' * (count > 1)} 0 up to rounding)",
            expected="finite exponents",
            hint=hint,
        )
