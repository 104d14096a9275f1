"""What an estimate of the local learning coefficient is: value, errors, checks that the chains have mixed, biases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float

from edgescope.cost import Cost
from edgescope.notebooks import in_notebooks
from edgescope.statistics import Estimate

Status = Literal["mixed", "not mixed", "diverged"]


@in_notebooks
@dataclass(frozen=True)
class HalfStep:
    """The same estimate with half the step, and the extrapolation of both to step 0: twice this one less the other.

    The extrapolation removes what is linear in the step. Errors are standard errors.
    """

    value: float
    error: float
    extrapolated: float
    extrapolated_error: float


@in_notebooks
@dataclass(frozen=True)
class LearningCoefficient:
    """A local learning coefficient n β (E L(w) - L(w*)), without unit, and whether to trust it.

    ``status`` is "mixed" where there is a number. Otherwise ``value`` is NaN and ``reason`` says why: the chains have
    not mixed, or have diverged; ``chains`` has the mean of each chain all the same. ``reason`` also says what lets a
    number mean something else: a loss that is not at a minimum, a negative estimate.

    ``error`` is one standard error over the noise of the chains, the larger of ``error_between`` chains and
    ``error_within`` them, from their autocorrelation; so it is that of another call with another seed. ``interval`` is
    the 95% interval of Student's t. None of these contains a bias:

    - of the step, upward: by ``step_bias`` of the value at most, on a quadratic; ``half_step`` measures it;
    - of ``gamma``, downward, by gamma/(n β h + gamma) of the share of an eigenvalue h: ``quadratic`` is what this step
      and gamma give on a quadratic with the eigenvalues of the ``spectrum`` that was passed, and ``quadratic_exact``
      half the number of them above 0, without either bias; None without;
    - of mini-batches, upward, by ``batch_bias`` at most, on a quadratic; None on the full batch;
    - of a loss that is not at a minimum, downward, by ``above_minimum`` at least: n β times how much lower a loss was
      found, or follows from the gradient.

    ``halves`` are the estimates from the first and second halves of the chains, and ``drift`` the probability of halves
    that differ as much by chance, the smaller one of the loss and of the distance from w*. ``r_hat`` is the split R-hat
    of the loss, ``r_hat_distance`` that of the squared distance. ``steps`` and ``burn_in`` are steps of each chain,
    ``relaxation`` those in which a flat direction forgets where it began, 2/(step γ), below which R-hat says nothing.
    ``edge_share`` is ``step`` over the ``edge`` above which SGLD diverges, for ``sharpness``, the largest eigenvalue of
    the Hessian where the chains went. ``independent`` is how many independent draws the chains count as, and
    ``distance`` the root mean square of the distance from w*.
    """

    value: float
    error: float
    interval: Estimate
    status: Status
    reason: str
    error_between: float
    error_within: float
    half_step: HalfStep | None
    halves: tuple[float, float]
    drift: float
    r_hat: float
    r_hat_distance: float
    step_bias: float
    quadratic: float | None
    quadratic_exact: float | None
    batch_bias: float | None
    above_minimum: float
    independent: float
    steps: int
    burn_in: int
    relaxation: float
    step: float
    edge: float
    sharpness: float
    gamma: float
    beta: float
    n: int
    loss: float
    distance: float
    chains: Float[np.ndarray, " k"] = field(repr=False)
    cost: Cost
    mode: str | None = None

    @property
    def edge_share(self) -> float:
        """The step over the edge of the sampler."""
        return self.step / self.edge
