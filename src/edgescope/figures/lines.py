"""Lines of several runs, as every chart over steps draws them: band, mean, marks, and where a run diverged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.thin import ends, thin

MARKS = 7
"""Shapes a line; enough to tell lines apart without hiding them."""


def inline(table: pl.DataFrame) -> alt.InlineData:
    """A table as data inside the chart, without the row limit that Altair sets for unthinned tables."""
    return alt.InlineData(values=table.to_dicts())


def run_scales(runs: list[str]) -> tuple[alt.Scale, alt.Scale]:
    """Scales of colour and shape for the runs, in their order."""
    return (
        alt.Scale(domain=runs, range=look.colours(len(runs))),
        alt.Scale(domain=runs, range=look.shapes(len(runs))),
    )


@dataclass(frozen=True)
class Lines:
    """The series of a table ready to draw: ``points`` as :func:`thin` gives them, ``ends`` where runs diverged.

    ``runs`` are the runs in the order of the table; ``rows`` is the largest number of measurements in one point.
    """

    points: pl.DataFrame
    ends: pl.DataFrame
    runs: list[str]
    x: str
    by: list[str]
    rows: int = field(default=1)

    @classmethod
    def of(cls, table: pl.DataFrame, x: str, y: str, by: list[str], what: str, positive: bool = False) -> Lines:
        """Series of ``y`` against ``x``, one for each combination of ``by``, the first of which is the run.

        ``positive`` drops what a logarithmic axis cannot show. Raises :class:`InputError` where nothing is left.
        """
        shown = table.filter((pl.col(y) > 0) | ~pl.col(y).is_finite()) if positive else table
        points = thin(shown, x, y, by)
        if points.is_empty():
            kind = "positive, finite" if positive else "finite"
            raise InputError(f"the table for {what} has no {kind} value", expected=f"a {kind} number in column {y}")
        stopped = ends(shown, x, y, by).rename({y: "mean"})
        rows = max(int(points["rows"].max() or 1), 1)  # type: ignore[arg-type]
        return cls(points, stopped, table["run"].unique(maintain_order=True).to_list(), x, by, rows)

    def only(self, run: str) -> Lines:
        """The same for one run."""
        chosen = pl.col("run") == run
        return Lines(self.points.filter(chosen), self.ends.filter(chosen), [run], self.x, self.by, self.rows)

    def layers(
        self,
        x_axis: alt.Axis,
        y_scale: alt.Scale,
        y_axis: alt.Axis,
        detail: dict[str, Any] | None = None,
        legend: bool | None = None,
        marked: pl.Expr | None = None,
    ) -> list[alt.Chart]:
        """Band, line, shapes and crosses for the series; ``detail`` are further encodings of band and line.

        ``marked`` chooses the rows that carry shapes (all by default). ``legend`` is on where there are several runs.
        """
        colour_scale, shape_scale = run_scales(self.runs)
        legend = len(self.runs) > 1 if legend is None else legend
        key = alt.Legend() if legend else None
        x = alt.X(self.x, type="quantitative", axis=x_axis, scale=alt.Scale(nice=False, zero=False))
        y = alt.Y("mean", type="quantitative", scale=y_scale, axis=y_axis)
        colour = alt.Color("run", type="nominal", scale=colour_scale, legend=key)
        detail = detail or {}
        chart = alt.Chart(inline(self.points)).encode(x=x, color=colour)
        layers = []
        if self.rows > 1:
            low, high = alt.Y("low", type="quantitative", scale=y_scale, axis=y_axis), alt.Y2("high")
            band = chart.mark_area(opacity=0.22, clip=True).encode(y=low, y2=high, detail=[alt.Detail(c, type="nominal") for c in self.by])
            layers.append(band)
        layers.append(chart.mark_line(strokeWidth=1.7, clip=True).encode(y=y, **detail))
        if legend:
            shape = alt.Shape("run", type="nominal", scale=shape_scale, legend=key)
            layers.append(
                alt.Chart(inline(self._marks(marked)))
                .mark_point(size=42, filled=True, opacity=1, clip=True)
                .encode(x=x, y=y, color=colour, shape=shape)
            )
        return layers + self._crosses(x, y, colour, y_scale)

    def _marks(self, marked: pl.Expr | None) -> pl.DataFrame:
        """A few rows of each run, at different places for different runs, so that shapes do not cover each other."""
        rows = self.points if marked is None else self.points.filter(marked)
        place = pl.int_range(pl.len()).over("run")
        count = pl.len().over("run")
        gap = (count // MARKS).clip(lower_bound=1)
        number = pl.col("run").replace_strict(self.runs, list(range(len(self.runs))), return_dtype=pl.Int64)
        shift = gap * number // len(self.runs) + gap // 2
        return rows.filter((place % gap) == (shift % gap))

    def _crosses(self, x: alt.X, y: alt.Y, colour: alt.Color, y_scale: alt.Scale) -> list[alt.Chart]:
        if self.ends.is_empty():
            return []
        last = self.ends.sort(self.x).unique("run", keep="last", maintain_order=True)
        low, high = y_scale["domain"]
        last = last.with_columns(pl.col("mean").clip(low, high))
        chart = alt.Chart(inline(last)).encode(x=x, y=y, color=colour)
        cross = chart.mark_point(shape="M-1,-1L1,1M1,-1L-1,1", size=70, strokeWidth=2.2, opacity=1)
        word = chart.mark_text(text="diverged", align="left", dx=9, dy=1, font=look.FONT, fontSize=11)
        return [cross, word]

