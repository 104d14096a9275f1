"""The values for which a claim is true of a case: a closed interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from edgescope.errors import InputError
from edgescope.statistics.estimate import Estimate

CaseVerdict = Literal["holds", "fails", "open"]

SLACK = 1e-12
"""Relative rounding of a border, such as 1 - 0.95."""


@dataclass(frozen=True)
class Region:
    """All numbers from ``low`` to ``high``, both included; either may be infinite.

    Raises :class:`InputError` for an empty region, for one that holds every number, and for NaN.
    """

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        if not self.low <= self.high or (math.isinf(self.low) and math.isinf(self.high)):
            raise InputError(
                f"a region from {self.low:g} to {self.high:g}", expected="low at most high, at least one of them finite"
            )

    @classmethod
    def around(cls, centre: float, relative: float) -> Region:
        """Within a share of ``centre``: ``Region.around(1, 0.1)`` is from 0.9 to 1.1."""
        reach = abs(centre) * relative
        return cls(centre - reach, centre + reach)

    def judge(self, estimate: Estimate) -> CaseVerdict:
        """``holds`` where the interval lies inside, ``fails`` where it lies outside, ``open`` where it crosses a border
        or is not known."""
        if not estimate.known:
            return "open"
        if self._at_least(estimate.low) and self._at_most(estimate.high):
            return "holds"
        return "open" if self._at_least(estimate.high) and self._at_most(estimate.low) else "fails"

    def distance(self, value: float) -> float:
        """How far a number lies from the nearest border, on whichever side."""
        return min(abs(value - border) for border in (self.low, self.high) if math.isfinite(border))

    def text(self) -> str:
        """The region in words: "at least 0.9", "from 0.9 to 1.1", "exactly 0"."""
        if self.low == self.high:
            return f"exactly {self.low:.6g}"
        if math.isinf(self.low):
            return f"at most {self.high:.6g}"
        return f"at least {self.low:.6g}" if math.isinf(self.high) else f"from {self.low:.6g} to {self.high:.6g}"

    def to_json(self) -> dict[str, float | None]:
        """``low`` and ``high``, None for an infinite one."""
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, values: Any) -> Region:
        """The region that :meth:`to_json` gave."""
        if not isinstance(values, dict):
            raise InputError("a region that is not an object", expected="an object with low and high")
        low, high = values.get("low"), values.get("high")
        return cls(-math.inf if low is None else float(low), math.inf if high is None else float(high))

    def _at_least(self, value: float) -> bool:
        return value >= self.low - (SLACK * abs(self.low) if math.isfinite(self.low) else 0.0)

    def _at_most(self, value: float) -> bool:
        return value <= self.high + (SLACK * abs(self.high) if math.isfinite(self.high) else 0.0)
