"""The sharpness: the largest eigenvalues of the Hessian of the training loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from edgescope.errors import NotKnownError
from edgescope.linalg import Eigenpairs, EigenTracker
from edgescope.measures.measure import Measure, Moment, Needs, Reading


@dataclass
class Sharpness(Measure):
    """The ``k`` algebraically largest eigenvalues of the Hessian, parts "1" (the largest) to "k", with their errors.

    Followed along the run by an EigenTracker, whose tolerance ``tol`` is. With ``grow``, and an optimizer whose
    threshold is one of the plain Hessian, one more eigenvalue is followed whenever the lowest comes near the threshold.
    Cost: some 20 to 50 products at first, then some 3 to 10.
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

    def read(self, moment: Moment) -> Reading:
        if self._tracker is None:
            self._tracker = EigenTracker(moment.objective, k=self.k, tol=self.tol)
            if self._continue_from is not None:
                self._tracker.load_state(self._continue_from)
        return eigenvalue_reading(self.name, self._tracker.update(threshold=self._threshold(moment)))

    def _threshold(self, moment: Moment) -> float | None:
        if not self.grow or moment.rule is None:
            return None
        try:
            plain = moment.rule.metric() is None and moment.rule.shift() is None
            return moment.rule.threshold().value if plain else None
        except NotKnownError:
            return None

    def state(self) -> dict[str, Any]:
        return {} if self._tracker is None else self._tracker.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._tracker, self._continue_from = None, state or None


def eigenvalue_reading(measure: str, pairs: Eigenpairs) -> Reading:
    """Eigenvalues as parts "1", "2", ..., with their estimated errors, and a note on those that did not converge."""
    names = [str(i + 1) for i in range(len(pairs.values))]
    missed = int((~pairs.converged).sum())
    return Reading(
        measure,
        dict(zip(names, pairs.values.tolist(), strict=True)),
        dict(zip(names, pairs.error.tolist(), strict=True)),
        note=f"{missed} of {len(names)} eigenvalues not converged" if missed else "",
    )
