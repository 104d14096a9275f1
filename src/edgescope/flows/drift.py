"""How an optimizer without oscillation moves the weights, and the sharpness that limits a time step."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.flows.averaged import CRITICAL, AveragedRule, Slow
from edgescope.flows.step_map import StepMap
from edgescope.linalg import EigenTracker
from edgescope.objective import Objective
from edgescope.optim import UpdateRule


class Drift(ABC):
    """dw/dt and the rate of the optimizer's slow state (second moments), in units of its steps."""

    slow: Slow
    stiffness: float

    @abstractmethod
    def __call__(self, w: Tensor, slow: Slow, gradient: Tensor) -> tuple[Float[Tensor, " P"], Slow]:
        """dw/dt, and d(slow)/dt, given the gradient at w."""

    @abstractmethod
    def sharpness(self, w: Tensor, slow: Slow, tracker: EigenTracker) -> float | None:
        """The largest eigenvalue over the threshold, at least 0; None where no eigenvalue decides on stability."""


class MemorylessDrift(Drift):
    """-F(w), F the step of an optimizer without memory; its options are read at every call."""

    stiffness = CRITICAL

    def __init__(self, step_map: StepMap) -> None:
        self._map = step_map
        self.slow: Slow = {}
        self._linear = has_threshold(step_map.rule)

    def __call__(self, w: Tensor, slow: Slow, gradient: Tensor) -> tuple[Float[Tensor, " P"], Slow]:
        return -self._map(w, gradient), {}

    def sharpness(self, w: Tensor, slow: Slow, tracker: EigenTracker) -> float | None:
        if not self._linear:
            return None
        rule = self._map.rule
        pairs = tracker.update(rule.effective(self._map.objective.operator(w)), metric=rule.metric())
        return max(0.0, float(pairs.values[0])) / rule.threshold().value


class AveragedDrift(Drift):
    """-P^-1 g(w), with a preconditioner whose second moments follow the squares of the gradient.

    With momentum P is that of settled buffers. Options are those at construction, as in the central flow.
    """

    def __init__(self, objective: Objective, averaged: AveragedRule) -> None:
        self._objective, self._averaged = objective, averaged
        self.slow, self.stiffness = averaged.slow, averaged.stiffness

    def __call__(self, w: Tensor, slow: Slow, gradient: Tensor) -> tuple[Float[Tensor, " P"], Slow]:
        averaged = self._averaged
        slope = gradient if averaged.shift is None else gradient + averaged.shift * w
        return -averaged.inverse(slow) * slope, averaged.rate(slow, slope.square()) if slow else {}

    def sharpness(self, w: Tensor, slow: Slow, tracker: EigenTracker) -> float | None:
        operator = self._averaged.rule.effective(self._objective.operator(w))
        pairs = tracker.update(operator, metric=self._averaged.metric(slow))
        return max(0.0, float(pairs.values[0])) / CRITICAL


def has_threshold(rule: UpdateRule) -> bool:
    """Whether an eigenvalue decides on the stability of the optimizer."""
    try:
        rule.check_linear()
        rule.threshold()
    except NotKnownError:
        return False
    return True
