"""Where a function that falls at 0 first exceeds its value there: a safeguarded search from few evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

FAR = 4.0  # times the last point known: beyond, a parabola is an extrapolation that a better start replaces
GROWTH = 4.0  # by which steps grow where nothing says how far to go
PATIENCE = 3  # points inside of a bracket before it is halved at every second one
LIMIT = 60  # evaluations at most


@dataclass(frozen=True)
class Rise:
    """The first rise lies between ``low``, where there is none, and ``high``, where there is; inf: none was found.

    ``root`` is the interpolated place, ``slope`` the derivative of the function there, infinite where ``high`` is not
    a finite value. ``losses`` are the values by place, without that at 0.
    """

    low: float
    high: float
    root: float
    slope: float
    losses: dict[float, float]
    note: str = ""


def first_rise(
    value_at: Callable[[float], float],
    before: float,
    slope: float,
    noise: float,
    at_1: float | None = None,
    *,
    start: float | None = None,
    tol: float = 1 / 16,
    most: float = 64.0,
) -> Rise:
    """The first s > 0 with ``value_at(s) > before``, for a function with the value ``before`` and ``slope`` < 0 at 0.

    Regula falsi on (value_at(s) - before)/s, which is a straight line for a parabola, until low and high differ by at
    most ``tol`` of high. ``at_1`` is the value at 1, if known; what it shows is not used where the change expected
    there is within some ``noise`` of values. Nothing beyond ``most`` is tried.
    """
    search = _Search(value_at, before, slope, start, tol, most)
    if at_1 is not None:
        search.losses[1.0] = at_1
    elif -slope > noise or start is None:
        search.losses[1.0] = value_at(1.0)
    first = search.losses.get(1.0)
    if first is not None and (-slope > noise or not math.isfinite(first)):
        search.learn(1.0, first)
    least = noise / (tol * -slope)  # where a change to first order stands out of the noise
    for count in range(LIMIT):
        if math.isinf(search.high):
            if search.low >= most:
                break
            place = min(search.outward(least), most)
        elif search.high - search.low <= tol * search.high * (1 + 1e-12):
            break
        else:
            place = search.inward(count)
        search.learn(place, search.evaluate(place))
    return search.found()


class _Search:
    def __init__(
        self,
        value_at: Callable[[float], float],
        before: float,
        slope: float,
        start: float | None,
        tol: float,
        most: float,
    ) -> None:
        self.value_at, self.before, self.slope = value_at, before, slope
        self.start, self.tol, self.most = start, tol, most
        self.low, self.at_low = 0.0, slope  # mean slopes from 0, which at 0 is the slope
        self.high, self.at_high = math.inf, math.nan
        self.before_low = (0.0, slope)
        self.inside = 0
        self.losses: dict[float, float] = {}

    def evaluate(self, place: float) -> float:
        self.losses[place] = value = self.value_at(place)
        return value

    def learn(self, place: float, value: float) -> None:
        """A value that is not finite is a rise."""
        mean = (value - self.before) / place if math.isfinite(value) else math.inf
        if math.isfinite(self.high):
            self.inside += 1
        if mean > 0:
            self.high, self.at_high = place, mean
        else:
            self.before_low = (self.low, self.at_low)
            self.low, self.at_low = place, mean

    def outward(self, least: float) -> float:
        """The next place where no rise is known: the parabola's root, or the start where that is far or nowhere."""
        nearest = max(self.low, least)
        root = _root(*self.before_low, self.low, self.at_low) if self.low > 0 else math.inf
        if not self.low < root < FAR * self.low:
            if self.start is not None and self.start > nearest:
                return self.start
            if self.low == 0:
                return max(1.0, least)
            root = GROWTH * self.low if math.isinf(root) else root
        beyond = self.low / (1 - self.tol)
        return beyond if root < self.low / (1 - self.tol / 2) else root

    def inward(self, count: int) -> float:
        """The next place inside of a bracket."""
        low, high = self.low, self.high
        if low == 0 and self.start is not None and self.start < high / FAR and not self.inside:
            return self.start
        middle = math.sqrt(low * high) if low > 0 else high / GROWTH
        if math.isinf(self.at_high) or (self.inside > PATIENCE and count % 2):
            return middle
        root = _root(low, self.at_low, high, self.at_high)
        if root > high * (1 - self.tol / 2):
            root = high * (1 - self.tol)
        elif root < low / (1 - self.tol / 2):
            root = low / (1 - self.tol)
        return root if low < root < high else middle

    def found(self) -> Rise:
        low, high = self.low, self.high
        if math.isinf(high):
            return Rise(low, high, math.inf, math.nan, self.losses)
        closed = high - low <= self.tol * high * (1 + 1e-9)
        note = "" if closed else f"the search has stopped between {low:.4g} and {high:.4g} times the step"
        if math.isinf(self.at_high):
            return Rise(low, high, (low + high) / 2, math.inf, self.losses, note)
        root = min(max(_root(low, self.at_low, high, self.at_high), low), high)
        slope = root * (self.at_high - self.at_low) / (high - low)
        return Rise(low, high, root, slope, self.losses, note)


def _root(a: float, at_a: float, b: float, at_b: float) -> float:
    """Where the line through two points is zero; inf where it is nowhere beyond both or is flat."""
    if at_a == at_b:
        return math.inf
    root = a - at_a * (b - a) / (at_b - at_a)
    return root if root >= min(a, b) else math.inf
