"""The generalization bound in terms of the sharpness dimension, term by term."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgescope.options import Check, checked, integer, real

SOURCE = "Tuci et al. 2026, arXiv 2604.19740"


@dataclass(frozen=True)
class GeneralizationBound:
    """``value``, the sum of ``terms``, bounds the largest gap between risk and empirical risk over the attractor.

    All are in the unit of the loss. ``vacuous``: the bound says no more than that the loss lies in [0, B].
    """

    value: float
    terms: dict[str, float]
    vacuous: bool
    formula: str
    source: str = SOURCE


_SHARED: dict[str, Check] = {
    "dimension": real(least=0),
    "n": integer(1),
    "delta": real(above=0, below=1),
    "lipschitz": real(least=0),
    "bound": real(above=0),
}


@checked(**_SHARED, information=real(least=0), zeta=real(above=0, below=1), constant=real(least=0))
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
    delta(n, gamma) is given in the paper, so that the value serves for comparisons, term by term, not as a certificate.

    Raises :class:`InputError` for arguments outside their range.
    """
    complexity = math.sqrt(4 * dimension * math.log(1 / delta))
    terms = {
        "covering": 2 * lipschitz * delta,
        "dimension": 2 * bound * complexity / math.sqrt(n),
        "information": information / math.sqrt(n),
        "confidence": math.log(1 / zeta) / math.sqrt(n),
        "constant": constant * bound**2 / math.sqrt(n),
    }
    return _bound(terms, bound, "2Kδ + 2B√(4 dim ln(1/δ)/n) + (I + ln(1/ζ))/√n + CB²/√n")


@checked(**_SHARED, stability=real(least=0))
def stability_bound(
    dimension: float, n: int, *, delta: float, lipschitz: float, bound: float, stability: float
) -> GeneralizationBound:
    """The paper's bound in expectation, with random-set stability beta_n = ``stability`` in place of the information.

    2 [B/n + delta K + beta^(1/3) (1 + B sqrt(4 dim ln(1/delta)))], with the symbols of :func:`dimension_bound`.
    """
    complexity = math.sqrt(4 * dimension * math.log(1 / delta))
    root = stability ** (1 / 3)
    terms = {
        "samples": 2 * bound / n,
        "covering": 2 * lipschitz * delta,
        "stability": 2 * root,
        "dimension": 2 * root * bound * complexity,
    }
    return _bound(terms, bound, "2[B/n + δK + β^(1/3)(1 + B√(4 dim ln(1/δ)))]")


def _bound(terms: dict[str, float], bound: float, formula: str) -> GeneralizationBound:
    value = sum(terms.values())
    return GeneralizationBound(value, terms, value >= bound, formula)
