"""Flows by name, with the values that a comparison records of each of them at every step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError
from edgescope.experiments.central.multiplier_flow import LinfMultiplierFlow
from edgescope.flows import CentralFlow, StableFlow, TwoPointFlow
from edgescope.near_names import suggestion
from edgescope.objective import Objective

Pair = tuple[Float[Tensor, " P"], Float[Tensor, " P"]]

STABLE, CENTRAL, CORRECTED, TWO_POINT, MULTIPLIER = "stable", "central", "corrected", "two-point", "multiplier"
"""The names of flows: Σ = 0 (gradient flow, for gradient descent); the central flow as published; with the second-order
drift; the flow of two points; the rejected hypothesis in Linf."""

MOST = 16
"""Critical directions of a central flow: RMSProp on one of the seeds of the preset ``full`` has more than 8."""


class FollowedFlow(ABC):
    """A flow beside its optimizer. What it does not know is NaN, or None.

    ``loss`` and ``gradient_square`` are those at the weights, the predicted ones those of the average over the
    oscillation; ``sharpness`` is over its threshold, ``preconditioner`` is Σ√ν. The covariance of the iterates is
    ``basis`` ``covariance`` ``basis``', with ``basis``' diag(``metric``) ``basis`` = I.
    """

    loss: float = math.nan
    predicted_loss: float = math.nan
    gradient_square: float = math.nan
    predicted_gradient_square: float = math.nan
    sharpness: float = math.nan
    preconditioner: float = math.nan
    basis: Float[Tensor, "P k"] | None = None
    covariance: Float[Tensor, "k k"] | None = None
    metric: Float[Tensor, " P"] | None = None

    def __init__(self, flow: Any) -> None:
        self.flow = flow

    @property
    def weights(self) -> Float[Tensor, " P"]:
        """A copy of the weights."""
        found: Tensor = self.flow.weights
        return found

    @abstractmethod
    def advance(self) -> None:
        """One unit of time: one step of the optimizer."""

    def state(self) -> Any:
        """What :meth:`load_state` continues from."""
        return self.flow.state()

    def load_state(self, state: Any) -> None:
        """Continue from a result of :meth:`state`."""
        self.flow.load_state(state)


class FollowedCentral(FollowedFlow):
    """A :class:`CentralFlow`."""

    flow: CentralFlow

    def advance(self) -> None:
        step = self.flow.step()
        self.loss, self.predicted_loss = step.loss, step.predicted_loss
        self.predicted_gradient_square = step.predicted_gradient_square
        self.sharpness = float(step.values[0]) / 2
        oscillates = step.covariance.shape[0] > 0
        self.basis, self.covariance = (step.basis, step.covariance) if oscillates else (None, None)
        slow = self.flow.slow_state
        self.metric = self.flow.averaged.critical(slow) if oscillates else None
        self.preconditioner = _root_sum(slow)


class FollowedStable(FollowedFlow):
    """A :class:`StableFlow`: the optimizer without its oscillation. Its sharpness is that one unit of time before."""

    flow: StableFlow

    def advance(self) -> None:
        step = self.flow.step()
        self.gradient_square = float(self.flow.objective.gradient(self.flow.weights).square().sum())
        self.loss, self.preconditioner = step.loss, _root_sum(self.flow.slow_state)
        self.sharpness = math.nan if step.sharpness is None else step.sharpness


class FollowedTwoPoint(FollowedFlow):
    """A :class:`TwoPointFlow`."""

    flow: TwoPointFlow

    def advance(self) -> None:
        step = self.flow.step(loss=True)
        self.predicted_loss = step.predicted_loss
        self.loss = math.nan if step.loss is None else step.loss


class FollowedMultiplier(FollowedFlow):
    """A :class:`LinfMultiplierFlow`."""

    flow: LinfMultiplierFlow

    def advance(self) -> None:
        self.predicted_loss = self.flow.step()
        self.loss = float(self.flow.objective.loss(self.flow.weights))


def make_flows(
    named: Sequence[tuple[str, int]], objective: Objective, optimizer: torch.optim.Optimizer, pair: Pair | None
) -> dict[str, FollowedFlow]:
    """The flows by name, each with so many Euler steps a unit of time.

    They begin at the model's parameters, or with a ``pair`` of successive iterates at its mean. Raises
    :class:`InputError` for a name that is none, and for a flow that needs a pair without one.
    """
    return {name: _make(name, substeps, objective, optimizer, pair) for name, substeps in named}


def _make(
    name: str, substeps: int, objective: Objective, optimizer: torch.optim.Optimizer, pair: Pair | None
) -> FollowedFlow:
    def multiplier() -> FollowedFlow:
        if pair is None:
            raise InputError(f"the flow '{MULTIPLIER}' from one iterate", expected="a start where the run oscillates")
        lr = float(optimizer.param_groups[0]["lr"])
        mean, half = (pair[0] + pair[1]) / 2, (pair[1] - pair[0]) / 2
        return FollowedMultiplier(LinfMultiplierFlow(objective, lr, mean, half, substeps))

    def stable() -> FollowedFlow:
        start = None if pair is None else (pair[0] + pair[1]) / 2
        return FollowedStable(StableFlow(objective, optimizer, substeps, start=start))

    makers: dict[str, Callable[[], FollowedFlow]] = {
        STABLE: stable,
        CENTRAL: lambda: FollowedCentral(CentralFlow(objective, optimizer, substeps, correction=False, most=MOST)),
        CORRECTED: lambda: FollowedCentral(CentralFlow(objective, optimizer, substeps, most=MOST)),
        TWO_POINT: lambda: FollowedTwoPoint(TwoPointFlow(objective, optimizer, substeps, start=pair)),
        MULTIPLIER: multiplier,
    }
    if name not in makers:
        raise InputError(f"a flow named '{name}'", expected=", ".join(makers), hint=suggestion(name, makers))
    return makers[name]()


def _root_sum(slow: dict[str, Tensor]) -> float:
    """Σ√ν of the second moments; NaN without any."""
    return float(sum(nu.sqrt().sum() for nu in slow.values())) if slow else math.nan
