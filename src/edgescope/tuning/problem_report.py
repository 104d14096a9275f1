"""The report of all checks of a problem: rows of data, from which tables, JSON and exit codes are made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from edgescope.errors import EdgescopeError

Area = Literal["model", "loss", "data", "optimizer"]
Status = Literal["ok", "handled", "caution", "refused", "not checked"]


@dataclass(frozen=True)
class CheckRow:
    """One check: what it is of, its name, how it ended, what was found, and what to do about it (empty: nothing).

    "handled": it needs care, which is taken. "caution": figures may mean something else than expected. "refused":
    nothing can be measured, or not this. "not checked": something before it was refused.
    """

    area: Area
    check: str
    status: Status
    finding: str
    remedy: str = ""

    @classmethod
    def refused(cls, area: Area, check: str, error: EdgescopeError) -> CheckRow:
        """The row of an error."""
        remedy = error.hint or (f"expected {error.expected}" if error.expected else "")
        return cls(area, check, "refused", error.what, remedy)


@dataclass(frozen=True)
class MeasureRow:
    """What one measure is expected to take: seconds of a reading along a run and of the first one, and peak bytes.

    ``status`` is "ok", "in a run" for measures that need steps of training, or "refused", which ``finding`` and
    ``remedy`` explain; seconds and bytes of refused ones are 0.
    """

    measure: str
    status: Literal["ok", "in a run", "refused"]
    gradients: float = 0.0
    seconds: float = 0.0
    first_seconds: float = 0.0
    bytes: int = 0
    finding: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class ProblemReport:
    """All checks of a model, its loss, its data and its optimizer, and the forecast of each measure.

    ``gradient_seconds`` is what one gradient over all data took, 0 where none could be taken.
    """

    rows: tuple[CheckRow, ...]
    measures: tuple[MeasureRow, ...]
    parameters: int = 0
    samples: int = 0
    gradient_seconds: float = 0.0
    mode: str | None = None

    @property
    def usable(self) -> bool:
        """Whether something can be measured: no check of model, loss or data was refused."""
        return not any(row.status == "refused" and row.area != "optimizer" for row in self.rows)

    @property
    def refused(self) -> tuple[CheckRow, ...]:
        """The checks that were refused."""
        return tuple(row for row in self.rows if row.status == "refused")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self) | {"usable": self.usable}
