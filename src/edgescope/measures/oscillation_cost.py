"""What the oscillation at the edge of stability costs in loss, as a central flow predicts it and as it is measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import EdgescopeError, NotKnownError
from edgescope.flows.averaged import CRITICAL, AveragedRule
from edgescope.flows.averages import midpoint
from edgescope.flows.critical_pairs import CriticalTracker
from edgescope.flows.equilibrium import equilibrium_oscillation
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.objective import Objective
from edgescope.objective.modes import active_dropout
from edgescope.objective.third import compared, kinked_operations
from edgescope.options import check_fields, integer, real

ITERATES = 3
"""Successive parameters of which a mean is free of an oscillation of period two."""


@dataclass
class OscillationCost(Measure):
    """The average of the loss over the oscillation of the optimizer, less the loss at the averaged parameters.

    These are the mean (w_{t-2} + 2 w_{t-1} + w_t)/4 of the last three iterates, where the run would be without
    oscillating. Parts: "" is what the central flow predicts there, tr(H Sigma)/2 (see :class:`~edgescope.CentralFlow`),
    from the directions whose eigenvalues are above 1 - ``band`` of the threshold: 0 where there are none. "directions"
    is their number. "share" is the prediction over the average of the loss, where losses are positive. "measured" is
    the mean of the losses at the three iterates, weighted as they are, less the loss at their mean: that of this
    moment, without theory.

    The prediction is that of an oscillation in equilibrium. The oscillation of a run grows and shrinks about that,
    often in bursts, so that "measured" may differ from it by orders of magnitude at single readings: compare averages
    over many. The error of the prediction is an estimate: the part of it that is due to directions below the threshold,
    which may not oscillate, and the error of third derivatives
    (:func:`~edgescope.flows.equilibrium.equilibrium_oscillation`). Its factors were chosen after runs of one network;
    docs/central.md says on which, and how it did on others. That of "measured" is the rounding of losses.

    Without a value for optimizers whose central flow is not known (it is for gradient descent, momentum and RMSProp),
    on mini-batches, with clipped gradients, and for more than ``most`` directions. A note says where the largest
    eigenvalue is above 1 + ``band`` of the threshold, and that curvature in kinks (ReLU) is not seen.

    Cost: with k directions 2 + k(k+1) gradients, 3 losses and some 2 to 4 (k+1) products, in float32 also k(k+1)
    products; once 6 gradients and 2 products to check third derivatives. A copy of the parameters at each step.
    """

    band: float = 0.04
    most: int = 8
    _iterates: list[tuple[int, Float[Tensor, " P"]]] = field(default_factory=list, init=False, repr=False)
    _tracker: CriticalTracker = field(init=False, repr=False)
    _compared: bool = field(default=False, init=False, repr=False)  # third derivatives, once a run

    name: ClassVar[str] = "oscillation_cost"
    title: ClassVar[str] = "Loss that the oscillation costs"
    unit: ClassVar[str] = "unit of the loss function (share: 1)"
    source: ClassVar[str] = "after Cohen, Damian et al. 2024 (arXiv 2410.24206)"
    needs: ClassVar[Needs] = "other points"
    needs_step: ClassVar[bool] = True
    needs_rule: ClassVar[bool] = True
    needs_run: ClassVar[str] = "it averages the parameters of three successive steps"

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'", band=real(above=0, below=1), most=integer(1))
        self._tracker = CriticalTracker(CRITICAL * (1 - self.band), self.most + 1)

    def follow(self, step: int, objective: Objective) -> None:
        self._iterates = [*self._iterates, (step, objective.parameters())][-ITERATES:]

    def expected_cost(self, size: ProblemSize) -> Cost:
        return Cost(losses=3, gradients=4, products=8)

    def read(self, moment: Moment) -> Reading:
        objective, rule = moment.objective, self._rule(moment)
        before, now, after = self._last(moment.step)
        w = midpoint(before, now, after)
        operator = rule.rule.effective(objective.operator(w))
        with operator.held():
            pairs = self._tracker.update(operator, rule.metric(rule.slow))
        k = int((pairs.values > self._tracker.lowest).sum())
        if k > self.most:
            raise NotKnownError(
                f"more than {self.most} directions are near the threshold", hint=f"a most above {self.most}"
            )
        cost, error = self._predicted(objective, rule, w, pairs.values[:k], pairs.vectors[:, :k]) if k else (0.0, 0.0)
        losses = [float(objective.loss(place)) for place in (before, now, after, w)]
        values = {"": cost, "measured": (losses[0] + 2 * losses[1] + losses[2]) / 4 - losses[3], "directions": k}
        rounding = torch.finfo(objective.dtype).eps * max(map(abs, losses))
        errors = {"": error, "measured": rounding}
        average = losses[3] + cost
        if losses[3] >= 0 and average > 0:
            values["share"] = cost / average
            errors["share"] = error * losses[3] / average**2
        return Reading(self.name, values, errors, note=self._note(objective, float(pairs.values[0]), k))

    def _note(self, objective: Objective, largest: float, k: int) -> str:
        """What makes the prediction doubtful."""
        words = []
        if largest > CRITICAL * (1 + self.band):
            words.append(f"the largest eigenvalue is {largest / CRITICAL:.3g} times the threshold: not in equilibrium")
        kinks = kinked_operations(objective) if k else []
        if kinks:
            words.append(f"curvature that lies in the kinks of {', '.join(kinks)} is not seen")
        return "; ".join(words)

    def _predicted(
        self,
        objective: Objective,
        rule: AveragedRule,
        w: Float[Tensor, " P"],
        values: Float[Tensor, " k"],
        basis: Float[Tensor, "P k"],
    ) -> tuple[float, float]:
        """The cost of the oscillation and its error."""
        try:
            if not self._compared:
                compared(objective, basis, w)
                self._compared = True
            found = equilibrium_oscillation(objective, rule, w, values, basis)
        except EdgescopeError as error:  # a loss that is not smooth, or without self-stabilization
            raise NotKnownError(str(error)) from error
        return found.cost, found.error

    def _rule(self, moment: Moment) -> AveragedRule:
        """The optimizer in the central flow; :class:`NotKnownError` where this run has none."""
        moment.known_rule()
        optimizer = moment.optimizer
        if optimizer is None or len(moment.optimizers) > 1:
            raise NotKnownError("the central flow of several optimizers together is not known")
        apart = moment.mini_batches()
        if apart:
            raise NotKnownError(f"{apart}, and the central flow is that of training on all of it")
        scaled = moment.scale_note()
        if scaled:
            raise NotKnownError(f"{scaled}; the central flow is that of the optimizer's own steps")
        if moment.objective.model.training and active_dropout(moment.objective.model):
            raise NotKnownError("training with dropout has no central flow")
        try:
            return AveragedRule(moment.objective, optimizer)
        except EdgescopeError as error:
            raise NotKnownError(str(error)) from error

    def _last(self, step: int) -> list[Float[Tensor, " P"]]:
        """The last three iterates."""
        kept = [w for at, w in self._iterates if step - ITERATES < at <= step]
        if len(kept) < ITERATES or len({w.shape for w in kept}) > 1:
            raise NotKnownError(f"the parameters of {ITERATES} successive steps are not known yet")
        return kept

    def state(self) -> dict[str, Any]:
        kept = {str(step): w for step, w in self._iterates}
        return {"iterates": kept, "tracker": self._tracker.state(), "compared": self._compared}

    def load_state(self, state: dict[str, Any]) -> None:
        self._iterates = sorted(((int(step), w) for step, w in state["iterates"].items()), key=lambda kept: kept[0])
        self._tracker.load_state(state["tracker"])
        self._compared = state["compared"]
