"""The runs of one network, data set and loss over learning rates, read from their records as a curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from edgescope.experiments.selection import CaseSelection, grouped
from edgescope.experiments.study_run import StudyRun
from edgescope.store import Record
from edgescope.training import End, FlowEnd

FLOW, DESCENT = "flow", "descent"
"""The roles of the runs of a curve, as tagged; that of gradient flow is also its name within the curve."""

LEAST = "least eigenvalue at the start"
"""Noted in the record of gradient flow."""

SHARPENS = 1.2
"""How many times its first value the sharpness along gradient flow must reach: else there is no edge of stability."""

COLUMNS: dict[str, tuple[str, str]] = {
    "train_loss": ("loss", "train"),
    "test_loss": ("loss", "test"),
    "sharpness": ("sharpness", "1"),
    "l1": ("norms", "l1"),
    "l2": ("norms", "l2"),
    "path_norm": ("path_norm", ""),
    "adaptive": ("average_sharpness", ""),
    "adaptive_worst": ("worst_case_sharpness", ""),
    "averaged_l1": ("settled_norms", "averaged/l1"),
    "decayed_l1": ("settled_norms", "decayed/l1"),
}
"""Columns of a curve's table: the measure and its part, where training ended."""

SCHEMA = {"lr": pl.Float64, "ratio": pl.Float64, "status": pl.String} | dict.fromkeys(COLUMNS, pl.Float64)


@dataclass(frozen=True, eq=False)
class Curve:
    """One network from one initialisation: gradient flow, and gradient descent at many rates, to one training loss.

    ``start`` is the sharpness at the initialisation, ``least`` the smallest eigenvalue there, ``highest`` the largest
    sharpness on gradient flow's way, ``flow`` what was measured where it ended, and ``flow_reached`` whether that was
    at the training loss ``threshold``. ``table`` has one row a rate, in their order: lr, ratio (to the critical rate),
    status ("reached", "diverged" or "unfinished"), and the columns of ``COLUMNS`` (null where not measured).
    ``descents`` are the runs of gradient descent that ended.
    """

    name: str
    threshold: float
    least: float
    start: float
    highest: float
    flow_reached: bool
    flow: dict[str, float]
    table: pl.DataFrame
    descents: tuple[End, ...]

    @classmethod
    def of(cls, runs: Sequence[StudyRun]) -> Curve | None:
        """The curve of runs with one value of the tag "curve"; None where its gradient flow has not ended.

        Runs of gradient descent that are under way or failed are left out.
        """
        flow = next((run.record for run in runs if run.tags["role"] == FLOW), None)
        if flow is None or flow.status != "finished":
            return None
        way, rows, ends = FlowEnd.of(flow), [], []
        descents = [run.record for run in runs if run.tags["role"] == DESCENT]
        for record in sorted(descents, key=lambda record: float(record.config["lr"])):
            if record.status not in ("finished", "diverged"):
                continue
            end = End.of(record)
            status = "diverged" if end.diverged else "reached" if end.reached else "unfinished"
            rows.append({"lr": end.lr, "ratio": end.lr / way.critical_lr, "status": status})
            rows[-1] |= {} if end.diverged else at_the_end(record)
            ends.append(end)
        return cls(
            name=runs[0].tags["curve"],
            threshold=float(flow.config["stop_loss"]),
            least=float(flow.info.get(LEAST, np.nan)),
            start=way.initial,
            highest=way.sharpness,
            flow_reached=way.end.reached,
            flow={key: value for key, value in at_the_end(flow).items() if value is not None},
            table=pl.DataFrame(rows, schema=SCHEMA),
            descents=tuple(ends),
        )

    @property
    def critical_lr(self) -> float:
        """2 over the largest sharpness of gradient flow on its way to the threshold."""
        return 2 / self.highest

    @property
    def sharpening(self) -> float:
        """How many times its first value the sharpness reaches along gradient flow."""
        return self.highest / self.start

    @cached_property
    def reached(self) -> pl.DataFrame:
        """The rates that reached the threshold."""
        return self.table.filter(pl.col("status") == "reached")

    def between(self, low: float, high: float = np.inf) -> pl.DataFrame:
        """Of those the rates from ``low`` to ``high`` critical rates."""
        return self.reached.filter(pl.col("ratio").is_between(low - 1e-9, high + 1e-9))


def curves(**tags: str | Sequence[str]) -> CaseSelection[Curve]:
    """The curves with these tags, one case each."""
    return grouped("curve", role=(FLOW, DESCENT), **tags).map(Curve.of)


def sharpening_curves() -> CaseSelection[Curve]:
    """The curves that have an edge of stability to reach: where gradient flow does not sharpen there is none."""
    return curves().map(lambda curve: curve if curve.sharpening >= SHARPENS else None)


def networks(**tags: str | Sequence[str]) -> CaseSelection[list[Curve]]:
    """The networks with these tags, one case each: their curves, which differ in the seed."""

    def curves_of(runs: list[StudyRun]) -> list[Curve] | None:
        return [item.value for item in curves()({run.name: run for run in runs})] or None

    return grouped("group", role=(FLOW, DESCENT), **tags).map(curves_of)


def at_the_end(record: Record) -> dict[str, float | None]:
    """What was measured at the last step, by column."""
    last = record.table().filter(pl.col("step") == record.last_step)
    found = {(m, p): v for m, p, v in last.select("measure", "part", "value").iter_rows() if v is not None}
    return {column: found.get(key) for column, key in COLUMNS.items()}
