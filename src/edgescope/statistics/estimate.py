"""A number with its 95% interval, and what the interval comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgescope.errors import InputError
from edgescope.notebooks import in_notebooks

CERTAIN = 10.0
"""Times the error of a measurement that a single value has to lie from a border to be on one side of it."""


@in_notebooks
@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval; both ends are NaN where there is no way to an interval.

    ``samples`` is how many independent samples the interval comes from (effective ones for a time series), 0 where
    that means nothing, and ``sampled`` what they are, in the plural ("seeds", "steps"), so that a reader can be told
    how many more would decide something.

    Raises :class:`InputError` for an interval that does not contain the value, and for one with a single end.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    samples: float = 0.0
    sampled: str = ""

    def __post_init__(self) -> None:
        for name in ("value", "low", "high", "samples"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if math.isnan(self.low) != math.isnan(self.high):
            raise InputError(f"an interval from {self.low:g} to {self.high:g}", expected="both ends, or neither")
        if not math.isnan(self.value) and not math.isnan(self.low) and not self.low <= self.value <= self.high:
            raise InputError(
                f"an estimate of {self.value:g} with an interval from {self.low:g} to {self.high:g}",
                expected="an interval around the value",
            )

    @classmethod
    def exact(cls, value: float) -> Estimate:
        """A value without sampling error: one that was computed, or a property of the very runs that it speaks of."""
        return cls(value, value, value)

    @classmethod
    def single(cls, value: float, error: float) -> Estimate:
        """One measurement with an ``error`` of its own: the interval is ten times as wide, in place of one over runs.

        What a single run says about others is not known. A value that is further than ten errors from a border is
        taken to be on its side of it; nearer ones decide nothing.
        """
        reach = CERTAIN * abs(error)
        return cls(value, value - reach, value + reach)

    @property
    def known(self) -> bool:
        """Whether there is a value with an interval."""
        return not math.isnan(self.value) and not math.isnan(self.low)

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    def scaled(self, factor: float) -> Estimate:
        """This estimate in another unit, ``factor`` times as large a number."""
        ends = (self.low * factor, self.high * factor)
        return Estimate(self.value * factor, min(ends), max(ends), self.samples, self.sampled)


UNKNOWN = Estimate(math.nan)
"""What could not be measured."""
