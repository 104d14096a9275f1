"""The flow without oscillation of optimizers that keep state: RMSProp and heavy ball, whose central flow has Σ = 0."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from edgescope.flows.averaged import AveragedRule, advanced
from edgescope.objective import Objective
from edgescope.optim.unwrap import OptimizerLike


class StableFlowWithState:
    """dw/dt = -P⁻¹ ∇L with P of RMSProp's ν, dν/dt = (1-β₂)/β₂ (∇L² - ν), or of momentum that has settled.

    The equations of :class:`~edgescope.flows.CentralFlow` without its covariance, by ``substeps`` Euler steps a unit of
    time, of one gradient each. Past the threshold they are stiff: with the largest eigenvalue at S times its threshold
    the steps are stable from S substeps on.
    """

    def __init__(self, objective: Objective, optimizer: OptimizerLike, substeps: int) -> None:
        self.objective, self.substeps = objective, substeps
        self._averaged = AveragedRule(objective, optimizer)
        self._w = objective.parameters()
        self._slow = dict(self._averaged.slow)

    @property
    def weights(self) -> Float[Tensor, " P"]:
        """A copy of the weights."""
        return self._w.clone()

    @property
    def slow_state(self) -> dict[str, Tensor]:
        """The flow's second moments, as copies; empty for momentum."""
        return {name: value.clone() for name, value in self._slow.items()}

    def step(self) -> None:
        """One unit of time: one step of the optimizer."""
        for _ in range(self.substeps):
            gradient = self.objective.gradient(self._w)
            velocity = self._averaged.inverse(self._slow) * gradient
            rate = self._averaged.rate(self._slow, gradient.square()) if self._slow else {}
            self._w = self._w - velocity / self.substeps
            self._slow = advanced(self._slow, rate, 1 / self.substeps)

    def state(self) -> dict[str, Tensor]:
        """What :meth:`load_state` continues from."""
        return {"weights": self.weights} | {f"slow.{name}": value for name, value in self.slow_state.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a result of :meth:`state`."""
        self._w = state["weights"].clone()
        self._slow = {name.removeprefix("slow."): v.clone() for name, v in state.items() if name.startswith("slow.")}
