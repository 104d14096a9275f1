"""What a measure found at one step: values by part, their errors, arrays, a note, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgescope.cost import Cost
from edgescope.notebooks import in_notebooks


@in_notebooks
@dataclass(frozen=True)
class Reading:
    """What a measure found at one step.

    ``values`` maps a part to a number: ``{"": 3.2}`` for a plain scalar, ``{"1": 40.1, "2": 38.0}`` for the first and
    second eigenvalue, ``{"layer.weight": ...}`` for one number per tensor. ``errors`` maps the same parts to the error
    of that number, where one is known: one standard error of what is sampled, an estimated bound of an eigenvalue or of
    rounding; the measure says which. ``arrays`` holds what is not a scalar.
    ``note`` states what a reader must know: what has not converged, or why there is no value. ``failed`` says that the
    measure raised an error other than that a value is not known. ``cost`` and ``seconds`` are filled in by
    :meth:`Measure.take`.
    """

    measure: str
    values: dict[str, float]
    errors: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0
    note: str = ""
    failed: bool = False

    @property
    def value(self) -> float | None:
        """The value of the main part: the part "" where there is one, else the first; None without values."""
        return self.values.get(self._main)

    @property
    def error(self) -> float | None:
        """The error of :attr:`value`; None where it is not known."""
        return self.errors.get(self._main)

    @property
    def _main(self) -> str:
        return "" if "" in self.values else next(iter(self.values), "")
