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
from edgescope.figures.chart import Chart
from edgescope.figures.thin import not_finite_at_last, thin_with_gaps

SHAPES_A_LINE = 7
"""Enough to tell lines apart without hiding them."""

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

    ``points`` are the rows with a value that :func:`edgescope.figures.thin.thin_with_gaps` gives; ``runs`` keep the
    order of the table; ``diverged`` are those of them that did; ``x`` is the column of steps or times, ``by`` are those
    that tell series apart. ``gaps`` are the rows between the first and the last value of a series that lack values.
    """

    points: pl.DataFrame
    runs: list[str]
    diverged: list[str]
    x: str
    by: list[str]
    gaps: pl.DataFrame

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

        A run has diverged where ``diverged`` names it or its last value is not finite. A series is interrupted where a
        value is null or not finite, and with ``positive`` where a logarithmic axis cannot show it. Raises
        :class:`InputError` where nothing is left.
        """
        lost = {
            *diverged,
            *not_finite_at_last(table.drop_nulls(y), x, y),
        }  # null: there is no value, not an infinite one
        shown = table.with_columns(pl.when(pl.col(y) > 0).then(pl.col(y)).alias(y)) if positive else table
        thinned = thin_with_gaps(shown, x, y, by)
        points = thinned.filter(pl.col("rows") > 0)
        if points.is_empty():
            kind = "positive, finite" if positive else "finite"
            raise InputError(f"the table for {what} has no {kind} value", expected=f"a {kind} number in column {y}")
        present = set(points["run"])
        runs = [run for run in table["run"].unique(maintain_order=True) if run in present]
        ends = points.group_by(by).agg(first=pl.col(x).min(), last=pl.col(x).max())
        gaps = thinned.filter(pl.col("lost") > 0).join(ends, on=by, maintain_order="left")
        gaps = gaps.filter(pl.col(x).is_between("first", "last")).select("run", x)
        return cls(points, runs, [run for run in runs if run in lost], x, by, gaps)

    @property
    def rows(self) -> int:
        """The largest number of measurements in one point."""
        return int(self.points["rows"].max())  # type: ignore[arg-type]

    def only(self, run: str) -> Lines:
        """The same for one run."""
        diverged = [name for name in self.diverged if name == run]
        points, gaps = (table.filter(pl.col("run") == run) for table in (self.points, self.gaps))
        return replace(self, points=points, runs=[run], diverged=diverged, gaps=gaps)

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
        across, across_axis = x_axis(
            self.x, self.points[self.x].to_list(), self.rows, x_titled, gaps=not self.gaps.is_empty()
        )
        x = alt.X(self.x, type="quantitative", axis=across_axis, scale=across)
        y = alt.Y("mean", type="quantitative", scale=y_scale, axis=y_axis)
        colour = alt.Color("run", type="nominal", scale=colour_scale, legend=key)
        chart = alt.Chart(inline(self.points)).encode(x=x, color=colour)
        detail = [alt.Detail(column, type="nominal") for column in (*self.by, "segment")]
        layers = []
        if self.rows > 1:
            low = alt.Y("low", type="quantitative", scale=y_scale, axis=y_axis)
            band = chart.mark_area(opacity=0.22, clip=True).encode(y=low, y2=alt.Y2("high"))
            layers.append(band.encode(detail=detail))
        layers.append(chart.mark_line(strokeWidth=1.7, clip=True).encode(y=y, detail=detail, **(line or {})))
        single = self.points.filter(pl.len().over([*self.by, "segment"]) == 1)
        if not single.is_empty():  # which a line does not show
            dots = alt.Chart(inline(single)).mark_circle(size=34, opacity=1, clip=True)
            layers.append(dots.encode(x=x, y=y, color=colour))
        if not self.gaps.is_empty():
            below = alt.Chart(inline(self.gaps)).mark_point(size=20, strokeWidth=1.2, opacity=1)
            layers.append(below.encode(x=x, y=alt.datum(y_scale["domain"][0], scale=y_scale), color=colour))
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
