"""The trace of an operator from few products, with a standard error."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.linalg.basis import check_memory
from edgescope.linalg.operator import Operator, as_operator

Factor = Callable[[Float[Tensor, "P j"], Float[Tensor, "P j"]], Float[Tensor, "P j"]]


@dataclass(frozen=True)
class TraceEstimate:
    """A trace with its standard error over probes (0 where it is exact up to rounding)."""

    value: float
    standard_error: float
    products: int
    cost: Cost
    seconds: float
    method: Literal["exact", "hutch++"]


def trace(thing: Any, *, probes: int = 20, seed: int = 0, block: int = 8) -> TraceEstimate:
    """The trace of an Objective's Hessian, an operator or a symmetric matrix, by Hutch++ with Rademacher probes.

    ``probes`` products find a subspace with most of the operator's weight, ``probes`` give its trace there exactly, and
    ``probes`` sample the rest: 3 ``probes`` in all, in blocks of ``block``. The standard error is that of the sampled
    rest, from the forms of all pairs of probes. An operator no larger than 3 ``probes`` is summed exactly. Holds
    3 ``probes`` vectors of length P.

    Raises :class:`InputError` for fewer than two probes (one has no standard error).
    Source: Meyer, Musco, Musco and Woodruff, Hutch++: Optimal Stochastic Trace Estimation, 2021, Algorithm 1.
    """
    began = time.perf_counter()
    operator = as_operator(thing)
    before = operator.products
    value, error = hutch_plus_plus(operator, lambda columns, _: columns, probes=probes, seed=seed, block=block)
    spent = operator.products - before
    return TraceEstimate(
        value=value,
        standard_error=error,
        products=spent,
        cost=Cost(products=spent),
        seconds=time.perf_counter() - began,
        method="exact" if operator.size <= 3 * probes else "hutch++",
    )


def hutch_plus_plus(operator: Operator, factor: Factor, *, probes: int, seed: int, block: int) -> tuple[float, float]:
    """The trace of a map A that is large where the operator is, and its standard error: :func:`trace` says how.

    ``factor(columns, images)`` gives the U of v_i^T A v_j = u_i^T (H v_j), from the v and their products H v: v itself
    for the operator's own trace. Raises :class:`InputError` for fewer than two probes.
    """
    if probes < 2 or block < 1:
        raise InputError(f"probes={probes}, block={block}", expected="at least 2 probes and a block of at least 1")

    def images(columns: Float[Tensor, "P j"]) -> Float[Tensor, "P j"]:
        return torch.cat([operator @ part for part in columns.split(block, dim=1)], dim=1)

    def forms(columns: Float[Tensor, "P j"], images: Float[Tensor, "P j"]) -> Float[Tensor, " j"]:
        pairs = zip(factor(columns, images).split(block, dim=1), images.split(block, dim=1), strict=True)
        return torch.cat([(u.double() * image).sum(0).cpu() for u, image in pairs])

    if operator.size <= 3 * probes:
        everything = torch.eye(operator.size, dtype=operator.dtype, device=operator.device)
        return float(forms(everything, images(everything)).sum()), 0.0
    check_memory(3 * probes, operator)
    generator = torch.Generator().manual_seed(seed)
    heavy = torch.linalg.qr(images(rademacher(operator, probes, generator))).Q
    found = float(forms(heavy, images(heavy)).sum())
    rest = rademacher(operator, probes, generator)
    rest -= heavy @ (heavy.T @ rest)
    sampled = images(rest)
    # A sample v^T A v has the variance 2 ||A||_F^2, and the squares of v_i^T A v_j have that norm as their mean: there
    # are more of them than samples, and they err less than the scatter of a few samples does.
    cross = (factor(rest, sampled).T @ sampled).double().square().cpu()
    norm = float((cross.sum() - cross.diagonal().sum()) / (probes * (probes - 1)))
    return found + float(forms(rest, sampled).mean()), (2 * norm / probes) ** 0.5


def rademacher(operator: Operator, count: int, generator: torch.Generator) -> Float[Tensor, "P count"]:
    """Random signs, the same on every device for the same generator."""
    signs = torch.randint(0, 2, (count, operator.size), generator=generator, dtype=torch.int8)
    return (2 * signs - 1).to(device=operator.device, dtype=operator.dtype).T
