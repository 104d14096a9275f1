"""The Kaplan-Yorke dimension: how many directions together still do not shrink volume."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError


def kaplan_yorke(exponents: Any, weights: Any = None, *, allow_singular: bool = False) -> float:
    """The Kaplan-Yorke dimension of ``exponents`` (d,), in any order: a number between 0 and d.

    With the exponents sorted, lambda_1 >= ... >= lambda_d, and S_j the sum of the first j: 0 where lambda_1 < 0; d
    where S_d >= 0; else j + S_j / |lambda_(j+1)| for the last j with S_j >= 0. S is concave, so it is the place where
    S, drawn as a line through its values, comes down to 0.

    ``exponents`` and ``weights`` are a tensor, an array or numbers. ``weights`` (d,) count how many directions share
    an exponent (1 each by default, fractions allowed), as quantiles and densities have it; d is then their sum.

    Raises :class:`InputError` for no exponents, NaN, infinity, or weights that are negative or do not fit. An exponent
    of minus infinity (a singular Jacobian, log 0) is refused unless ``allow_singular``: it then contributes its limit,
    no fraction of a dimension.

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


def crossing(exponents: Float[Tensor, " n"], weights: Float[Tensor, " n"]) -> float:
    """Kaplan-Yorke of exponents in descending order, with weights: where their running sum comes down to 0."""
    present = weights > 0
    exponents, weights = exponents[present], weights[present]
    sums = (exponents * weights).cumsum(0)
    kept = int((sums >= 0).sum())
    if kept == len(sums):
        return float(weights.sum())
    whole, left = (float(weights[:kept].sum()), float(sums[kept - 1])) if kept else (0.0, 0.0)
    return whole + left / abs(float(exponents[kept]))


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
    """What was given as a float64 vector; :class:`InputError` where it is none, or empty."""
    try:
        values = torch.as_tensor(given, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} of type {type(given).__name__}", expected="a vector of real numbers") from error
    if values.ndim != 1:
        raise InputError(f"{what} of shape {tuple(values.shape)}", expected="a vector")
    if not values.numel():
        raise InputError(f"no {what}", expected="at least one")
    return values
