"""Times of escape, some of them cut off: their mean, the shape of their distribution, and how they rise with 1/T."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import CensoredData, chi2, ecdf

from edgescope.errors import InputError
from edgescope.theory.arguments import Numbers, as_numbers, as_positive

LEVEL = 0.95
"""Coverage of all intervals."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class EscapeTimes:
    """How long each of n replicas took, or was watched in vain where ``escaped`` is False.

    Raises :class:`InputError` for times that are not positive.
    """

    times: Float[np.ndarray, " n"]
    escaped: Bool[np.ndarray, " n"]

    def __post_init__(self) -> None:
        times, escaped = as_positive(self.times, "times"), np.asarray(self.escaped, dtype=bool)
        if times.size == 0:
            raise InputError("no times of escape", expected="at least one replica")
        if times.ndim != 1 or times.shape != escaped.shape:
            raise InputError(f"{times.shape} times and {escaped.shape} marks of escape", expected="one each")
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "escaped", escaped)

    @property
    def escapes(self) -> int:
        """How many escaped."""
        return int(self.escaped.sum())

    @property
    def total(self) -> float:
        """The time that all replicas together were watched."""
        return float(self.times.sum())

    def rate_below(self) -> float:
        """The escape rate that lies above the true one with 95%, whatever the number of escapes: 3/total for none."""
        return float(chi2.ppf(LEVEL, 2 * self.escapes + 2) / (2 * self.total))

    def mean(self) -> Estimate:
        """The mean time of an exponential law, total time over escapes, with Garwood's interval for their number."""
        self._two()
        tail = (1 - LEVEL) / 2
        low, high = (
            2 * self.total / chi2.ppf(p, f) for p, f in ((1 - tail, 2 * self.escapes + 2), (tail, 2 * self.escapes))
        )
        return Estimate(self.total / self.escapes, float(low), float(high))

    def shape(self) -> Estimate:
        """The exponent k of a Weibull law exp(-(t/scale)^k), by censored likelihood: 1 is exponential, without memory.

        Above 1 escapes become likelier as time passes (a lag before the first), below 1 rarer.
        """
        self._two()
        t = self.times / self.times.max()
        logs = float(np.log(t[self.escaped]).sum())

        def likelihood(log_k: float) -> float:
            k, n = math.exp(log_k), self.escapes
            return n * log_k + (k - 1) * logs - n * math.log(float((t**k).sum()) / n) - n

        found = _profiled(likelihood, (-3.0, 3.0))
        return Estimate(*(math.exp(v) for v in (found.value, found.low, found.high)))

    def survival(self) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Times of escapes in order, and the share that is still trapped after each (Kaplan and Meier 1958)."""
        self._two()
        curve = ecdf(CensoredData(uncensored=self.times[self.escaped], right=self.times[~self.escaped])).sf
        return curve.quantiles, curve.probabilities

    def _two(self) -> None:
        if self.escapes < 2:
            raise InputError(
                f"{self.escapes} of {len(self.times)} replicas escaped",
                expected="at least 2, since one gives no interval",
                hint="longer runs, a higher temperature, or rate_below()",
            )


def arrhenius(inverse_temperatures: Numbers, groups: Sequence[EscapeTimes]) -> Estimate:
    """The slope of ln(mean time) over ``inverse_temperatures``, one for each group: the effective barrier.

    Maximum likelihood of exponential times whose logarithm of the mean is a straight line; a group without escapes
    counts with the time that it was watched. The interval is that of the profile likelihood (95%). Also for batch/lr
    in the place of 1/T. Raises :class:`InputError` for fewer than two escapes or two different temperatures.
    """
    x = as_numbers(inverse_temperatures, "inverse temperatures")
    if x.ndim != 1 or len(x) != len(groups) or len(set(x.tolist())) < 2:
        raise InputError(
            f"{x.size} temperatures for {len(groups)} groups", expected="one each, at least two different ones"
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
    return Estimate(found.value / reach, found.low / reach, found.high / reach)


def _profiled(likelihood: Callable[[float], float], bounds: tuple[float, float]) -> Estimate:
    """Where a concave log likelihood is highest, and where it has fallen by half of chi2's 95% quantile."""
    best = float(minimize_scalar(lambda v: -likelihood(v), bounds=bounds, method="bounded", options={"xatol": 1e-10}).x)
    drop = likelihood(best) - float(chi2.ppf(LEVEL, 1)) / 2

    def end(far: float) -> float:
        above = likelihood(far) - drop
        return far if above >= 0 else float(brentq(lambda v: likelihood(v) - drop, best, far))

    return Estimate(best, end(bounds[0]), end(bounds[1]))
