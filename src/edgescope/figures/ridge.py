"""Spectra over time as a ridge: one density above the other, the first moment at the top."""

from __future__ import annotations

import altair as alt
import numpy as np
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import PLAIN
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.spectrum import FLOOR, GRID_POINTS, smooth_density
from edgescope.figures.thin import check_table

ROW = 34
"""Height of a row in points."""

OVERLAP = 1.6
"""How many rows high the highest ridge is."""


@shown_as_picture
def spectral_ridge(
    table: pl.DataFrame, *, threshold: float | None = None, width: float | None = None, title: str = "eigenvalue λ"
) -> Chart:
    """Densities of eigenvalues at several moments, each on a base line of its own, in the order of the table.

    ``table`` has the columns ``moment``, ``node`` and ``weight`` as for :func:`spectral_density`. Heights are
    logarithms of the density: from a millionth of the highest of all moments, which is the base line, up.
    ``threshold`` draws a dashed vertical line and fills in red what lies beyond it, so that moments before and after
    the edge differ. ``width`` is the standard deviation of the smoothing, by default a hundred-and-fiftieth of the
    range. Raises :class:`InputError` for a table without rows, columns or positive weights.
    """
    what = "a ridge of spectra"
    table = check_table(table, {"moment": "name", "node": "number", "weight": "number"}, what)
    table = table.filter(pl.col("node").is_finite() & (pl.col("weight") > 0))
    if table.is_empty():
        raise InputError(f"the table for {what} has no finite node with a positive weight")
    seen = [float(table["node"].min()), float(table["node"].max())]  # type: ignore[arg-type]
    seen += [] if threshold is None else [threshold]
    reach = (max(seen) - min(seen)) or max(abs(seen[0]), 1.0)
    width = reach / 150 if width is None else width
    if not width > 0:
        raise InputError(f"a smoothing width of {width}", expected="a positive number")
    grid = np.linspace(min(seen) - 5 * width, max(seen) + 5 * width, GRID_POINTS)
    moments = table["moment"].unique(maintain_order=True).to_list()
    densities = [smooth_density(table.filter(pl.col("moment") == moment), grid, width) for moment in moments]
    peak = max(density.max() for density in densities)
    x = alt.X(
        "node",
        type="quantitative",
        scale=alt.Scale(domain=[float(grid[0]), float(grid[-1])], nice=False, zero=False),
        axis=alt.Axis(title=title, labelExpr=PLAIN),
    )
    bases = [float(len(moments) - 1 - row) for row in range(len(moments))]
    y_scale = alt.Scale(domain=[-0.15, len(moments) - 1 + OVERLAP], nice=False)
    names = dict(zip(bases, moments, strict=True))
    label = " : ".join(f"datum.value == {base} ? {moment!r}" for base, moment in names.items()) + " : ''"
    axis = alt.Axis(title=None, values=bases, labelExpr=label, grid=False, labelLimit=200)
    y = alt.Y("height", type="quantitative", scale=y_scale, axis=axis)
    layers: list[Chart] = []
    for base, density in zip(bases, densities, strict=True):  # from the back to the front
        height = OVERLAP * np.clip(1 - np.log(density / peak + 1e-300) / np.log(FLOOR), 0, 1)
        rows = pl.DataFrame({"node": grid, "height": base + height, "base": base})
        layers.append(_area(rows, x, y, "white", 0.85))
        layers.append(_area(rows, x, y, look.PALETTE[2], 0.25))
        if threshold is not None:
            layers.append(_area(rows.filter(pl.col("node") >= threshold), x, y, look.ALARM, 0.75))
        layers.append(alt.Chart(inline(rows)).mark_line(strokeWidth=1.1, color=look.PALETTE[0]).encode(x=x, y=y))
    if threshold is not None:
        rule = alt.Chart(inline(pl.DataFrame({"node": [threshold]}))).mark_rule(**look.EXPECTED)
        layers.append(rule.encode(x=x))
    return alt.layer(*layers).properties(height=ROW * (len(moments) + OVERLAP), width=look.WIDTH)


def _area(rows: pl.DataFrame, x: alt.X, y: alt.Y, colour: str, opacity: float) -> Chart:
    return alt.Chart(inline(rows)).mark_area(color=colour, opacity=opacity).encode(x=x, y=y, y2=alt.Y2("base"))
