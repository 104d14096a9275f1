"""Lines of several runs, as every chart over steps draws them: band, mean, shapes, and where a run diverged."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import x_axis
from edgescope.figures.thin import not_finite_at_last, thin

SHAPES_A_LINE = 7
"""Enough to tell lines apart without hiding them."""

Chart = Any
"""An Altair chart of any kind; what ``alt.layer`` and ``alt.concat`` return differs between its versions."""

CROSS = "M-1,-1L1,1M1,-1L-1,1"


def inline(table: pl.DataFrame) -> alt.InlineData:
    """A table as data inside the chart, without the row limit that Altair sets for tables that nobody thinned.

    It goes in as text: Altair copies and checks whatever is a list of rows again and again, for seconds.
    """
    return alt.InlineData(values=table.write_json(), format=alt.JsonDataFormat(type="json"))


def run_scales(runs: list[str]) -> tuple[alt.Scale, alt.Scale]:
    """Scales of colour and shape for the runs, in their order."""
    return (
        alt.Scale(domain=runs, range=look.colours(len(runs))),
        alt.Scale(domain=runs, range=look.shapes(len(runs))),
    )


@dataclass(frozen=True)
class Lines:
    """The series of a table ready to draw.

    ``points`` are what :func:`edgescope.figures.thin.thin` gives; ``runs`` keep the order of the table; ``diverged``
    are those of them that did; ``x`` is the column of steps or times, ``by`` are those that tell series apart.
    """

    points: pl.DataFrame
    runs: list[str]
    diverged: list[str]
    x: str
    by: list[str]

    @classmethod
    def of(
        cls,
        table: pl.DataFrame,
        x: str,
        y: str,
        by: list[str],
        what: str,
        *,
        diverged: Collection[str] = (),
        positive: bool = False,
    ) -> Lines:
        """Series of ``y`` against ``x``, one for each combination of ``by``, the first of which is the run.

        A run has diverged where ``diverged`` names it or its last value is not finite. ``positive`` drops what a
        logarithmic axis cannot show. Raises :class:`InputError` where nothing is left.
        """
        lost = {*diverged, *not_finite_at_last(table, x, y)}
        points = thin(table.filter(pl.col(y) > 0) if positive else table, x, y, by)
        if points.is_empty():
            kind = "positive, finite" if positive else "finite"
            raise InputError(f"the table for {what} has no {kind} value", expected=f"a {kind} number in column {y}")
        runs = points["run"].unique(maintain_order=True).to_list()
        return cls(points, runs, [run for run in runs if run in lost], x, by)

    @property
    def rows(self) -> int:
        """The largest number of measurements in one point."""
        return int(self.points["rows"].max())  # type: ignore[arg-type]

    def only(self, run: str) -> Lines:
        """The same for one run."""
        diverged = [name for name in self.diverged if name == run]
        return replace(self, points=self.points.filter(pl.col("run") == run), runs=[run], diverged=diverged)

    def limits(self) -> list[float]:
        """The lowest and the highest value that the chart shows.

        A run on its way to infinity would squeeze all others into a line: of a diverged run nothing counts that lies
        beyond twice its median.
        """
        usual = pl.when(pl.col("run").is_in(self.diverged)).then(2 * pl.col("mean").median().over("run"))
        high = pl.min_horizontal("high", usual)
        return list(self.points.select(low=pl.col("low").min(), high=high.max()).row(0))

    def layers(
        self,
        y_scale: alt.Scale,
        y_axis: alt.Axis,
        *,
        x_titled: bool = True,
        legend: bool = True,
        line: dict[str, Any] | None = None,
        marked: pl.Expr | None = None,
    ) -> list[Chart]:
        """Band, line, shapes and crosses for the series.

        ``line`` are further encodings of the lines alone; ``marked`` chooses the rows that carry shapes (all by
        default). There is a legend of runs unless a single run leaves nothing to say.
        """
        colour_scale, shape_scale = run_scales(self.runs)
        legend = legend and (len(self.runs) > 1 or bool(self.diverged))
        key = alt.Legend(labelExpr=self._legend_label()) if legend else None
        across, across_axis = x_axis(self.x, self.points[self.x].to_list(), self.rows, x_titled)
        x = alt.X(self.x, type="quantitative", axis=across_axis, scale=across)
        y = alt.Y("mean", type="quantitative", scale=y_scale, axis=y_axis)
        colour = alt.Color("run", type="nominal", scale=colour_scale, legend=key)
        chart = alt.Chart(inline(self.points)).encode(x=x, color=colour)
        layers = []
        if self.rows > 1:
            low = alt.Y("low", type="quantitative", scale=y_scale, axis=y_axis)
            band = chart.mark_area(opacity=0.22, clip=True).encode(y=low, y2=alt.Y2("high"))
            layers.append(band.encode(detail=[alt.Detail(column, type="nominal") for column in self.by]))
        layers.append(chart.mark_line(strokeWidth=1.7, clip=True).encode(y=y, **(line or {})))
        if legend:
            shape = alt.Shape("run", type="nominal", scale=shape_scale, legend=key)
            shapes = alt.Chart(inline(self._marks(marked))).mark_point(size=42, filled=True, opacity=1, clip=True)
            layers.append(shapes.encode(x=x, y=y, color=colour, shape=shape))
        if self.diverged:
            crosses = alt.Chart(inline(self._ends(y_scale["domain"])))
            cross = crosses.mark_point(shape=CROSS, size=90, strokeWidth=2.2, opacity=1)
            layers.append(cross.encode(x=x, y=y, color=colour))
        return layers

    def _legend_label(self) -> str:
        return f"indexof({json.dumps(self.diverged)}, datum.label) < 0 ? datum.label : datum.label + ' (× diverged)'"

    def _marks(self, marked: pl.Expr | None) -> pl.DataFrame:
        """A few rows of each run, at different places for different runs, so that shapes do not cover each other."""
        rows = self.points if marked is None else self.points.filter(marked)
        place, count = pl.int_range(pl.len()).over("run"), pl.len().over("run")
        gap = (count // SHAPES_A_LINE).clip(lower_bound=1)
        number = pl.col("run").replace_strict(self.runs, list(range(len(self.runs))), return_dtype=pl.Int64)
        return rows.filter(place % gap == gap * (2 * number + 1) // (2 * len(self.runs)))

    def _ends(self, domain: list[float]) -> pl.DataFrame:
        """Where each diverged run left the picture: its first point outside for good, else its last point."""
        run = self.points.filter(pl.col("run").is_in(self.diverged)).sort(self.x, maintain_order=True)
        inside = (pl.col("mean") >= domain[0]) & (pl.col("mean") <= domain[1])
        last_inside = pl.col(self.x).filter(inside).max().over("run").fill_null(pl.col(self.x).min())
        outside = run.filter(~inside & (pl.col(self.x) > last_inside)).unique("run", keep="first", maintain_order=True)
        still = run.join(outside, on="run", how="anti").unique("run", keep="last", maintain_order=True)
        return pl.concat([outside, still]).with_columns(pl.col("mean").clip(*domain))
