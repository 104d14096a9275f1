"""The RDS sharpness of order 1: how fast the update's Jacobian stretches the direction that it stretches most."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from edgescope.cost import Cost, in_passes
from edgescope.errors import NotKnownError
from edgescope.linalg import Eigenpairs, EigenTracker, Operator, top_eigenpairs
from edgescope.linalg.search import Which
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.objective import Objective, mini_batches
from edgescope.options import LARGEST_RATE, check_fields, integer, optional, real


@dataclass
class RDSSharpness(Measure):
    """ln of the largest |1 - lr alpha| over the eigenvalues alpha of the Hessian.

    Positive where gradient descent expands some direction: alpha > 2 / lr or alpha < 0, so that one tiny negative
    eigenvalue is enough. Part "" is the larger of "top" and "bottom", ln |1 - lr alpha| at the largest and the smallest
    eigenvalue, since |1 - lr alpha| is largest at one end. As in the paper the Jacobian is I - lr H for every
    optimizer, without momentum, preconditioner or decay, and the supremum over the attractor is left out.

    On all data of the objective, followed along the run, with estimated bounds as errors; or, with ``batch``, the mean
    over ``batches`` mini-batches of that size drawn from ``seed`` (part "" alone), with the standard error of that
    mean. ``lr`` in place of the optimizer's is the control for grids of learning rates. ``tol`` is that of lr alpha.

    Cost: some 15 to 50 products; with ``batch`` as many for each mini-batch, counted by its share of the data.
    """

    lr: float | None = None
    batch: int | None = None
    batches: int = 8
    tol: float = 1e-3
    seed: int = 0
    _tracker: EigenTracker | None = field(default=None, init=False, repr=False)
    _continue_from: dict[str, Any] | None = field(default=None, init=False, repr=False)

    name: ClassVar[str] = "rds_sharpness"
    title: ClassVar[str] = "RDS sharpness of order 1"
    unit: ClassVar[str] = "1 / step"
    source: ClassVar[str] = "Tuci et al. 2026 (arXiv 2604.19740)"
    needs: ClassVar[Needs] = "products"

    def __post_init__(self) -> None:
        check_fields(
            self,
            f"measure '{self.name}'",
            lr=optional(real(above=0, most=LARGEST_RATE)),
            batch=optional(integer(1)),
            batches=integer(2),  # of one there is no standard error
            tol=real(above=0, below=1),
        )

    def check_problem(self, size: ProblemSize) -> None:
        size.fits_samples(f"measure '{self.name}'", "batch", self.batch)

    def expected_cost(self, size: ProblemSize) -> Cost:
        return Cost(products=30)

    def read(self, moment: Moment) -> Reading:
        lr = float(moment.known_rule().option("lr")) if self.lr is None else self.lr
        return self._on_all_data(moment, lr) if self.batch is None else self._on_batches(moment, lr, self.batch)

    def _on_all_data(self, moment: Moment, lr: float) -> Reading:
        if self._tracker is None:
            self._tracker = EigenTracker(moment.objective, tol=self.tol, which=_ends(moment.objective))
            if self._continue_from is not None:
                self._tracker.load_state(self._continue_from)
        pairs = self._tracker.update(_shifted(moment.objective, lr))
        logs, errors = _log_stretches(pairs)
        worst = max(logs, key=lambda part: logs[part])
        return Reading(
            self.name, {"": logs[worst]} | logs, {"": errors[worst]} | errors, note=_note(int((~pairs.converged).sum()))
        )

    def _on_batches(self, moment: Moment, lr: float, batch: int) -> Reading:
        objective, found, missed, spent = moment.objective, [], 0, Cost()
        for part in mini_batches(objective, batch, self.batches, seed=self.seed):
            pairs = top_eigenpairs(_shifted(part, lr), which=_ends(part), tol=self.tol)
            found.append(max(_log_stretches(pairs)[0].values()))
            missed += int((~pairs.converged).sum())
            spent += part.spent
        objective.meter.add(in_passes(spent, batch / objective.samples))
        error = float(np.std(found, ddof=1)) / self.batches**0.5
        return Reading(self.name, {"": float(np.mean(found))}, {"": error}, note=_note(missed))

    def state(self) -> dict[str, Any]:
        if self._tracker is None:  # nothing was measured since the state was loaded
            return self._continue_from or {}
        return self._tracker.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._tracker, self._continue_from = None, state or None


def _shifted(objective: Objective, lr: float) -> Operator:
    """I + lr H, whose extreme eigenvalues lie near or above 1, so that a relative tolerance there is one of lr alpha.

    The smallest eigenvalue of H itself is nearly zero, and to resolve it relative to its size is expensive.
    """
    hessian = objective.operator()
    return hessian.derived(lambda block: block + lr * (hessian @ block))


def _ends(objective: Objective) -> Which:
    return "both" if objective.size > 1 else "largest"


def _log_stretches(pairs: Eigenpairs) -> tuple[dict[str, float], dict[str, float]]:
    """ln |1 - lr alpha| at both ends, from the eigenvalues 1 + lr alpha, with errors; without what is ln 0."""
    logs, errors = {}, {}
    for part, at in (("top", 0), ("bottom", -1)):
        stretch = abs(2 - float(pairs.values[at]))
        if stretch:
            logs[part], errors[part] = math.log(stretch), float(pairs.error[at]) / stretch
    if not logs:
        raise NotKnownError("every eigenvalue is 1 / lr, where the Jacobian of the update is singular")
    return logs, errors


def _note(missed: int) -> str:
    return f"{missed} eigenvalues not converged" if missed else ""
