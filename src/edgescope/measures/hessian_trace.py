"""The trace of the Hessian, which is the sum of its eigenvalues."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from edgescope.cost import Cost
from edgescope.errors import EdgescopeError
from edgescope.linalg import trace
from edgescope.linalg.sketch import MIN_MATVECS
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.objective import Objective
from edgescope.objective.gauss_newton_trace import gauss_newton_trace, residual_share
from edgescope.options import check_fields, integer

AT_INTERPOLATION = 0.02
"""Slope of the criterion in the outputs, over that at outputs of zero, below which "auto" takes Gauss-Newton."""

MOST_OUTPUTS = 32
"""Outputs of a sample beyond which "auto" does not differentiate them one by one."""

_ROUNDING = 3  # times that of the sampled part: rounding of the exact part


@dataclass
class HessianTrace(Measure):
    """The trace with one standard error: of rounding, and of sampling where it is not exact, drawn from ``seed``.

    ``method``: "hutch++" samples the whole trace. "gauss-newton" adds the exact trace of the Gauss-Newton matrix and
    that of the rest, H - G, by Hutch++ with half the products; G is H where the criterion is stationary in every
    output, and then nothing is left to sample. "auto" takes the second within 2% of such an interpolation (see
    :func:`residual_share`), for at most 32 outputs a sample.
    Cost: ``num_matvecs`` products; with Gauss-Newton also a gradient for each output, with "auto" one loss.
    """

    num_matvecs: int = 30
    seed: int = 0
    method: Literal["auto", "hutch++", "gauss-newton"] = "auto"

    name: ClassVar[str] = "hessian_trace"
    title: ClassVar[str] = "Trace of the Hessian"
    unit: ClassVar[str] = "loss / parameter²"
    source: ClassVar[str] = "Meyer, Musco, Musco and Woodruff 2021, Algorithm 1"
    needs: ClassVar[Needs] = "products"
    renamed_options: ClassVar[dict[str, str]] = {"probes": "num_matvecs=, the number of products (3 for each probe)"}

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'", num_matvecs=integer(MIN_MATVECS))

    def check_problem(self, size: ProblemSize) -> None:
        vectors = min(4 * (self.num_matvecs // 3), 2 * size.parameters)  # of a small one all columns, and their images
        size.require_vectors(f"measure '{self.name}' with {self.num_matvecs:,} products", vectors, "fewer products")

    def expected_cost(self, size: ProblemSize) -> Cost:
        return Cost(products=self.num_matvecs)

    def read(self, moment: Moment) -> Reading:
        objective = moment.objective
        if self.method == "gauss-newton" or (self.method == "auto" and _interpolates(objective)):
            hessian, model = objective.operator(), objective.operator(kind="gauss-newton")
            rest = hessian.derived(lambda v: hessian @ v - model @ v, same_error=True)
            half = max(MIN_MATVECS, 3 * (self.num_matvecs // 6))
            exact, found = gauss_newton_trace(objective), trace(rest, num_matvecs=half, seed=self.seed)
            # the exact part is rounded too, as the products are whose difference is sampled
            error = math.hypot(found.error, _ROUNDING * found.rounding)
            return Reading(self.name, {"": exact + found.value}, {"": error})
        found = trace(objective, num_matvecs=self.num_matvecs, seed=self.seed)
        return Reading(self.name, {"": found.value}, {"": found.error})


def _interpolates(objective: Objective) -> bool:
    """Whether the Gauss-Newton matrix is nearly the Hessian, and its trace to be had one output after the other."""
    try:
        share, outputs = residual_share(objective)
    except EdgescopeError:  # a loss that does not tell outputs and criterion apart, or no mean over samples
        return False
    return share < AT_INTERPOLATION and outputs <= MOST_OUTPUTS
