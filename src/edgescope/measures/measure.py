"""What a measure is: one quantity read off a training run at one step, with its unit, source, error and cost."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import EdgescopeError, NotKnownError
from edgescope.objective import Objective
from edgescope.optim.rule import UpdateRule

Needs = Literal["products", "gradient", "loss", "nothing", "other points"]


@dataclass(frozen=True)
class Reading:
    """What a measure found at one step.

    ``values`` maps a part to a number: ``{"": 3.2}`` for a plain scalar, ``{"1": 40.1, "2": 38.0}`` for the first and
    second eigenvalue, ``{"layer.weight": ...}`` for something per tensor. ``errors`` maps the same parts to the error
    of that number (a residual, a standard error), where one is known. ``arrays`` holds what is not a scalar.
    ``note`` states what a reader must know: what has not converged, or why there is no value. ``cost`` and ``seconds``
    are filled in by :meth:`Measure.take`.
    """

    measure: str
    values: dict[str, float]
    errors: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Previous:
    """Where the last optimizer step began: parameters, and the objective's loss and gradient there."""

    parameters: Float[Tensor, " P"]
    loss: Float[Tensor, ""]
    gradient: Float[Tensor, " P"]


@dataclass
class Moment:
    """One step of a run, as a measure sees it. Vectors are flat, of length P, in the objective's order.

    A moment at step t has the parameters after t optimizer steps. ``initial`` are those of step 0. ``previous`` is
    where the last step began (None at step 0, or when no measure asked for it). ``time`` is the sum of the learning
    rates of all steps so far, or the time that gradient flow has reached; None where that is not known. ``why_no_rule``
    says why ``rule`` is None. ``shared`` has the readings of this moment by name of the measure, and carries whatever
    else several measures of the same step need, so that it is computed once; it is empty at the start of every step.
    ``evaluations`` are further objectives by name, such as ``{"test": ...}``. After ``diverged`` no curvature is
    measured.
    """

    step: int
    objective: Objective
    optimizer: torch.optim.Optimizer | None
    rule: UpdateRule | None
    parameters: Float[Tensor, " P"]
    initial: Float[Tensor, " P"]
    previous: Previous | None = None
    time: float | None = None
    evaluations: dict[str, Objective] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)
    why_no_rule: str = "there is no optimizer"
    diverged: bool = False

    def known_rule(self) -> UpdateRule:
        """The update rule, or a :class:`NotKnownError` that says why there is none."""
        if self.rule is None:
            raise NotKnownError(self.why_no_rule)
        return self.rule

    def spent(self) -> Cost:
        """What all objectives have spent up to now."""
        return sum((o.spent for o in self.evaluations.values()), self.objective.spent)


class Measure(ABC):
    """One quantity. A new one is a file with a dataclass that derives from this, and one line in ``measures/__init__``.

    ``needs`` says what is computed: Hessian ``"products"`` at this moment's parameters (after which loss and gradient
    there are known too), the ``"gradient"``, the ``"loss"``, ``"nothing"``, or something at ``"other points"``.
    Measures are taken in this order, so that each finds what those before it left. ``uses`` names measures whose
    readings this one takes from ``moment.shared`` where they are there. ``needs_previous`` asks for
    ``moment.previous``. One that has to see all steps of a run, and not those alone at which it is taken, has a
    method ``follow``.

    A measure may keep state between calls (a warm start): it then gives it away in ``state()`` so that a resumed run
    continues bit for bit.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    unit: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[Needs]
    uses: ClassVar[tuple[str, ...]] = ()
    needs_previous: ClassVar[bool] = False

    def follow(self, step: int, objective: Objective) -> None:  # noqa: B027
        """Called by the monitor at step 0 and after every step, before any ``take`` there; must not raise."""

    def take(self, moment: Moment) -> Reading:
        """Read the quantity at this moment, with its cost and seconds. Leaves model, gradients and RNG untouched.

        What cannot be had (diverged, optimizer not known, first step) is a reading without values, and a note that
        says why in one line; no :class:`EdgescopeError` is raised.
        """
        began, before = time.perf_counter(), moment.spent()
        try:
            if moment.diverged and self.needs in ("products", "gradient", "other points"):
                reading = Reading(self.name, {}, note="not measured, since the run has diverged")
            else:
                reading = self.read(moment)
        except EdgescopeError as error:
            reading = Reading(self.name, {}, note=str(error))
        return replace(reading, cost=moment.spent() - before, seconds=time.perf_counter() - began)

    @abstractmethod
    def read(self, moment: Moment) -> Reading:
        """The quantity at this moment; raises an :class:`EdgescopeError` where it cannot be had."""

    def state(self) -> dict[str, Any]:
        """What ``load_state`` needs to continue bit for bit: nested dicts of tensors, numbers and text."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Continue from a state that ``state()`` gave."""
