"""The picture of learning coefficients along sweeps of weight decay, beside the number of modes."""

from __future__ import annotations

import math

import polars as pl

from edgescope.claims import Open
from edgescope.experiments.phases.coefficient_curves import SWEPT, coefficient, way_points
from edgescope.experiments.phases.coefficient_sweep import OWN_OUTPUTS, WITH_DECAY
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure, hysteresis_loops

Row = tuple[str, str, float, float, float, float]


def coefficient_figure(runs: Runs) -> Figure | None:
    """The coefficients of two losses, and the number of modes, over decay; one row of panels for each network."""
    rows: list[Row] = []
    marks: dict[str, list[float]] = {}
    for item in SWEPT(runs):
        network = item.value.tags["network"]
        points = way_points(item.value, OWN_OUTPUTS)
        critical = {value for _, p in points for name, value in p.values.items() if name.startswith("critical/")}
        marks |= {f"{network}: {panel}": sorted(critical) for panel in ("modes", OWN_OUTPUTS, WITH_DECAY)}
        rows += [(f"{network}: modes", way, p["decay"], p["rank"], p["rank"], p["rank"]) for way, p in points]
        for loss in (OWN_OUTPUTS, WITH_DECAY):
            for way, p in way_points(item.value, loss):
                found = coefficient(p)
                ends = (math.nan,) * 3 if isinstance(found, Open) else (found.value, found.low, found.high)
                rows.append((f"{network}: {loss}", way, p["decay"], *ends))
    if not any(math.isfinite(row[3]) for row in rows):
        return None
    table = pl.DataFrame(rows, schema=["panel", "way", "decay", "order", "low", "high"], orient="row")
    return Figure(
        "coefficients",
        "Weight decay up and down: the local learning coefficient",
        "Number of modes, and sampled learning coefficients with 95% intervals, as decay rises (circles) and falls "
        "again (squares): of the loss without decay with the network's own outputs as targets, and of the trained loss "
        "with decay. Dashed: the critical decays. Points that are missing have no coefficient: chains had not mixed, "
        "or found lower losses.",
        hysteresis_loops(table, marks=marks, y_title="value"),
    )
