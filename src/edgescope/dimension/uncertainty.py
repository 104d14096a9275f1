"""The error of a dimension: probes, Lanczos depth, smoothing and rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from edgescope.dimension.formula import Averaging, Formula, Unit, jackknife, pooled
from edgescope.dimension.kaplan_yorke import crossing
from edgescope.linalg.nodes import Nodes, variance_over_probes


@dataclass(frozen=True)
class Uncertainty:
    """The parts of the error of a dimension, in directions; see :class:`~edgescope.dimension.SharpnessDimension`."""

    standard_error: float
    drift: float
    resolution: float
    bias: float
    rounding: float


def uncertainty(
    formula: Formula,
    averaging: Averaging,
    units: Sequence[Unit],
    coarse: Sequence[Unit] | None,
    *,
    drawn: bool,
    rounding: float,
) -> Uncertainty:
    """The uncertainty of ``formula.dimension(units, averaging)``.

    ``coarse`` are the units after half the Lanczos steps (None when exact). ``drawn``: the units are mini-batches, not
    probes. ``rounding`` is the possible error of a node due to the precision of the products.
    """
    plain = replace(formula, estimator="slq", bandwidth=0.0)
    dimension, pooled_dimension = formula.dimension(units, averaging), plain.dimension(units, "pooled")
    over_units = 0.0
    if drawn or (averaging == "each" and len(units) > 1):
        over_units = jackknife(lambda some: formula.dimension(some, averaging), units)
    unbiased = plain.dimension(units, averaging) if drawn else pooled_dimension
    shift = rounding / formula.size**0.5  # a common shift that changes the sum as much as independent errors would
    moved = [plain.dimension(_shifted(units, move), "pooled") for move in (-shift, shift)]
    return Uncertainty(
        standard_error=max(over_units, _over_probes(plain, units)),
        drift=formula.drift(units, coarse, averaging),
        resolution=abs(plain.dimension(_spread(units, rounding), "pooled") - pooled_dimension),
        bias=abs(dimension - unbiased),
        rounding=max(abs(one - pooled_dimension) for one in moved),
    )


def contraction_error(formula: Formula, units: Sequence[Unit], coarse: Sequence[Unit] | None, *, drawn: bool) -> float:
    """The standard error of the sum of all exponents, including its drift in Lanczos depth."""
    nodes = pooled(units)
    exponents = formula.exponent(nodes.values)[:, None]
    variance = variance_over_probes(nodes, exponents, formula.size, sum(map(len, units)))
    over_probes = formula.size * float(variance.sqrt())
    over_units = jackknife(formula.contraction, units) if drawn else 0.0
    drift = 0.0 if coarse is None else formula.contraction(units) - formula.contraction(coarse)
    return math.hypot(max(over_probes, over_units), drift)


def _over_probes(formula: Formula, units: Sequence[Unit]) -> float:
    """The standard error due to probes: half the difference between the dimensions for sums one error higher and lower.

    With t the exponent at which the running sum falls to 0, the sum of (exponent + |t|) over all exponents above t is
    a sum over eigenvalues with a known standard error. Divided by |t| it is the error of the dimension, if it is small.
    If not, the interval is asymmetric, or ends at 0 or at all directions; hence the difference.
    """
    nodes = pooled(units)
    exponents, directions = formula.parts(units, "pooled")
    finite = exponents.isfinite()
    exponents, directions = exponents[finite], directions[finite]
    sums = (exponents * directions).cumsum(0)
    last = exponents[min(int((sums >= 0).sum()), len(sums) - 1)]
    lifted = (formula.exponent(nodes.values) + last.abs()).clamp(min=0)[:, None]
    variance = variance_over_probes(nodes, lifted, formula.size, sum(map(len, units)))
    error = formula.size * float(variance.sqrt())
    return (crossing(exponents, directions, -error) - crossing(exponents, directions, error)) / 2


def _shifted(units: Sequence[Unit], move: float) -> list[Unit]:
    return [[nodes._replace(values=nodes.values + move) for nodes in unit] for unit in units]


def _spread(units: Sequence[Unit], least: float) -> list[Unit]:
    """Each node replaced by two with half its weight, above and below it by its spread."""

    def halves(nodes: Nodes) -> Nodes:
        width = nodes.spread.clamp(min=least)
        twice = Nodes(*(torch.cat([piece, piece]) for piece in nodes))
        return twice._replace(values=torch.cat([nodes.values - width, nodes.values + width]), weights=twice.weights / 2)

    return [[halves(nodes) for nodes in unit] for unit in units]
