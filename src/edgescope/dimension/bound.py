"""The generalization bound that the sharpness dimension enters, term by term."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgescope.errors import InputError

SOURCE = "Tuci et al. 2026, arXiv 2604.19740"


@dataclass(frozen=True)
class GeneralizationBound:
    """``value`` bounds the worst gap between risk and empirical risk over the attractor; it is the sum of ``terms``.

    All in the unit of the loss. ``vacuous`` where it says no more than that the loss lies in [0, B].
    """

    value: float
    terms: dict[str, float]
    vacuous: bool
    formula: str
    source: str = SOURCE


def dimension_bound(
    dimension: float,
    n: int,
    *,
    delta: float,
    lipschitz: float,
    bound: float,
    information: float,
    zeta: float,
    constant: float,
) -> GeneralizationBound:
    """The bound of the paper's theorem, with probability 1 - zeta - gamma, for delta below some delta(n, gamma).

    2 K delta + 2 B sqrt(4 dim ln(1/delta) / n) + (I + ln(1/zeta)) / sqrt(n) + C B^2 / sqrt(n), with ``dimension`` the
    sharpness dimension, ``n`` samples, a loss in [0, B = ``bound``] that is K = ``lipschitz``, the total mutual
    information I = ``information`` between attractor and data (nats), and C = ``constant``. Neither C nor
    delta(n, gamma) is given by the paper, so the value is for comparing, term by term, not a certificate.

    Raises :class:`InputError` for arguments outside their range.
    """
    complexity = _complexity(dimension, n, delta=delta, lipschitz=lipschitz, bound=bound)
    _check("information", information, information >= 0, "at least 0")
    _check("zeta", zeta, 0 < zeta < 1, "between 0 and 1")
    _check("constant", constant, constant >= 0, "at least 0")
    terms = {
        "covering": 2 * lipschitz * delta,
        "dimension": 2 * bound * complexity / math.sqrt(n),
        "information": information / math.sqrt(n),
        "confidence": math.log(1 / zeta) / math.sqrt(n),
        "constant": constant * bound**2 / math.sqrt(n),
    }
    return _bound(terms, bound, "2Kδ + 2B√(4 dim ln(1/δ)/n) + (I + ln(1/ζ))/√n + CB²/√n")


def stability_bound(
    dimension: float, n: int, *, delta: float, lipschitz: float, bound: float, stability: float
) -> GeneralizationBound:
    """The paper's bound in expectation, where random-set stability beta_n = ``stability`` stands for the information.

    2 [B/n + delta K + beta^(1/3) (1 + B sqrt(4 dim ln(1/delta)))]; the rest as in :func:`dimension_bound`.
    """
    complexity = _complexity(dimension, n, delta=delta, lipschitz=lipschitz, bound=bound)
    _check("stability", stability, stability >= 0, "at least 0")
    root = stability ** (1 / 3)
    terms = {
        "samples": 2 * bound / n,
        "covering": 2 * lipschitz * delta,
        "stability": 2 * root,
        "dimension": 2 * root * bound * complexity,
    }
    return _bound(terms, bound, "2[B/n + δK + β^(1/3)(1 + B√(4 dim ln(1/δ)))]")


def _complexity(dimension: float, n: int, *, delta: float, lipschitz: float, bound: float) -> float:
    _check("dimension", dimension, dimension >= 0, "at least 0")
    _check("n", n, n >= 1, "at least 1 sample")
    _check("delta", delta, 0 < delta < 1, "between 0 and 1")
    _check("lipschitz", lipschitz, lipschitz >= 0, "at least 0")
    _check("bound", bound, bound > 0, "more than 0")
    return math.sqrt(4 * dimension * math.log(1 / delta))


def _check(name: str, value: float, fits: bool, expected: str) -> None:
    if not (math.isfinite(value) and fits):
        raise InputError(f"{name}={value}", expected=f"a finite number, {expected}")


def _bound(terms: dict[str, float], bound: float, formula: str) -> GeneralizationBound:
    value = sum(terms.values())
    return GeneralizationBound(value, terms, value >= bound, formula)
