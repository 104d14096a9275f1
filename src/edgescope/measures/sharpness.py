"""The sharpness: the largest eigenvalues of the Hessian of the training loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from edgescope.linalg import Eigenpairs, top_eigenpairs
from edgescope.measures.measure import Measure, Moment, Needs, Reading


class EigenTracker:  # until linalg has it
    def __init__(self, thing: Any, k: int = 1, tol: float = 1e-3) -> None:
        self.thing, self.k, self.tol, self.vectors = thing, k, tol, None

    def update(self, thing: Any = None, metric: Any = None) -> Eigenpairs:
        pairs = top_eigenpairs(thing or self.thing, k=self.k, tol=self.tol, start=self.vectors, metric=metric)
        self.vectors = pairs.vectors
        return pairs

    def state(self) -> dict[str, Any]:
        return {} if self.vectors is None else {"v": self.vectors}

    def load_state(self, state: dict[str, Any]) -> None:
        self.vectors = state.get("v")


@dataclass
class Sharpness(Measure):
    """The ``k`` algebraically largest eigenvalues of the Hessian, parts "1" (the largest) to "k", with their errors.

    Followed along the run by an EigenTracker, whose tolerance ``tol`` is. Cost: some 20 to 50 products at first, then
    some 3 to 10.
    """

    k: int = 1
    tol: float = 1e-3
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
        return eigenvalue_reading(self.name, self._tracker.update())

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
