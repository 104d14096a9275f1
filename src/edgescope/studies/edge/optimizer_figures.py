"""The figure of the study `edge` on optimizers as they are used: sharpness over threshold, and headroom, of each."""

from __future__ import annotations

import polars as pl

from edgescope.experiments.edge.own_edges import over_sam_edge
from edgescope.experiments.selection import tagged
from edgescope.experiments.study_run import Runs, StudyRun
from edgescope.experiments.threshold_series import ThresholdSeries
from edgescope.figures import Figure, edge_panels

METHODS = ("nadam", "polyak+adamw", "sam", "clipped", "lion", "muon+adamw")
RATIO, HEADROOM = "sharpness / threshold", "1 / headroom"
HIGHEST = 2.0
"""Where the vertical axis ends; the joint ratio of Muon and AdamW goes on to many times that."""


def optimizer_figures(runs: Runs) -> list[Figure]:
    """The figure of the optimizers whose runs are there; none without runs."""
    tables = [_series(item.value) for method in METHODS for item in tagged(method=method)(runs)]
    tables = [table for table in tables if not table.is_empty()]
    if not tables:
        return []
    return [
        Figure(
            "optimizers-in-use",
            "Optimizers as they are used arrive at their edge",
            "Sharpness over the threshold of the optimizer, and one over the headroom, which is the multiple of the "
            "last step at which the loss is back at its old value. Both are 1 at the edge of stability (dashed; "
            "shaded: the 10% that the claims allow). Lion has no threshold. That of Muon beside AdamW takes the "
            "preconditioner of Muon as frozen; the ratio to it leaves the picture.",
            edge_panels(pl.concat(tables), highest=HIGHEST),
        )
    ]


def _series(run: StudyRun) -> pl.DataFrame:
    """panel, run (which quantity), step and value."""
    found = {HEADROOM: run.record.series("headroom", "ratio")}
    if run.tags["method"] == "sam":
        edge = over_sam_edge(run)
        found[RATIO] = edge.steps, edge.ratio
    elif run.tags["method"] != "lion":
        series = ThresholdSeries.of(run)
        found[RATIO] = series.steps, series.ratio
    parts = [
        pl.DataFrame({"panel": [run.name] * len(steps), "run": [name] * len(steps), "step": steps, "value": values})
        for name, (steps, values) in found.items()
        if len(steps)
    ]
    return pl.concat(parts) if parts else pl.DataFrame()
