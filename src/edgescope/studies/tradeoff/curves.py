"""What the claims look at: the runs of one network, data set and loss over learning rates, as a curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from jaxtyping import Float

from edgescope.store import Record
from edgescope.training import End, FlowEnd

MATVEEV = "Matveev, Fojtik et al. 2025 (arXiv 2505.21423)"

SECOND_HAND = "second-hand: from the abstract and public reviews"
"""How certain the paper's own claims are: its full text was not at hand."""

FLOW = "flow"
"""The name, within its curve, of the run of gradient flow."""

LEAST = "least eigenvalue at the start"
"""Noted in the record of gradient flow."""

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
    "averaged_l2": ("settled_norms", "averaged/l2"),
    "averaged_test": ("settled_norms", "averaged/test"),
    "decayed_l1": ("settled_norms", "decayed/l1"),
    "decayed_l2": ("settled_norms", "decayed/l2"),
    "decayed_test": ("settled_norms", "decayed/test"),
}
"""Columns of a curve's table: the measure and its part, where training ended."""

SCHEMA = {"lr": pl.Float64, "ratio": pl.Float64, "status": pl.String} | dict.fromkeys(COLUMNS, pl.Float64)


@dataclass(frozen=True)
class Curve:
    """One network from one initialisation: gradient flow, and gradient descent at many rates, to one training loss.

    ``name`` is ARCHITECTURE-LOSS, perhaps with what was varied, and ends in the seed, without which it is ``group``.
    ``start`` is the sharpness at the initialisation, ``least`` the smallest eigenvalue there, ``highest`` the largest
    sharpness on gradient flow's way, ``flow`` what was measured where it ended, and ``flow_reached`` whether that was
    at the training loss ``threshold``. ``table`` has one row a rate, in their order: lr, ratio (to the critical rate),
    status ("reached", "diverged" or "unfinished"), and the columns of ``COLUMNS`` (null where not measured).
    """

    name: str
    group: str
    threshold: float
    least: float
    start: float
    highest: float
    flow_reached: bool
    flow: dict[str, float]
    table: pl.DataFrame

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

    def between(self, low: float, high: float) -> pl.DataFrame:
        """Of those the rates from ``low`` to ``high`` critical rates."""
        return self.reached.filter(pl.col("ratio").is_between(low - 1e-9, high + 1e-9))

    def edge_ratio(self, low: float) -> Float[np.ndarray, " n"]:
        """Sharpness over 2/lr from ``low`` critical rates on."""
        rows = self.between(low, np.inf)
        return (rows["sharpness"] * rows["lr"] / 2).to_numpy()


def curves_of(runs: Mapping[str, Record]) -> list[Curve]:
    """A curve for every gradient flow among ``runs``, which are named CURVE/flow and CURVE/xRATIO."""
    found = []
    for name in runs:
        curve, _, run = name.rpartition("/")
        if run == FLOW and runs[name].status == "finished":
            found.append(_curve(curve, runs[name], runs_of(curve, runs)))
    return found


def runs_of(curve: str, runs: Mapping[str, Record]) -> list[Record]:
    """The records of gradient descent of a curve, those that are under way or failed left out."""
    return [
        record
        for name, record in runs.items()
        if name.startswith(f"{curve}/x") and record.status in ("finished", "diverged")
    ]


def _curve(name: str, flow: Record, descents: list[Record]) -> Curve:
    way = FlowEnd.of(flow)
    rows = []
    for record in sorted(descents, key=lambda record: float(record.config["lr"])):
        end = End.of(record)
        status = "diverged" if end.diverged else "reached" if end.reached else "unfinished"
        rows.append({"lr": end.lr, "ratio": end.lr / way.critical_lr, "status": status})
        rows[-1] |= {} if end.diverged else at_the_end(record)
    return Curve(
        name=name,
        group=name.rpartition("-")[0],
        threshold=float(flow.config["stop_loss"]),
        least=float(flow.info.get(LEAST, np.nan)),
        start=way.initial,
        highest=way.sharpness,
        flow_reached=way.end.reached,
        flow={key: value for key, value in at_the_end(flow).items() if value is not None},
        table=pl.DataFrame(rows, schema=SCHEMA),
    )


def at_the_end(record: Record) -> dict[str, float | None]:
    """What was measured at the last step, by column."""
    last = record.table().filter(pl.col("step") == record.last_step)
    found = {(m, p): v for m, p, v in last.select("measure", "part", "value").iter_rows() if v is not None}
    return {column: found.get(key) for column, key in COLUMNS.items()}
