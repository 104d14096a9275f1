"""The trace of an operator from few products, with a standard error."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.linalg.basis import check_memory
from edgescope.linalg.operator import Operator, as_operator


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
    rest. An operator no larger than 3 ``probes`` is summed exactly. Holds 2 ``probes`` vectors of length P.

    Raises :class:`InputError` for fewer than two probes (one has no standard error).
    Source: Meyer, Musco, Musco and Woodruff, Hutch++: Optimal Stochastic Trace Estimation, 2021, Algorithm 1.
    """
    began = time.perf_counter()
    if probes < 2 or block < 1:
        raise InputError(f"probes={probes}, block={block}", expected="at least 2 probes and a block of at least 1")
    operator = as_operator(thing)
    before = operator.products
    if operator.size <= 3 * probes:
        everything = torch.eye(operator.size, dtype=operator.dtype, device=operator.device)
        value, error = float(_forms(operator, everything, block).sum()), 0.0
    else:
        check_memory(3 * probes, operator)
        generator = torch.Generator().manual_seed(seed)
        sketch = rademacher(operator, probes, generator)
        for columns in sketch.split(block, dim=1):
            columns.copy_(operator @ columns)
        heavy = torch.linalg.qr(sketch).Q
        rest = rademacher(operator, probes, generator)
        rest -= heavy @ (heavy.T @ rest)
        samples = _forms(operator, rest, block)
        value = float(_forms(operator, heavy, block).sum() + samples.mean())
        error = float(samples.std() / probes**0.5)
    spent = operator.products - before
    return TraceEstimate(
        value=value,
        standard_error=error,
        products=spent,
        cost=Cost(products=spent),
        seconds=time.perf_counter() - began,
        method="exact" if operator.size <= 3 * probes else "hutch++",
    )


def rademacher(operator: Operator, count: int, generator: torch.Generator) -> Float[Tensor, "P count"]:
    """Random signs, the same on every device for the same generator."""
    signs = torch.randint(0, 2, (count, operator.size), generator=generator, dtype=torch.int8)
    return (2 * signs - 1).to(device=operator.device, dtype=operator.dtype).T


def _forms(operator: Operator, block: Float[Tensor, "P j"], width: int) -> Float[Tensor, " j"]:
    """v^T H v for each column, in float64."""
    return torch.cat([(part.double() * (operator @ part)).sum(0).cpu() for part in block.split(width, dim=1)])
