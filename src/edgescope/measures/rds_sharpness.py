"""The RDS sharpness of order 1: how fast the update's Jacobian stretches the direction that it stretches most."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from edgescope.errors import InputError, NotKnownError
from edgescope.linalg import EigenTracker, Operator
from edgescope.measures.measure import Measure, Moment, Needs, Reading


@dataclass
class RDSSharpness(Measure):
    """ln of the largest |1 - lr alpha| over the eigenvalues alpha of the Hessian, on all data of the objective.

    Positive where gradient descent expands some direction: alpha > 2 / lr or alpha < 0, so that one tiny negative
    eigenvalue is enough. Part "" is the largest of the parts "top" and "bottom", ln |1 - lr alpha| at the largest and
    the smallest eigenvalue, since |1 - lr alpha| is largest at one end. As in the paper the Jacobian is I - lr H for
    every optimizer: no momentum, preconditioner or decay; its mean over mini-batches is taken by an objective on each.
    ``lr`` in place of the optimizer's is the control for grids of learning rates. ``tol`` is that of lr alpha.
    Cost: some 15 to 50 products.
    """

    lr: float | None = None
    tol: float = 1e-3
    _tracker: EigenTracker | None = field(default=None, init=False, repr=False)
    _continue_from: dict[str, Any] | None = field(default=None, init=False, repr=False)

    name: ClassVar[str] = "rds_sharpness"
    title: ClassVar[str] = "RDS sharpness of order 1"
    unit: ClassVar[str] = "1 / step"
    source: ClassVar[str] = "Tuci et al. 2026 (arXiv 2604.19740)"
    needs: ClassVar[Needs] = "products"

    def __post_init__(self) -> None:
        if self.lr is not None and not (self.lr > 0 and math.isfinite(self.lr)):
            raise InputError(f"lr={self.lr} of rds_sharpness", expected="a positive finite number")

    def read(self, moment: Moment) -> Reading:
        lr = self._learning_rate(moment)
        if self._tracker is None:
            both = moment.objective.size > 1
            self._tracker = EigenTracker(moment.objective, tol=self.tol, which="both" if both else "largest")
            if self._continue_from is not None:
                self._tracker.load_state(self._continue_from)
        # Both ends of I + lr H lie near or above 1, so that the tolerance there is one of lr alpha, which is what
        # counts: the smallest eigenvalue of H itself is nearly zero, and to resolve it relative to its size is dear.
        hessian = moment.objective.operator()
        shifted = Operator(
            hessian.size, lambda block: block + lr * (hessian @ block), dtype=hessian.dtype, device=hessian.device
        )
        pairs = self._tracker.update(shifted)
        values, errors = {}, {}
        for part, at in (("top", 0), ("bottom", -1)):
            stretch = abs(2 - float(pairs.values[at]))
            if stretch:
                values[part], errors[part] = math.log(stretch), float(pairs.error[at]) / stretch
        if not values:
            raise NotKnownError("every eigenvalue is 1 / lr, where the Jacobian of the update is singular")
        worst = max(values, key=lambda part: values[part])
        missed = int((~pairs.converged).sum())
        return Reading(
            self.name,
            {"": values[worst]} | values,
            {"": errors[worst]} | errors,
            note=f"{missed} of {len(pairs.values)} eigenvalues not converged" if missed else "",
        )

    def _learning_rate(self, moment: Moment) -> float:
        if self.lr is not None:
            return self.lr
        return float(moment.known_rule().option("lr"))

    def state(self) -> dict[str, Any]:
        return {} if self._tracker is None else self._tracker.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._tracker, self._continue_from = None, state or None
