"""Losses and gradients of an objective at several points at once, as chains of a sampler need them at every step."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import EdgescopeError
from edgescope.objective.checks import evaluated
from edgescope.objective.objective import Objective
from edgescope.objective.problem import Point

SIDE_BY_SIDE = 2**20
"""Numbers of parameters, over all points, up to which points are evaluated side by side: larger models gain nothing."""

BEFORE_TRACING = 1500
"""Calls after which operations are traced, which takes seconds the first time and then saves two thirds of a call."""

SOONER = 60
"""The same, where the tracer is loaded."""

TRACER = "torch.fx.experimental.proxy_tensor"

OfPoints = Callable[[Tensor], tuple[Tensor, Tensor]]


class SeveralPoints:
    """Losses and gradients at ``k`` points: side by side by ``torch.func.vmap`` for small models, else one by one.

    What is evaluated side by side is compared with :meth:`Objective.gradient` once, and given up where it differs
    or an operation has no rule for it (batch statistics). Data that are sharded over processes, in several batches or
    cut into chunks are evaluated one by one. Cost: k gradients a call, and one at the first.
    """

    def __init__(self, objective: Objective, k: int) -> None:
        batches = objective._problem.batches
        self.objective = objective
        small = k * objective.size <= SIDE_BY_SIDE
        self.side_by_side = small and objective.group is None and batches.cut is None and batches.number == 1
        self._mapped: OfPoints | None = None
        self._calls = 0
        self._traced = False

    @contextmanager
    def ready(self) -> Iterator[None]:
        """The model set for measuring, for as many calls as are made inside: saves most of the time of small models."""
        if not self.side_by_side:
            yield
            return
        point = self.objective._at(None)
        with self.objective._curvature.ready(point):
            if self._mapped is None:
                self._mapped = self._side_by_side(point)
            yield

    def __call__(self, W: Float[Tensor, "k P"]) -> tuple[Float[Tensor, " k"], Float[Tensor, "k P"]]:
        """Losses (float64) and gradients at the rows of ``W``, which are in the precision of the objective."""
        if self.side_by_side and self._mapped is not None:
            if not self._calls:
                self.side_by_side = self._agrees(W)
            elif not self._traced and self._calls >= (SOONER if TRACER in sys.modules else BEFORE_TRACING):
                self._mapped, self._traced = _traced(self._mapped, W), True
        if not self.side_by_side or self._mapped is None:
            return self._one_by_one(W)
        self._calls += 1
        objective = self.objective
        gradients, losses = self._mapped(W)
        losses, gradients = losses.detach().double(), objective._problem.masked(gradients.detach())
        objective.meter.count(gradients=len(W))
        if objective.l2:
            kept = objective._problem.masked(W)
            gradients = gradients + objective.l2 * kept
            losses = losses + 0.5 * objective.l2 * kept.double().square().sum(1)
        return losses, gradients

    def _one_by_one(self, W: Float[Tensor, "k P"]) -> tuple[Float[Tensor, " k"], Float[Tensor, "k P"]]:
        gradients, losses = [], []
        for w in W:
            gradients.append(self.objective.gradient(w))
            losses.append(self.objective.loss(w))  # which the gradient has left known
        return torch.stack(losses), torch.stack(gradients)

    def _side_by_side(self, point: Point) -> OfPoints:
        problem = self.objective._problem
        (chunk,) = problem.chunks()

        def of_one(w: Tensor) -> Tensor:
            return evaluated(lambda: problem.loss_of(problem.layout.split(w), point.constants, chunk.batch))

        derived: OfPoints = torch.func.vmap(torch.func.grad_and_value(of_one))
        return derived

    def _agrees(self, W: Float[Tensor, "k P"]) -> bool:
        """Whether the first evaluation is possible, and is that of plain backward passes."""
        assert self._mapped is not None
        try:
            gradients, _ = self._mapped(W)
        except (EdgescopeError, RuntimeError):  # an operation without a rule for mapping, or one that writes to buffers
            return False
        plain = self.objective.gradient(W[0]) - self.objective.l2 * self.objective._problem.masked(W[0])
        slack = 1e-8 if W.dtype == torch.float64 else 1e-3
        off = (self.objective._problem.masked(gradients[0]) - plain).norm()
        return not float(off) > slack * float(plain.norm()) + 1e-12


def _traced(function: OfPoints, W: Float[Tensor, "k P"]) -> OfPoints:
    """The operations of ``function`` alone, without the work of Python around them; itself where that fails."""
    from torch.fx.experimental.proxy_tensor import make_fx  # takes seconds, for long runs alone

    try:
        traced: OfPoints = make_fx(function)(W)
        same = all(torch.equal(a, b) for a, b in zip(traced(W), function(W), strict=True))
    except Exception:  # whatever cannot be traced is evaluated as before
        return function
    return traced if same else function
