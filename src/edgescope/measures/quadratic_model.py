"""Where the optimizer would go from here on the quadratic Taylor model of the loss, beside where it really goes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError
from edgescope.measures.measure import Measure, Moment, Needs, Reading
from edgescope.optim.rule import UpdateRule

LOST = 1e6
"""Losses beyond this many times the present one are not followed further."""


@dataclass
class QuadraticModel(Measure):
    """``steps`` steps of the optimizer, on the network and on the quadratic model of its loss at the present point.

    Arrays "network" and "model" are the losses from this point on, ``steps + 1`` of them, infinite from where their
    size exceeds a million times the first (negative curvature sends a model to minus infinity). Parts of the same names
    are the largest loss on the way over the loss here. Training itself is left as it is. Cost: ``steps`` products and
    as many gradients, so it is for a few moments of a run: ``"quadratic_model@500"``.
    """

    steps: int = 100

    name: ClassVar[str] = "quadratic_model"
    title: ClassVar[str] = "Largest loss ahead over the present one"
    unit: ClassVar[str] = "1"
    source: ClassVar[str] = "Cohen et al. 2021 (arXiv 2103.00065); Islamov et al. 2026 (arXiv 2603.05002)"
    needs: ClassVar[Needs] = "other points"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"measure '{self.name}' with steps={self.steps}", expected="at least 1")

    def read(self, moment: Moment) -> Reading:
        objective, rule, origin = moment.objective, moment.known_rule(), moment.parameters
        loss, gradient = float(objective.loss()), objective.gradient()

        def model(w: Tensor) -> tuple[float, Tensor]:
            away = w - origin
            bent = objective.hvp(away)
            return loss + float((gradient.double() + bent.double() / 2) @ away.double()), gradient + bent

        def network(w: Tensor) -> tuple[float, Tensor]:
            slope = objective.gradient(w)
            return float(objective.loss(w)), slope

        ahead = {"model": self._follow(rule, origin, model), "network": self._follow(rule, origin, network)}
        return Reading(
            self.name, {part: float(losses.max() / abs(loss)) for part, losses in ahead.items()}, arrays=ahead
        )

    def _follow(
        self, rule: UpdateRule, w: Float[Tensor, " P"], at: Callable[[Tensor], tuple[float, Tensor]]
    ) -> np.ndarray:
        losses, state = np.empty(self.steps + 1), rule.state()
        for step in range(self.steps + 1):
            loss, slope = at(w)
            if not math.isfinite(loss) or (step and abs(loss) > LOST * abs(losses[0])):
                losses[step:] = math.copysign(math.inf, loss)
                break
            losses[step] = loss
            w, state = rule.update(w, state, slope)
        return losses
