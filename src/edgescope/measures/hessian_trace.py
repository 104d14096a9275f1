"""The trace of the Hessian, which is the sum of its eigenvalues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from edgescope.errors import EdgescopeError, one_of
from edgescope.linalg import Operator, trace
from edgescope.measures.measure import Measure, Moment, Needs, Reading
from edgescope.objective import Objective
from edgescope.objective.gauss_newton_trace import gauss_newton_trace, residual_share

AT_INTERPOLATION = 0.02
"""Slope of the criterion in the outputs, over that at outputs of zero, below which "auto" takes Gauss-Newton."""

MOST_OUTPUTS = 32
"""Outputs of a sample beyond which "auto" does not differentiate them one by one."""

METHODS = ("auto", "hutch++", "gauss-newton")


@dataclass
class HessianTrace(Measure):
    """The trace, its error the standard error over ``probes`` of what is not exact, drawn from ``seed`` at every step.

    ``method``: "hutch++" samples the whole trace. "gauss-newton" adds the exact trace of the Gauss-Newton matrix and
    that of the rest, H - G, by Hutch++ with half the probes; G is H where the criterion is stationary in every output,
    and then nothing is left to sample. "auto" takes the second within 2% of such an interpolation (see
    :func:`residual_share`), for at most 32 outputs a sample.
    Cost: 3 ``probes`` products; with Gauss-Newton a gradient for each output beside, with "auto" one loss.
    """

    probes: int = 10
    seed: int = 0
    method: Literal["auto", "hutch++", "gauss-newton"] = "auto"

    name: ClassVar[str] = "hessian_trace"
    title: ClassVar[str] = "Trace of the Hessian"
    unit: ClassVar[str] = "loss / parameter²"
    source: ClassVar[str] = "Meyer, Musco, Musco and Woodruff 2021, Algorithm 1"
    needs: ClassVar[Needs] = "products"

    def __post_init__(self) -> None:
        one_of(self.method, METHODS, "method of hessian_trace")

    def read(self, moment: Moment) -> Reading:
        objective = moment.objective
        if self.method == "gauss-newton" or (self.method == "auto" and _interpolates(objective)):
            hessian, model = objective.operator(), objective.operator(kind="gauss-newton")
            rest = Operator(
                objective.size, lambda v: hessian @ v - model @ v, dtype=objective.dtype, device=objective.device
            )
            exact, found = gauss_newton_trace(objective), trace(rest, probes=max(2, self.probes // 2), seed=self.seed)
            return Reading(self.name, {"": exact + found.value}, {"": found.standard_error})
        found = trace(objective, probes=self.probes, seed=self.seed)
        return Reading(self.name, {"": found.value}, {"": found.standard_error})


def _interpolates(objective: Objective) -> bool:
    """Whether the Gauss-Newton matrix is nearly the Hessian, and its trace to be had one output after the other."""
    try:
        share, outputs = residual_share(objective)
    except EdgescopeError:  # a loss that does not tell outputs and criterion apart, or no mean over samples
        return False
    return share < AT_INTERPOLATION and outputs <= MOST_OUTPUTS
