"""The sharpness: the largest eigenvalues of the Hessian of the training loss."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import NotKnownError
from edgescope.linalg import Eigenpairs, EigenTracker
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.objective.layout import Layout
from edgescope.options import check_fields, integer, real

SHARES: Final = "layers"
"""The array with the share of the squared norm of the first eigenvector in each parameter tensor."""


@dataclass
class Sharpness(Measure):
    """The ``k`` algebraically largest eigenvalues of the Hessian, parts "1" (the largest) to "k".

    Their errors are estimated bounds. The array "layers" has the share of the squared norm of the first eigenvector,
    the direction that oscillates at the edge, in each parameter tensor, in the order of the layout. Followed along the
    run by an EigenTracker, whose tolerance ``tol`` is. With ``grow``, and an optimizer whose threshold is one of the
    plain Hessian, one more eigenvalue is followed whenever the lowest comes near the threshold. Of a model with fewer
    than ``k`` parameters all eigenvalues are given, and the note says so. Cost: some 20 to 50 products at first, then
    some 3 to 10.
    """

    k: int = 1
    tol: float = 1e-3
    grow: bool = False
    _tracker: EigenTracker | None = field(default=None, init=False, repr=False)
    _continue_from: dict[str, Any] | None = field(default=None, init=False, repr=False)

    name: ClassVar[str] = "sharpness"
    title: ClassVar[str] = "Largest eigenvalues of the Hessian"
    unit: ClassVar[str] = "loss / parameter²"
    source: ClassVar[str] = "Cohen et al. 2021 (arXiv 2103.00065)"
    needs: ClassVar[Needs] = "products"

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'", k=integer(1), tol=real(above=0, below=1))

    def check_problem(self, size: ProblemSize) -> None:
        size.fits_parameters(f"measure '{self.name}'", "k", self.k)
        size.require_vectors(f"measure '{self.name}' with k={self.k:,}", 2 * self.k, "a smaller k")

    def expected_cost(self, size: ProblemSize) -> Cost:
        return Cost(products=3 + 3 * self.k)

    def read(self, moment: Moment) -> Reading:
        size = moment.objective.size
        if self._tracker is None:
            self._tracker = EigenTracker(moment.objective, k=min(self.k, size), tol=self.tol)
            if self._continue_from is not None:
                self._tracker.load_state(self._continue_from)
        pairs = self._tracker.update(threshold=self._threshold(moment))
        shares = {SHARES: shares_of_tensors(pairs.vectors[:, 0], moment.objective.layout)}
        found = replace(eigenvalue_reading(self.name, pairs), arrays=shares)
        if self.k <= size:
            return found
        few = f"k={self.k} of a model with {size} parameter{'s' * (size > 1)}, which has no more eigenvalues"
        return replace(found, note="; ".join(filter(None, (few, found.note))))

    def _threshold(self, moment: Moment) -> float | None:
        if not self.grow or moment.rule is None:
            return None
        try:
            plain = moment.rule.metric() is None and moment.rule.shift() is None
            return moment.rule.threshold().value if plain else None
        except NotKnownError:
            return None

    def state(self) -> dict[str, Any]:
        if self._tracker is None:  # nothing was measured since the state was loaded
            return self._continue_from or {}
        return self._tracker.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._tracker, self._continue_from = None, state or None


def shares_of_tensors(vector: Float[Tensor, " P"], layout: Layout) -> Float[np.ndarray, " tensors"]:
    """What share of the squared norm of ``vector`` lies in each tensor, in the order of ``layout``; they sum to 1."""
    squares = torch.stack([piece.double().square().sum() for piece in layout.split(vector)])
    return (squares / squares.sum()).cpu().numpy()


def eigenvalue_reading(measure: str, pairs: Eigenpairs) -> Reading:
    """Eigenvalues as parts "1", "2", ..., with their estimated errors, and a note on those that did not converge."""
    names = [str(i + 1) for i in range(len(pairs.values))]
    missed = int((~pairs.converged).sum())
    few = f"{missed} of {len(names)} eigenvalues not converged" if missed else ""
    return Reading(
        measure,
        dict(zip(names, pairs.values.tolist(), strict=True)),
        dict(zip(names, pairs.error.tolist(), strict=True)),
        note="; ".join(filter(None, (few, pairs.note))),
    )
