"""Gradient descent on one diagonal linear network over learning rates, read from its record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from edgescope.experiments.selection import CaseSelection, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.experiments.tradeoff.diagonal_task import MEASURE, STATUSES


@dataclass(frozen=True, eq=False)
class Descents:
    """One problem: a row a rate (lr, ratio, status and what descent ended with), the flow, the closed forms."""

    table: pl.DataFrame
    flow: dict[str, float]
    theory: dict[str, float]

    @classmethod
    def of(cls, run: StudyRun) -> Descents:
        """Everything is read from the record of the run."""
        wide = run.record.wide(MEASURE)
        table = wide.rename({column: column.removeprefix(f"{MEASURE}/") for column in wide.columns}).with_columns(
            pl.col("status").cast(pl.Int64).replace_strict(dict(enumerate(STATUSES)), return_dtype=pl.String)
        )
        first = run.record.table().filter(step=0).select("measure", "part", "value").rows()
        flow, theory = ({p: v for m, p, v in first if m == name} for name in ("flow", "theory"))
        return cls(table.sort("lr"), flow, theory)

    @property
    def converged(self) -> pl.DataFrame:
        """The rates at which descent converged."""
        return self.table.filter(pl.col("status") == "converged")

    def at(self, ratio: float) -> dict[str, float | str]:
        """The row of a rate; empty where it was not run."""
        rows = self.table.filter((pl.col("ratio") - ratio).abs() < 1e-9)
        return rows.row(0, named=True) if rows.height else {}

    def values(self, column: str, low: float = 0.0, high: float = np.inf) -> np.ndarray:
        """A column of the rates from ``low`` to ``high`` critical ones that converged; one NaN where there is none."""
        rows = self.converged.filter(pl.col("ratio").is_between(low, high))
        return rows[column].to_numpy() if rows.height and column in rows.columns else np.array([np.nan])

    def best(self, risk: str = "risk") -> float:
        """The rate, over the critical one, of the least test error among those that converged; NaN without one."""
        values = self.values(risk)
        return float(self.values("ratio")[np.nanargmin(values)]) if np.isfinite(values).any() else np.nan

    def beyond(self, ratio: float) -> float:
        """How many rates that converged lie between ``ratio`` and the nearer of the critical and the largest rate.

        0 where it is one of these two, or below the critical rate; NaN where it is not known.
        """
        above = self.values("ratio", 1.0)
        return float(min((above < ratio).sum(), (above > ratio).sum())) if np.isfinite(ratio) else np.nan


def descents(samples: Literal["one", "several"]) -> CaseSelection[Descents]:
    """The diagonal networks on one sample or on several, one case each."""
    return tagged(role="diagonal", samples=samples).map(Descents.of)
