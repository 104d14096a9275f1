"""Escape times, some of them censored: their mean, the shape of their distribution, and their growth with 1/T."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Float

from edgescope.errors import InputError
from edgescope.short_errors import short_errors
from edgescope.statistics import Estimate
from edgescope.theory.arguments import Numbers, as_numbers, as_positive

LEVEL = 0.95
"""Coverage of all intervals."""


@short_errors
@dataclass(frozen=True, eq=False)
class EscapeTimes:
    """The escape times of n replicas, in the unit of the caller.

    Where ``escaped`` is False a replica had not escaped at its time, when the observation ended (a censored time).
    Raises :class:`InputError` for times that are not positive, and for numbers of times and of marks that differ.
    """

    times: Float[np.ndarray, " n"]
    escaped: Bool[np.ndarray, " n"]

    def __post_init__(self) -> None:
        times, escaped = as_positive(self.times, "times"), _as_marks(self.escaped)
        if times.size == 0:
            raise InputError("no escape times", expected="at least one replica")
        if times.ndim != 1 or times.shape != escaped.shape:
            raise InputError(
                f"times of shape {times.shape} and escaped of shape {escaped.shape}",
                expected="vectors of equal length, one entry for each replica",
            )
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "escaped", escaped)

    @property
    def escapes(self) -> int:
        """The number of replicas that escaped."""
        return int(self.escaped.sum())

    @property
    def total(self) -> float:
        """The total time for which replicas were observed before they escaped."""
        return float(self.times.sum())

    def rate_below(self) -> float:
        """An upper 95% confidence limit of the escape rate, for any number of escapes: 3/total where there are none."""
        return float(scipy.stats.chi2.ppf(LEVEL, 2 * self.escapes + 2) / (2 * self.total))

    def mean(self) -> Estimate:
        """The mean of an exponential distribution: total time over escapes, with Garwood's interval for their number.

        In the unit of the times. Raises :class:`InputError` for fewer than two escapes.
        """
        self._require_two()
        tail = (1 - LEVEL) / 2
        low, high = (
            2 * self.total / scipy.stats.chi2.ppf(p, f)
            for p, f in ((1 - tail, 2 * self.escapes + 2), (tail, 2 * self.escapes))
        )
        return Estimate(self.total / self.escapes, float(low), float(high), self.escapes, "escapes")

    def shape(self) -> Estimate:
        """The exponent k of a Weibull distribution with survival exp(-(t/scale)^k), by censored maximum likelihood.

        1 is the exponential distribution, whose escapes have no memory. Above 1 escapes become more likely as time
        passes (there is a lag before the first), below 1 less likely. Raises :class:`InputError` for fewer than two
        escapes.
        """
        self._require_two()
        t = self.times / self.times.max()
        logs = float(np.log(t[self.escaped]).sum())

        def likelihood(log_k: float) -> float:
            k, n = math.exp(log_k), self.escapes
            return n * log_k + (k - 1) * logs - n * math.log(float((t**k).sum()) / n) - n

        found = _profiled(likelihood, (-3.0, 3.0))
        value, low, high = (math.exp(v) for v in (found.value, found.low, found.high))
        return Estimate(value, low, high, self.escapes, "escapes")

    def survival(self) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """The escape times in order, and the fraction that has not escaped after each (Kaplan and Meier 1958)."""
        self._require_two()
        curve = scipy.stats.ecdf(
            scipy.stats.CensoredData(uncensored=self.times[self.escaped], right=self.times[~self.escaped])
        ).sf
        return curve.quantiles, curve.probabilities

    def _require_two(self) -> None:
        if self.escapes < 2:
            raise InputError(
                f"{self.escapes} of {len(self.times)} replicas escaped",
                expected="at least 2, since one gives no interval",
                hint="longer runs, a higher temperature, or rate_below()",
            )


def _as_marks(escaped: object) -> Bool[np.ndarray, ...]:
    marks = np.asarray(escaped)
    if marks.dtype.kind != "b" and not (marks.dtype.kind in "iuf" and np.isin(marks, (0, 1)).all()):
        raise InputError(f"escaped with entries of {marks.dtype}", expected="True or False for each replica")
    return marks.astype(bool)


@short_errors
def arrhenius(inverse_temperatures: Numbers, groups: Sequence[EscapeTimes]) -> Estimate:
    """The slope of ln(mean escape time) against 1/T: the effective barrier, in the unit of the temperature.

    Args:
        inverse_temperatures: 1/T for each group, at least two different ones; or, for SGD noise, batch size over
            learning rate.
        groups: the escape times at each temperature. A group without escapes counts with its observation time.

    The maximum-likelihood estimate for exponential times whose mean has a logarithm linear in 1/T, with the 95%
    interval of the profile likelihood. Raises :class:`InputError` for fewer than two escapes or two temperatures.
    """
    if not isinstance(groups, Sequence) or not all(isinstance(group, EscapeTimes) for group in groups):
        raise InputError(f"groups of type {type(groups).__name__}", expected="a list of EscapeTimes")
    x = as_numbers(inverse_temperatures, "inverse temperatures")
    if x.ndim != 1 or len(x) != len(groups) or len(set(x.tolist())) < 2:
        raise InputError(
            f"{x.size} temperatures for {len(groups)} groups",
            expected="one for each group, at least two different ones",
        )
    total, escapes = np.array([g.total for g in groups]), np.array([g.escapes for g in groups])
    if escapes.sum() < 2 or (escapes > 0).sum() < 2:
        raise InputError(
            f"{escapes.sum()} escapes at {(escapes > 0).sum()} temperatures",
            expected="at least 2, at two temperatures or more",
            hint="longer runs, or higher temperatures",
        )
    middle, reach = float(x.mean()), float(np.ptp(x))
    z = (x - middle) / reach

    def likelihood(slope: float) -> float:
        with np.errstate(over="ignore"):
            return float(-slope * (escapes * z).sum() - escapes.sum() * np.log((total * np.exp(-slope * z)).sum()))

    found = _profiled(likelihood, (-60.0, 60.0))
    return Estimate(found.value / reach, found.low / reach, found.high / reach, float(escapes.sum()), "escapes")


def _profiled(likelihood: Callable[[float], float], bounds: tuple[float, float]) -> Estimate:
    """The maximum of a concave log-likelihood, and where it has fallen by half of chi2's 95% quantile."""
    best = float(
        scipy.optimize.minimize_scalar(
            lambda v: -likelihood(v), bounds=bounds, method="bounded", options={"xatol": 1e-10}
        ).x
    )
    drop = likelihood(best) - float(scipy.stats.chi2.ppf(LEVEL, 1)) / 2

    def end(far: float) -> float:
        above = likelihood(far) - drop
        return far if above >= 0 else float(scipy.optimize.brentq(lambda v: likelihood(v) - drop, best, far))

    return Estimate(best, end(bounds[0]), end(bounds[1]))
