"""The Kaplan-Yorke dimension: the largest dimension in which volumes do not shrink."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError
from edgescope.options import check_bool, checked


@checked(allow_singular=check_bool)
def kaplan_yorke(exponents: Any, weights: Any = None, *, allow_singular: bool = False) -> float:
    """The Kaplan-Yorke dimension of ``exponents`` (d,), in any order: a number between 0 and d.

    With the exponents sorted, lambda_1 >= ... >= lambda_d, and S_j the sum of the first j: 0 where lambda_1 < 0; d
    where S_d >= 0; else j + S_j / |lambda_(j+1)| for the last j with S_j >= 0. It is the point at which S, linearly
    interpolated, falls to 0.

    ``exponents`` and ``weights`` are tensors, arrays or sequences of numbers. ``weights`` (d,) are the numbers of
    directions that share each exponent (by default 1; fractions are allowed, as for quantiles and densities); d is then
    their sum.

    Raises :class:`InputError` for no exponents, for NaN and infinity, and for weights that are negative or not as many.
    An exponent of minus infinity (a singular Jacobian) is refused unless ``allow_singular``; it then adds no fraction
    of a dimension, which is its limit.

    Source: Kaplan and Yorke 1979; Tuci et al. 2026, arXiv 2604.19740, definition of the sharpness dimension.
    """
    values = numbers(exponents, "exponents")
    refuse_exponents(values[values != -math.inf] if allow_singular else values)
    if weights is None:
        counts = torch.ones_like(values)
    else:
        counts = numbers(weights, "weights")
        if counts.shape != values.shape:
            raise InputError(f"{counts.numel()} weights for {values.numel()} exponents", expected="one for each")
        if not bool((torch.isfinite(counts) & (counts >= 0)).all()) or not float(counts.sum()) > 0:
            raise InputError(
                "weights that are negative, not finite, or all zero", expected="how many directions each exponent has"
            )
    ordered, order = values.sort(descending=True)
    return crossing(ordered, counts[order])


def crossing(exponents: Float[Tensor, " n"], weights: Float[Tensor, " n"], level: float = 0.0) -> float:
    """The point at which the running sum of descending exponents, with weights, falls to ``level``.

    Where the sum never reaches the level, the point of its maximum.
    """
    present = weights > 0
    exponents, weights = exponents[present], weights[present]
    sums = (exponents * weights).cumsum(0)
    rising = int((exponents > 0).sum())
    if level > 0 and (not rising or float(sums[rising - 1]) <= level):
        return float(weights[:rising].sum())
    kept = rising + int((sums[rising:] >= level).sum())
    if kept == len(sums):
        return float(weights.sum())
    whole, left = (float(weights[:kept].sum()), float(sums[kept - 1])) if kept else (0.0, 0.0)
    return whole + (left - level) / abs(float(exponents[kept]))


def refuse_exponents(values: Float[Tensor, " n"]) -> None:
    """Raise :class:`InputError` where there are no exponents, or some are not finite."""
    if bool(torch.isnan(values).any()):
        raise InputError(f"{int(torch.isnan(values).sum())} of {values.numel()} exponents are NaN", expected="numbers")
    if bool((values == math.inf).any()):
        raise InputError("an exponent is infinite", expected="finite exponents", hint="checking that the run converged")
    if bool((values == -math.inf).any()):
        raise InputError(
            f"{int((values == -math.inf).sum())} of {values.numel()} exponents are -inf, the logarithm of 0",
            expected="a Jacobian that is not singular",
            hint="a slightly different learning rate, or allow_singular=True",
        )


def numbers(given: Any, what: str) -> Float[Tensor, " n"]:
    """``given`` as a float64 vector. Raises :class:`InputError` where it is not a vector of numbers, or empty."""
    try:
        values = torch.as_tensor(given, dtype=torch.float64, device="cpu").detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} of type {type(given).__name__}", expected="a vector of real numbers") from error
    if values.ndim != 1:
        raise InputError(f"{what} of shape {tuple(values.shape)}", expected="a vector")
    if not values.numel():
        raise InputError(f"no {what}", expected="at least one")
    return values
