"""A forest plot: one row a case, its value as a dot and its interval as a line over the shaded region of a claim."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import PLAIN, log_ticks, short
from edgescope.figures.chart import Chart
from edgescope.figures.lines import CROSS, inline
from edgescope.figures.thin import check_table

ROW = 21
WIDTH = 640
"""Points that names and plot take together, so that all plots of a page are of one width."""

SHORTEST, LONGEST, LETTER = 30, 58, 5.4
"""Letters that there is room for beside the plot, at least and at most, and points a letter takes."""

ELIDED = "length(datum.label) > 58 ? slice(datum.label, 0, 28) + '…' + slice(datum.label, -29) : datum.label"
"""A longer name keeps its beginning and its end: names of runs often differ in their last words."""

MOST_ROWS = 40
DECADES = 2.0
"""Positive values that span more than this many powers of ten are drawn on a logarithmic axis."""

REACH = 4.0
"""Values are drawn in place up to this many times the span of the region and of the middle half of all values beyond
it; what lies further out is an arrow at the border."""

VERDICTS = ["holds", "fails", "open"]
_COLOURS = [look.PALETTE[2], look.ALARM, look.MUTED]
_COLUMNS = {"case": "name", "value": "number", "low": "number", "high": "number", "verdict": "name", "why": "name"}
POOLED = "pooled over cases"
_ARROWS = {"left": "M1.4,-0.9L0,0L1.4,0.9Z", "right": "M-1.4,-0.9L0,0L-1.4,0.9Z"}
_SHAPES = {"holds": "circle", "fails": CROSS, "open": "circle"}
"""Verdicts are told apart by shape and by filling, not by colour alone."""
_QUIET: dict[str, Any] = {"tooltip": None, "aria": False}
"""Marks that say nothing: a row tells all, wherever the pointer meets it."""
_DIAMOND = "M-1.5,0L0,-1L1.5,0L0,1Z"


def forest_plot(
    table: pl.DataFrame,
    *,
    region: tuple[float, float],
    title: str,
    pooled: tuple[float, float, float] | None = None,
) -> Chart:
    """A row a case with value and interval; the region in which a claim is true is shaded.

    ``table`` has the columns ``case``, ``value``, ``low``, ``high``, ``verdict`` ("holds", "fails" or "open") and
    ``why``. A case that holds is a filled dot, one that fails a cross, an open one a ring; a case without a value has
    its reason in words. ``region`` may have infinite borders. ``pooled`` is a value with the ends of its interval,
    drawn as a diamond in a row of its own. At most :data:`MOST_ROWS` rows are drawn, those that fail and are open
    first. Infinite values, and those far from all others, are arrows at the border. Every row carries its figures as
    a tooltip and as a description. Raises :class:`InputError` for a table without rows or columns, for another
    verdict, and for a region that is none.
    """
    table = drawn_rows(check_table(table, _COLUMNS, "a forest plot"))
    unknown = sorted(set(table["verdict"].to_list()) - set(VERDICTS))
    if unknown:
        raise InputError(f"a case with the verdict '{unknown[0]}'", expected=", ".join(VERDICTS))
    if not region[0] <= region[1]:
        raise InputError(f"a region from {region[0]} to {region[1]}", expected="low <= high")
    rows = [dict(row) for row in table.with_columns(pl.col("value", "low", "high").fill_null(math.nan)).to_dicts()]
    names = _names([row["case"] for row in rows])
    for row, name in zip(rows, names, strict=True):
        row["case"] = name
    across = _Across.of(rows, region, pooled)
    order = [*names, *([POOLED] if pooled else [])]
    room = min(LONGEST, max(SHORTEST, max(map(len, order)))) * LETTER
    y = alt.Y(
        "case",
        type="nominal",
        sort=order,
        scale=alt.Scale(domain=order, paddingInner=0.1, paddingOuter=0.3),
        axis=alt.Axis(title=None, labelExpr=ELIDED, labelLimit=0, labelPadding=8, minExtent=room, maxExtent=room),
    )
    x = {"type": "quantitative", "scale": across.scale(), "axis": across.axis(title)}
    layers = [*_region(region, across, x), *_cases(rows, across, x, y)]
    if pooled:
        layers += _pooled(pooled, across, x, y)
    return alt.layer(*layers).properties(width=WIDTH - room, height=ROW * len(order) + 6)


def drawn_rows(table: pl.DataFrame) -> pl.DataFrame:
    """The rows that a forest plot draws, in the order of ``table``: all, or those that fail, are open, hold first."""
    if table.height <= MOST_ROWS:
        return table
    rank = pl.col("verdict").replace_strict({"fails": 0, "open": 1}, default=2, return_dtype=pl.Int64)
    return table.with_row_index("place").sort(rank, "place").head(MOST_ROWS).sort("place").drop("place")


@dataclass(frozen=True)
class _Across:
    """The horizontal axis: what it spans, and whether it is logarithmic."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(
        cls, rows: list[dict[str, Any]], region: tuple[float, float], pooled: tuple[float, float, float] | None
    ) -> _Across:
        values = [row["value"] for row in rows if math.isfinite(row["value"])]
        ends = [row[end] for row in rows for end in ("low", "high") if math.isfinite(row[end])]
        fixed = [value for value in (*region, *(pooled or ())) if math.isfinite(value)]
        shown = values + fixed
        log = bool(values) and min(shown) > 0 and max(shown) / min(shown) > 10**DECADES
        if log:
            fixed, values = [math.log10(value) for value in fixed], [math.log10(value) for value in values]
            ends = [math.log10(value) for value in ends if value > 0]
        low, high = _limits(values, fixed, ends)
        return cls(*((10**low, 10**high) if log else (low, high)), log)

    def scale(self) -> alt.Scale:
        kind: dict[str, Any] = {"type": "log"} if self.log else {"zero": False}
        return alt.Scale(domain=[self.low, self.high], nice=False, **kind)

    def axis(self, title: str) -> alt.Axis:
        ticks = {"values": log_ticks(self.low, self.high)} if self.log else {"tickCount": 6}
        return alt.Axis(title=title, titleLimit=WIDTH, grid=True, labelExpr=PLAIN, **ticks)

    def inside(self, value: float) -> float:
        """``value``, or the border that it lies beyond."""
        return min(max(value, self.low), self.high)


def _limits(values: list[float], fixed: list[float], ends: list[float]) -> tuple[float, float]:
    """What the axis spans: ``fixed`` always, ``values`` unless they lie far from the middle half of all and from
    ``fixed``, and the ends of intervals within the same distance."""
    ordered = sorted(values)
    quarter = len(ordered) // 4
    core = fixed + ordered[quarter : len(ordered) - quarter] or [0.0, 1.0]
    first, last = min(core), max(core)
    span = (last - first) or abs(first) or 1.0
    least, most = first - REACH * span, last + REACH * span
    within = [value for value in [*values, *ends] if least <= value <= most]
    low, high = min(core + within), max(core + within)
    air = 0.05 * ((high - low) or abs(low) or 1.0)
    return low - air, high + air


def _region(region: tuple[float, float], across: _Across, x: dict[str, Any]) -> list[Chart]:
    low, high = (across.inside(border) for border in region)
    shade = alt.Chart(inline(pl.DataFrame({"from": [low], "to": [high]})))
    layers = [
        shade.mark_rect(**_QUIET, color=look.PALETTE[2], opacity=0.1).encode(x=alt.X("from", **x), x2=alt.X2("to"))
    ]
    borders = [border for border in region if math.isfinite(border) and across.low <= border <= across.high]
    if borders:
        lines = alt.Chart(inline(pl.DataFrame({"border": borders})))
        layers.append(
            lines.mark_rule(**_QUIET, color=look.PALETTE[2], strokeDash=look.DASH).encode(x=alt.X("border", **x))
        )
    return layers


def _cases(rows: list[dict[str, Any]], across: _Across, x: dict[str, Any], y: alt.Y) -> list[Chart]:
    """Intervals, values, arrows for what lies beyond the border, words where there is no value, and the rows."""
    data = inline(pl.DataFrame([_row(row, across) for row in rows], infer_schema_length=None))
    colour = alt.Color("verdict", type="nominal", scale=alt.Scale(domain=VERDICTS, range=_COLOURS), legend=None)
    chart = alt.Chart(data).encode(y=y, color=colour)
    layers = [chart.mark_rule(strokeWidth=2, opacity=0.7, clip=True, **_QUIET).encode(x=alt.X("from", **x), x2="to")]
    arrows = _arrows(rows, across)
    if arrows:
        shape = alt.Shape("side", type="nominal", legend=None, scale=_shape_scale())
        size = alt.Size("size", type="quantitative", scale=None)
        marks = alt.Chart(inline(pl.DataFrame(arrows))).mark_point(filled=True, opacity=1, **_QUIET)
        layers.append(marks.encode(x=alt.X("at", **x), y=y, color=colour, shape=shape, size=size))
    dots = alt.Chart(data).mark_point(size=56, strokeWidth=2.2, opacity=1, **_QUIET)
    fills = alt.Scale(domain=VERDICTS, range=[_COLOURS[0], _COLOURS[1], "white"])
    layers.append(
        dots.encode(
            x=alt.X("at", **x),
            y=y,
            fill=alt.Fill("verdict", type="nominal", scale=fills, legend=None),
            stroke=alt.Stroke("verdict", type="nominal", scale=alt.Scale(domain=VERDICTS, range=_COLOURS), legend=None),
            shape=alt.Shape("verdict", type="nominal", scale=_shape_scale(), legend=None),
        )
    )
    absent = [{"case": row["case"], "word": _short_reason(row["why"])} for row in rows if math.isnan(row["value"])]
    if absent:
        note: dict[str, Any] = {"align": "left", "x": 8, "color": look.MUTED, "fontStyle": "italic", "aria": False}
        words = alt.Chart(inline(pl.DataFrame(absent))).mark_text(**note, **look.NOTE)
        layers.append(words.encode(y=y, text=alt.Text("word", type="nominal")))
    return [*layers, _told(data, rows, y)]


def _row(row: dict[str, Any], across: _Across) -> dict[str, Any]:
    """What is drawn of a case and told of it; None where there is nothing to draw, or it lies beyond the border."""
    value, low, high = row["value"], row["low"], row["high"]
    interval = not (math.isnan(low) or math.isnan(high))
    ends = [across.inside(low), across.inside(high)] if interval else [math.nan, math.nan]
    drawn = ends[0] < ends[1]
    return {
        "case": row["case"],
        "verdict": row["verdict"],
        "at": _rounded(value) if across.inside(value) == value else None,
        "from": _rounded(ends[0]) if drawn else None,
        "to": _rounded(ends[1]) if drawn else None,
        "value": "no value" if math.isnan(value) else _number(value),
        "interval": f"{_number(low)} to {_number(high)}" if interval else "",
        "why": row["why"],
    }


def _arrows(rows: list[dict[str, Any]], across: _Across) -> list[dict[str, Any]]:
    """Where values and ends of intervals leave the plot: large for a value, small for an end."""
    found = []
    for row in rows:
        for key, size in (("low", 45.0), ("high", 45.0), ("value", 110.0)):
            value = row[key]
            if not math.isnan(value) and across.inside(value) != value:
                side = "left" if value < across.low else "right"
                at = across.inside(value)
                found.append({"case": row["case"], "verdict": row["verdict"], "at": at, "side": side, "size": size})
    return found


def _pooled(pooled: tuple[float, float, float], across: _Across, x: dict[str, Any], y: alt.Y) -> list[Chart]:
    value, low, high = pooled
    row = _row({"case": POOLED, "value": value, "low": low, "high": high, "verdict": "", "why": ""}, across)
    data = inline(pl.DataFrame([row], schema_overrides={"at": pl.Float64, "from": pl.Float64, "to": pl.Float64}))
    chart = alt.Chart(data).encode(y=y)
    line = chart.mark_rule(strokeWidth=3, color=look.INK, clip=True, **_QUIET)
    diamond = chart.mark_point(shape=_DIAMOND, filled=True, size=70, opacity=1, color=look.INK, **_QUIET)
    return [
        line.encode(x=alt.X("from", **x), x2="to"),
        diamond.encode(x=alt.X("at", **x)),
        _told(data, [row | {"low": low}], y),
    ]


def _told(data: alt.InlineData, rows: list[dict[str, Any]], y: alt.Y) -> Chart:
    """Each row from border to border, not seen, so that the pointer need not meet the dot to be told of it."""
    names = {"case": "case", "value": "value", "interval": "95% interval", "verdict": "verdict", "why": "reason"}
    told = {
        "interval": any(not math.isnan(row["low"]) for row in rows),
        "verdict": any(row["verdict"] for row in rows),
        "why": any(row["why"] for row in rows),
    }
    tooltip = [alt.Tooltip(key, type="nominal", title=name) for key, name in names.items() if told.get(key, True)]
    mark: dict[str, Any] = {"fillOpacity": 0, "ariaRoleDescription": "row", "x": 0, "x2": alt.expr("width")}
    return alt.Chart(data).mark_rect(**mark).encode(y=y, tooltip=tooltip)


def _shape_scale() -> alt.Scale:
    """One scale for dots and arrows: layers over each other share it."""
    shapes = _SHAPES | _ARROWS
    return alt.Scale(domain=list(shapes), range=list(shapes.values()))


def _names(cases: list[str]) -> list[str]:
    """The names of cases, made distinct: a name that comes twice would put two cases on one row."""
    seen: dict[str, int] = {}
    names = []
    for case in cases:
        seen[case] = seen.get(case, 0) + 1
        names.append(case if seen[case] == 1 else f"{case} ({seen[case]})")
    return names


def _rounded(value: float) -> float | None:
    """Seven digits are more than a picture shows."""
    return None if math.isnan(value) else float(f"{value:.7g}")


def _number(value: float) -> str:
    return ("∞" if value > 0 else "−∞") if math.isinf(value) else short(value)


def _short_reason(why: str, most: int = 62) -> str:
    return (why if len(why) <= most else why[: most - 1].rstrip() + "…") or "no value"
