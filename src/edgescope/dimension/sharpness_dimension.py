"""The sharpness dimension: Kaplan-Yorke on the one-step exponents of an optimizer, averaged over mini-batches."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.dimension.estimators import Estimator
from edgescope.dimension.formula import Averaging, DeadZone, Unit, fitted, jackknife
from edgescope.dimension.sampling import Depth, all_nodes, sampled_nodes
from edgescope.dimension.sources import sources
from edgescope.dimension.steps import OptimizerStep, step_of
from edgescope.errors import InputError, one_of

Method = Literal["exact", "slq", "kde", "ps"]

DEAD_ZONES = (1e-8, 1e-6, 1e-4, 1e-2)


@dataclass(frozen=True)
class SharpnessDimension:
    """The sharpness dimension and what it is made of.

    ``exponents`` are in descending order, and ``directions`` says how many share each (all 1 when exact; they sum to
    ``size``). ``order`` is the number of whole directions, ``deficit`` is ``size`` - dimension, ``ratio`` dimension /
    ``size``, ``sharpness`` the largest exponent (the RDS sharpness of order 1), ``contraction`` the sum of all
    exponents: the rate at which a step changes volume, which quadrature gives without bias at any depth.

    ``standard_error`` is over mini-batches or probes, by a jackknife: 0 for one exact objective, infinite for a single
    sample. ``drift`` is how far the dimension came in the last doubling of the Lanczos depth (0 when exact): too few
    steps bias it, mostly low, by more than the scatter over probes shows. ``error`` is both together. ``converged``
    says whether the drift is within the tolerance.

    ``by_averaging`` has the dimension in each order of averaging that the method allows; ``dead_zones`` what becomes of
    it when tiny exponents count as 0. ``precision`` is that of the products.
    """

    dimension: float
    standard_error: float
    drift: float
    converged: bool
    exponents: Float[Tensor, " n"]
    directions: Float[Tensor, " n"]
    size: int
    contraction: float
    contraction_error: float
    by_averaging: dict[str, float]
    dead_zones: tuple[DeadZone, ...]
    method: Method
    averaging: Averaging
    lr: float
    batches: int
    probes: int
    steps: int
    bandwidth: float
    precision: str
    products: int
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0

    @property
    def order(self) -> int:
        return math.floor(self.dimension)

    @property
    def deficit(self) -> float:
        return self.size - self.dimension

    @property
    def ratio(self) -> float:
        return self.dimension / self.size

    @property
    def sharpness(self) -> float:
        return float(self.exponents[0])

    @property
    def error(self) -> float:
        return math.hypot(self.standard_error, self.drift)


def sharpness_dimension(
    thing: Any,
    lr: float | None = None,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    method: Method = "exact",
    averaging: Averaging | None = None,
    batch_size: int | None = None,
    batches: int | None = None,
    probes: int = 16,
    steps: int = 50,
    max_steps: int = 400,
    tol: float = 0.01,
    deflate: int = 0,
    bandwidth: float | None = None,
    quantiles: int | None = None,
    dead_zones: Sequence[float] = DEAD_ZONES,
    dtype: torch.dtype | None = torch.float64,
    seed: int = 0,
) -> SharpnessDimension:
    """The sharpness dimension at the present parameters: of all data, or averaged over mini-batches.

    Args:
        thing: an Objective; an operator or symmetric matrix (a Hessian); its Spectrum, for another learning rate or
            estimator at no further product (``probes`` to ``deflate`` are then its own); or an iterable of these, one
            a mini-batch.
        lr: learning rate of gradient descent, whose Jacobian I - lr H the paper takes for every optimizer.
        optimizer: instead of ``lr``, a live torch optimizer: the Jacobian of its own next step, with momentum,
            preconditioner and weight decay, on parameters and state vectors together; exact only. Its singular values
            depend on the units of the state beside those of the parameters; Lyapunov exponents do not.
        method: "exact" (all eigenvalues or singular values of a dense matrix), or quadrature: "slq", "kde", "ps", see
            ``dimension.estimators``.
        averaging: "sorted": the logarithms are sorted in each mini-batch, then averaged order by order, then the
            formula is applied (the paper's exact dimension, and the default when exact); "pooled": one density of all
            mini-batches (the paper's for quadrature, and the default there); "each": the mean of the dimensions of the
            mini-batches (of the probes where there is one objective).
        batch_size, batches: draw this many mini-batches (8 unless told) of this many samples from the Objective's data,
            by ``seed``; without them its whole data are one batch. Each has its own probes.
        probes: random vectors for each mini-batch, multiplied side by side. From few, the standard error is itself
            uncertain.
        steps, max_steps, tol: Lanczos steps. The first mini-batch doubles them from ``steps`` until the last doubling
            moved the dimension by at most ``tol`` times the number of parameters, or at ``max_steps``.
        deflate: leading eigenpairs that are counted exactly instead of sampled, see :func:`edgescope.spectrum`.
        bandwidth: of the smoothing, in the unit of the exponents; Silverman's rule unless told.
        quantiles: how many points of equal mass "ps" takes; as many as parameters unless told.
        dead_zones: widths, for |lr * eigenvalue| (for an ``optimizer`` |ln singular value|).
        dtype: precision of the products with Objectives, float64 because null and tiny negative eigenvalues decide;
            None: their own. Operators have their own.

    Cost: exact P products a mini-batch (P (1 + state vectors) with an optimizer) and some 30 P^2 bytes;
    quadrature ``probes * steps`` products a mini-batch.
    Raises :class:`InputError` for arguments that cannot be used or a singular Jacobian, :class:`NotKnownError` for an
    optimizer without a known rule, :class:`MemoryBudgetError` where it does not fit.
    Source: Tuci et al. 2026, arXiv 2604.19740; the supremum over the attractor is dropped, as in its estimators.
    """
    began = time.perf_counter()
    one_of(method, get_args(Method), "method")
    order: Averaging = averaging or ("sorted" if method == "exact" else "pooled")
    one_of(order, get_args(Averaging), "averaging")
    _refuse(method, order, tol, max_steps, bandwidth, quantiles, dead_zones)
    step = step_of(lr, optimizer)
    members = sources(thing, batch_size=batch_size, batches=batches, seed=seed, dtype=dtype)
    estimator: Estimator = "slq" if method == "exact" else method
    if method == "exact":
        found = all_nodes(members, step)
    elif isinstance(step, OptimizerStep):
        raise InputError(f"optimizer= with method='{method}'", expected="method='exact'")
    else:

        def dimension_of(size: int, units: Sequence[Unit]) -> float:
            return fitted(step.exponent, estimator, size, units, bandwidth, quantiles).dimension(units, "pooled")

        found = sampled_nodes(members, step, Depth(probes, steps, max_steps, tol, deflate, seed), dimension_of)
    formula = fitted(step.exponent, estimator, found.size, found.units, bandwidth, quantiles)
    dimension = formula.dimension(found.units, order)
    drift = formula.drift(found.units, found.coarse, order)
    certain = method == "exact" and not members.drawn
    allowed = [one for one in get_args(Averaging) if method == "exact" or one != "sorted"]
    exponents, directions = formula.parts(found.units, order if order != "each" else allowed[0])
    return SharpnessDimension(
        dimension=dimension,
        standard_error=0.0 if certain else jackknife(lambda units: formula.dimension(units, order), found.units),
        drift=drift,
        converged=abs(drift) <= tol * found.size,
        exponents=exponents,
        directions=directions,
        size=found.size,
        contraction=formula.contraction(found.units),
        contraction_error=0.0 if certain else jackknife(formula.contraction, found.units),
        by_averaging={one: formula.dimension(found.units, one) for one in allowed},
        dead_zones=tuple(formula.in_dead_zone(zone, found.units, order) for zone in dead_zones),
        method=method,
        averaging=order,
        lr=step.lr,
        batches=len(found.units) if members.drawn else 1,
        probes=found.probes,
        steps=found.steps,
        bandwidth=formula.bandwidth,
        precision=members.precision,
        products=members.products,
        cost=members.cost,
        seconds=time.perf_counter() - began,
    )


def _refuse(
    method: Method,
    order: Averaging,
    tol: float,
    max_steps: int,
    bandwidth: float | None,
    quantiles: int | None,
    dead_zones: Sequence[float],
) -> None:
    if order == "sorted" and method != "exact":
        raise InputError(f"averaging='sorted' with method='{method}'", expected="'pooled' or 'each', or method='exact'")
    if not 0 < tol < 1 or max_steps < 1:
        raise InputError(f"tol={tol}, max_steps={max_steps}", expected="0 < tol < 1 and at least one step")
    if bandwidth is not None and not 0 <= bandwidth < math.inf:
        raise InputError(f"a bandwidth of {bandwidth}", expected="a finite number of at least 0")
    if quantiles is not None and quantiles < 1:
        raise InputError(f"quantiles={quantiles}", expected="at least 1")
    if any(not 0 < zone < math.inf for zone in dead_zones):
        raise InputError(f"dead zones {tuple(dead_zones)}", expected="positive numbers")
