"""The sharpness dimension: the Kaplan-Yorke formula on the exponents of one optimizer step, over mini-batches."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from jaxtyping import Float
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.cost import Cost
from edgescope.dimension.formula import Averaging, DeadZone, Unit, fitted
from edgescope.dimension.options import DimensionOptions, Method
from edgescope.dimension.sampling import all_nodes, sampled_nodes
from edgescope.dimension.sources import SourceLike, sources
from edgescope.dimension.steps import OptimizerStep, step_of
from edgescope.dimension.uncertainty import contraction_error, uncertainty
from edgescope.errors import InputError
from edgescope.notebooks import in_notebooks
from edgescope.optim.unwrap import OptimizerLike
from edgescope.options import check_choice, type_of
from edgescope.short_errors import short_errors


@in_notebooks
@dataclass(frozen=True)
class SharpnessDimension:
    """The sharpness dimension, with its error and the exponents that it is computed from.

    ``dimension``, ``deficit`` and all errors are in directions (numbers of dimensions), of ``size`` in all.
    ``exponents`` (n,) are in descending order, per step, and ``directions`` (n,) is the number of directions that share
    each: all 1 when exact; they sum to ``size``. ``order`` is the number of whole directions, ``deficit`` is ``size``
    minus dimension, ``ratio`` dimension over ``size``, and ``sharpness`` the largest exponent (the RDS sharpness of
    order 1). ``contraction`` is the sum of all exponents, the rate at which a step changes volumes, with its standard
    error ``contraction_error``; the quadrature estimates it without bias at any depth.

    ``error`` is one standard error of the dimension, combined from five parts:

    - ``standard_error``: of the sampling. For one objective it is over random vectors, from the variance that the nodes
      imply (0 when exact). Over mini-batches it is a jackknife times Student's t for 68.3% (infinite for a single one).
    - ``drift``: the change of the dimension in the last doubling of the Lanczos depth, or, where larger,
      ``resolution``, its change when the weight of each node is spread over its residual. Too few steps bias the
      dimension, mostly towards low values, by more than the scatter over random vectors shows. Both are 0 when exact.
    - ``bias``: the effect of the smoothing of "kde" and "ps", or of averaging over single random vectors.
    - ``rounding``: the effect of the precision of the products. For one exact objective this is the only part.

    Over 200 small networks one, two and three errors covered at least 81, 96 and 99% (nominally 68.3, 95.4 and 99.7%).
    ``converged`` says whether drift and resolution are within the tolerance.

    ``by_averaging`` is the dimension for each order of averaging that the method allows. ``dead_zones`` are the
    dimensions when tiny exponents count as 0. ``precision`` and ``mode`` are those of the products and of the model
    ("" and None where not known). ``batches``, ``probes`` and ``steps`` are the numbers of mini-batches, of random
    vectors for each, and of Lanczos steps (0 when exact).
    """

    dimension: float
    standard_error: float
    drift: float
    resolution: float
    bias: float
    rounding: float
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
    mode: str | None = None

    @property
    def order(self) -> int:
        """The number of whole directions: the integer part of the dimension."""
        return math.floor(self.dimension)

    @property
    def deficit(self) -> float:
        """The number of directions by which the dimension is less than ``size``."""
        return self.size - self.dimension

    @property
    def ratio(self) -> float:
        """The dimension as a fraction of ``size``."""
        return self.dimension / self.size

    @property
    def sharpness(self) -> float:
        """The largest exponent, per step: the RDS sharpness of order 1."""
        return float(self.exponents[0])

    @property
    def error(self) -> float:
        """One standard error of the dimension, in directions, from all five parts."""
        depth = max(abs(self.drift), self.resolution)
        return math.hypot(self.standard_error, depth, self.bias, self.rounding)


@short_errors
@in_plain_arithmetic
def sharpness_dimension(
    source: SourceLike | Iterable[SourceLike],
    lr: float | None = None,
    *,
    optimizer: OptimizerLike | None = None,
    options: DimensionOptions | None = None,
    **settings: Any,
) -> SharpnessDimension:
    """The sharpness dimension at the present parameters: of all data, or averaged over mini-batches.

    Args:
        source: an Objective; an operator or symmetric matrix (a Hessian); the Spectrum of one, which gives the
            dimension for another learning rate or estimator without further products (the options ``probes`` to
            ``deflate`` then do not apply); or an iterable of these, one for each mini-batch.
        lr: learning rate of gradient descent, whose Jacobian I - lr H the paper uses for every optimizer.
        optimizer: a live torch optimizer, instead of ``lr``: the Jacobian is that of its own next step, with momentum,
            preconditioner and weight decay, on parameters and state vectors together; with method="exact" only. Its
            singular values depend on the units of the state vectors; Lyapunov exponents do not.
        options: a :class:`DimensionOptions`: method, averaging, mini-batches, random vectors, Lanczos steps.
        settings: the fields of :class:`DimensionOptions` as keyword arguments, such as ``method="slq", probes=8``; they
            replace those of ``options``.

    Cost: exact, P products for each mini-batch (P (1 + state vectors) with an optimizer) and about 30 P^2 bytes of
    memory; by quadrature, ``probes * steps`` products for each mini-batch.

    Raises :class:`InputError` for arguments that cannot be used and for a singular Jacobian, :class:`NotKnownError` for
    an optimizer without a known rule, :class:`MemoryBudgetError` where it does not fit.
    Source: Tuci et al. 2026, arXiv 2604.19740. As in their estimators, the supremum over the attractor is omitted.
    """
    began = time.perf_counter()
    options = _gathered(options, settings)
    step = step_of(lr, optimizer)
    members = sources(
        source, batch_size=options.batch_size, batches=options.batches, seed=options.seed, dtype=options.dtype
    )
    if options.method == "exact":
        found = all_nodes(members, step)
    elif isinstance(step, OptimizerStep):
        raise InputError(f"optimizer= with method='{options.method}'", expected="method='exact'")
    else:

        def dimension_of(size: int, units: Sequence[Unit]) -> float:
            formula = fitted(step.exponent, options.estimator, size, units, options.bandwidth, options.quantiles)
            return formula.dimension(units, "pooled")

        found = sampled_nodes(members, step, options, dimension_of)
    formula = fitted(step.exponent, options.estimator, found.size, found.units, options.bandwidth, options.quantiles)
    order = options.order
    parts = uncertainty(formula, order, found.units, found.coarse, drawn=members.drawn, rounding=found.rounding)
    allowed = [one for one in get_args(Averaging) if options.method == "exact" or one != "sorted"]
    exponents, directions = formula.parts(found.units, order if order != "each" else allowed[0])
    return SharpnessDimension(
        dimension=formula.dimension(found.units, order),
        standard_error=parts.standard_error,
        drift=parts.drift,
        resolution=parts.resolution,
        bias=parts.bias,
        rounding=parts.rounding,
        converged=max(abs(parts.drift), parts.resolution) <= options.tol * found.size,
        exponents=exponents,
        directions=directions,
        size=found.size,
        contraction=formula.contraction(found.units),
        contraction_error=contraction_error(formula, found.units, found.coarse, drawn=members.drawn),
        by_averaging={one: formula.dimension(found.units, one) for one in allowed},
        dead_zones=tuple(formula.in_dead_zone(zone, found.units, order) for zone in options.dead_zones),
        method=options.method,
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
        mode=members.mode,
    )


def _gathered(options: DimensionOptions | None, settings: dict[str, Any]) -> DimensionOptions:
    """The options with the keyword arguments in place of their fields, or an error that names the nearest option."""
    if options is not None and not isinstance(options, DimensionOptions):
        raise InputError(f"options given as {type_of(options)}", expected="a DimensionOptions")
    known = [field.name for field in dataclasses.fields(DimensionOptions)]
    for name in settings:
        check_choice("sharpness_dimension", "option", name, known=known)
    return dataclasses.replace(options or DimensionOptions(), **settings)
