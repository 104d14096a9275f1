"""What the measurement of one case answers: the judged quantity, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgescope.claims.claim import Row
from edgescope.statistics.estimate import Estimate


@dataclass(frozen=True)
class Measured:
    """What was measured of a case: the judged quantity, others given beside it, and what to know of this case."""

    estimate: Estimate
    beside: Mapping[str, float | Estimate] | tuple[Row, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Open:
    """A case that cannot be decided: why, and what would decide it. ``value`` is shown where there is one."""

    why: str
    needs: str = ""
    value: float = math.nan
    beside: Mapping[str, float | Estimate] | tuple[Row, ...] = ()


Answer = Estimate | Measured | Open | None
"""None: the claim does not speak of this case."""
