"""What a measure is: one quantity read off a training run at one step, with its unit, source, error and cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.objective import Objective
from edgescope.optim.rule import UpdateRule


@dataclass(frozen=True)
class Reading:
    """What a measure found at one step.

    ``values`` maps a part to a number: ``{"": 3.2}`` for a plain scalar, ``{"1": 40.1, "2": 38.0}`` for the first and
    second eigenvalue, ``{"layer.weight": ...}`` for something per tensor. ``errors`` maps the same parts to the error
    of that number (a residual, a standard error), where one is known. ``arrays`` holds what is not a scalar.
    ``note`` states what a reader must know: precision, mode, or why there is no value.
    """

    measure: str
    values: dict[str, float]
    errors: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0
    note: str = ""


@dataclass
class Moment:
    """One step of a run, as a measure sees it. Vectors are flat, of length P, in the objective's order.

    ``previous`` are the parameters before the last optimizer step (None at step 0 or when no measure asked for them).
    ``shared`` carries what several measures of the same step need, so that it is computed once; it is emptied for
    every step. ``evaluations`` are further objectives by name, such as ``{"test": ...}``.
    """

    step: int
    objective: Objective
    optimizer: torch.optim.Optimizer | None
    rule: UpdateRule | None
    parameters: Float[Tensor, " P"]
    initial: Float[Tensor, " P"]
    previous: Float[Tensor, " P"] | None = None
    evaluations: dict[str, Objective] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)


class Measure(ABC):
    """One quantity. A new one is a file with a dataclass that derives from this, and one line in ``measures/__init__``.

    ``needs_previous`` asks the monitor to keep the parameters from before the step. A measure may keep state between
    calls (a warm start): it then gives it away in ``state()`` so that a resumed run continues bit for bit.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    unit: ClassVar[str]
    source: ClassVar[str]
    needs_previous: ClassVar[bool] = False

    @abstractmethod
    def take(self, moment: Moment) -> Reading:
        """Read the quantity at this moment. Leaves the model, its buffers, gradients, RNG and mode untouched."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:  # noqa: B027
        """Continue from a state that ``state()`` gave."""
