"""The next steps of the optimizer on the quadratic Taylor model of the loss, and on the loss itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.memory import require
from edgescope.optim.rule import UpdateRule
from edgescope.options import check_fields, integer

LOST = 1e6
"""Losses beyond this many times the present one are not followed further."""


@dataclass
class QuadraticModel(Measure):
    """``steps`` steps of the optimizer, on the network and on the quadratic model of its loss at the present point.

    Arrays "network" and "model" are the losses from this point on, ``steps + 1`` of them, infinite from where their
    size exceeds a million times the first (negative curvature sends a model to minus infinity). Parts of the same names
    are the largest loss on the way over the loss here. Training itself is not changed. Cost: ``steps`` products and
    as many gradients, so it is for a few steps of a run: ``"quadratic_model@500"``.
    """

    steps: int = 100

    name: ClassVar[str] = "quadratic_model"
    title: ClassVar[str] = "Largest loss ahead over the present one"
    unit: ClassVar[str] = "1"
    source: ClassVar[str] = "Cohen et al. 2021 (arXiv 2103.00065); Islamov et al. 2026 (arXiv 2603.05002)"
    needs: ClassVar[Needs] = "other points"
    may_be_infinite: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'", steps=integer(1))

    def check_problem(self, size: ProblemSize) -> None:
        require(2 * 8 * self.steps, f"measure '{self.name}' with {self.steps:,} steps", hint="fewer steps")

    def expected_cost(self, size: ProblemSize) -> Cost:
        return Cost(losses=self.steps, gradients=self.steps, products=self.steps)

    def read(self, moment: Moment) -> Reading:
        objective, rule, origin = moment.objective, moment.known_rule(), moment.parameters
        self.check_problem(ProblemSize(len(origin)))
        if rule.gradients > 1:
            raise NotKnownError(f"the next steps of {rule.name} take gradients at other places than the parameters")
        loss, gradient = float(objective.loss()), objective.gradient()
        if loss == 0:
            raise NotKnownError("the loss here is zero, so that later losses have no ratio to it")

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
