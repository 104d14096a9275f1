"""The norm–sharpness trade-off across learning rates: final sharpness, norms and test loss, regimes shaded."""

from __future__ import annotations

import math
from typing import Any, Final

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import PLAIN, log_axis, log_ticks, short
from edgescope.figures.chart import Chart
from edgescope.figures.lines import CROSS, inline, run_scales
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

HEIGHT = 118
SHARPNESS_HEIGHT = 170

PANELS = {
    "sharpness": "final sharpness",
    "l1": "l1 norm of w",
    "l2": "l2 norm of w",
    "test_loss": "test loss",
}
"""The columns that are drawn and their titles; one without a finite value is left out."""

EDGE, BELOW, ABOVE = "edge of stability", "below the edge", "above critical"
SHADES = {
    "flow-aligned": look.PALETTE[2],
    EDGE: look.PALETTE[3],
    BELOW: look.PALETTE[4],
    ABOVE: look.PALETTE[3],
    "diverged": look.ALARM,
}
HELD_BY_THE_EDGE = (EDGE, "above the edge")
"""Regimes in which a run has at least the sharpness 2/lr, to the tolerance."""

SHADE = 0.1
NARROW = 0.13
"""A regime narrower than this share of the axis is not named; its neighbours and its colour say what it is."""

FLOW: dict[str, Any] = {"color": look.MUTED, "strokeDash": [2, 2], "strokeWidth": 1.2}

STATES = {"threshold reached": "circle", "threshold not reached": "triangle-up", "diverged": CROSS}


WIDE: Final = 10**1.5
"""Largest over smallest value from which a panel is logarithmic, where all are positive."""


@shown_as_picture
def tradeoff_panels(table: pl.DataFrame, *, critical_lr: float | None = None, factor: float | None = 2.0) -> Chart:
    """A panel a quantity over the learning rate (logarithmic), one below the other.

    ``table`` has one row a rate: ``lr``, ``sharpness``, ``l1``, ``l2``, ``test_loss`` (numbers; null where there is
    none), ``reached`` and ``diverged`` (true or false), and ``run`` where several series are compared. A diverged rate
    is a cross at the upper edge (where all did, of the sharpness alone), one that did not reach its threshold a
    triangle. The first panel has the line ``factor``/lr (none without a factor) and the flow's sharpness
    ``factor``/``critical_lr``. Shaded: below ``critical_lr`` flow-aligned; above it the edge of stability up to the
    largest rate that ended there, and what lies below the edge beyond, as the column ``regime`` says (without it, all
    is above critical); and from where every rate diverged. Without ``critical_lr`` nothing is shaded. Raises
    :class:`InputError` for a table without rows, columns or positive rates, and a ``critical_lr`` without a factor.
    """
    what = "a trade-off chart"
    numbers = ("lr", *(name for name in PANELS if name != "test_loss" or name in table.columns))
    named = {name: "name" for name in ("run", "regime") if name in table.columns}
    # An all-null column, where every run diverged, has no type that could be called a number.
    nulls = [c for c in numbers if c in table.columns and table[c].dtype == pl.Null]
    table = table.with_columns(pl.col(nulls).cast(pl.Float64)) if nulls else table
    flags = {"reached": "number", "diverged": "number"}
    present = [flag for flag in flags if flag in table.columns]
    rows = check_table(
        table.with_columns(pl.col(present).cast(pl.Int8)), dict.fromkeys(numbers, "number") | flags | named, what
    ).sort("lr", maintain_order=True)
    if not ((rows["lr"] > 0) & rows["lr"].is_finite()).all():
        raise InputError(f"the table for {what} has a rate that is not positive", expected="positive finite rates")
    if critical_lr is not None and not (math.isfinite(critical_lr) and critical_lr > 0):
        raise InputError(f"critical_lr = {critical_lr}", expected="a positive finite rate")
    if factor is None and critical_lr is not None:
        raise InputError("critical_lr without a factor", expected="both, or neither")
    ended = pl.when(pl.col("diverged") > 0).then(pl.lit("diverged")).when(pl.col("reached") > 0)
    state = ended.then(pl.lit("threshold reached")).otherwise(pl.lit("threshold not reached"))
    rows = rows.with_columns(state=state, run=pl.col("run") if "run" in named else pl.lit(""))
    drawn = [name for name in PANELS if name in rows.columns and _values(rows, name)]
    if not drawn and critical_lr is None:
        raise InputError(f"the table for {what} has no finite value", expected="at least one run that did not diverge")
    drawn = drawn or ["sharpness"]  # crosses, beside what gradient flow said
    panels = [_panel(rows, name, critical_lr, factor, first=name == drawn[0], last=name == drawn[-1]) for name in drawn]
    return alt.vconcat(*panels, spacing=10)


def _values(rows: pl.DataFrame, name: str) -> list[float]:
    return rows.filter((pl.col("diverged") == 0) & pl.col(name).is_finite())[name].to_list()


def _panel(
    rows: pl.DataFrame, name: str, critical_lr: float | None, factor: float | None, *, first: bool, last: bool
) -> Chart:
    rates = [*rows["lr"], *([critical_lr] if critical_lr else [])]
    x_scale, _ = log_axis("learning rate η", rates)
    ticks = log_ticks(*x_scale["domain"])
    x_axis = alt.Axis(values=ticks, labelExpr=PLAIN, title="learning rate η" if last else None, labels=last)
    x = alt.X("lr", type="quantitative", scale=x_scale, axis=x_axis)
    values = _values(rows, name) or [(factor or 2.0) / rate for rate in rates]
    wide = min(values) > 0 and max(values) >= WIDE * min(values)
    if wide or (name == "sharpness" and min(values) > 0):
        of_flow = [factor / critical_lr] if name == "sharpness" and critical_lr and factor else []
        air = (max(values) / min(values)) ** 0.06  # for the marks at both ends
        y_scale, y_axis = log_axis(PANELS[name], [min(values) / air, max(values) * air, *of_flow])
    else:
        low, high = min(values), max(values)
        air = 0.08 * ((high - low) or abs(high) or 1.0)
        y_scale = alt.Scale(domain=[low - air, high + air], nice=False, zero=False)
        y_axis = alt.Axis(title=PANELS[name], tickCount=4, labelExpr=PLAIN)
    layers = _shades(rows, critical_lr, x_scale, x_axis, worded=first)
    if name == "sharpness" and factor is not None:
        layers += _expected(x_scale["domain"], critical_lr, factor, x, y_scale, y_axis)
    layers += _points(rows, name, x, alt.Y(name, type="quantitative", scale=y_scale, axis=y_axis), legend=first)
    if name == "test_loss":
        layers.append(_best(rows, x, y_scale))
    return alt.layer(*layers).properties(width=look.WIDTH, height=SHARPNESS_HEIGHT if name == "sharpness" else HEIGHT)


def _shades(
    rows: pl.DataFrame, critical_lr: float | None, scale: alt.Scale, axis: alt.Axis, worded: bool
) -> list[Chart]:
    """The regimes behind the points, with their names in the first panel."""
    if critical_lr is None:
        return []
    low, high = scale["domain"]
    held = rows.filter(pl.col("diverged") == 0)
    ends = max(critical_lr, _between(held["lr"], rows["lr"], low, high))
    spans = {"flow-aligned": (low, critical_lr), "diverged": (ends, high)}
    regimes = held["regime"] if "regime" in held.columns else pl.repeat("", held.height, eager=True)
    edge = held.filter(regimes.is_in(HELD_BY_THE_EDGE))["lr"]
    if not edge.is_empty() or BELOW in regimes:
        flat = critical_lr if edge.is_empty() else max(critical_lr, _between(edge, held["lr"], low, ends))
        spans |= {EDGE: (critical_lr, flat), BELOW: (flat, ends)}
    else:
        spans |= {ABOVE: (critical_lr, ends)}
    x: dict[str, Any] = {"type": "quantitative", "scale": scale, "axis": axis}
    layers = []
    for regime, (start, stop) in spans.items():
        if stop <= start:
            continue
        chart = alt.Chart(inline(pl.DataFrame({"from": [start], "to": [stop], "middle": [math.sqrt(start * stop)]})))
        band = chart.mark_rect(opacity=SHADE, color=SHADES[regime])
        layers.append(band.encode(x=alt.X("from", **x), x2=alt.X2("to")))
        if worded and math.log(stop / start) > NARROW * math.log(high / low):
            word = chart.mark_text(text=regime, color=look.MUTED, baseline="bottom", dy=-3, **look.NOTE)
            layers.append(word.encode(x=alt.X("middle", **x), y=alt.value(0)))
    return layers


def _between(some: pl.Series, of: pl.Series, low: float, high: float) -> float:
    """Where the rates ``some`` end among all: half way, on this axis, to the next one, since nobody knows nearer."""
    last = max(some, default=low)
    beyond = of.filter(of > last)
    return math.sqrt(last * min(beyond)) if len(beyond) else high


def _expected(
    domain: list[float], critical_lr: float | None, factor: float, x: alt.X, scale: alt.Scale, axis: alt.Axis
) -> list[Chart]:
    """The line factor/lr, and the flow's sharpness, each with its name."""
    low, high = domain
    bottom, top = scale["domain"]
    rates = [low * (high / low) ** (i / 60) for i in range(61)]
    edge = pl.DataFrame({"lr": rates, "value": [factor / rate for rate in rates]})
    height = math.sqrt(bottom * top) if bottom > 0 else 0.75 * max(top, 0.0)
    middle = min(high, max(low, factor / height)) if height else low

    lines: list[tuple[str, pl.DataFrame, tuple[float, float], dict[str, Any], dict[str, Any]]] = [
        (f"{factor:.3g}/η", edge, (middle, factor / middle), {"align": "right", "dx": -8, "dy": 8}, look.EXPECTED)
    ]
    if critical_lr is not None:
        sharpness = factor / critical_lr
        flow = pl.DataFrame({"lr": [low, high], "value": [sharpness] * 2})
        lines.append(
            (f"gradient flow {short(sharpness)}", flow, (high, sharpness), {"align": "right", "dx": -6, "dy": 14}, FLOW)
        )
    layers = []
    for name, table, (lr, value), place, style in lines:
        y = alt.Y("value", type="quantitative", scale=scale, axis=axis)
        layers.append(alt.Chart(inline(table)).mark_line(clip=True, **style).encode(x=x, y=y))
        word = alt.Chart(inline(pl.DataFrame({"lr": [lr], "value": [value]})))
        layers.append(
            word.mark_text(text=name, color=style["color"], **{"align": "left"} | place, **look.NOTE).encode(x=x, y=y)
        )
    return layers


def _points(rows: pl.DataFrame, name: str, x: alt.X, y: alt.Y, legend: bool) -> list[Chart]:
    runs = rows["run"].unique(maintain_order=True).to_list()
    states = [state for state in STATES if state in rows["state"].to_list()]
    top = _near_top(y["scale"])
    shown = rows.with_columns(pl.when(pl.col("diverged") > 0).then(top).otherwise(pl.col(name)).alias(name))
    shown = shown.filter(pl.col(name).is_finite())
    key = alt.Legend(symbolStrokeColor=look.INK, symbolFillColor=look.INK) if legend else None
    runs_key = alt.Legend() if legend and len(runs) > 1 else None
    colour = alt.Color("run", type="nominal", scale=run_scales(runs)[0], legend=runs_key)
    shape = alt.Shape(
        "state",
        type="nominal",
        scale=alt.Scale(domain=states, range=[STATES[state] for state in states]),
        legend=key if states != ["threshold reached"] else None,
    )
    line = alt.Chart(inline(shown.filter(pl.col("diverged") == 0))).mark_line(strokeWidth=1.3, opacity=0.6, clip=True)
    marks = alt.Chart(inline(shown)).mark_point(size=40, filled=False, strokeWidth=1.8, opacity=1)
    fill = alt.Fill("run", type="nominal", scale=run_scales(runs)[0], legend=None)
    return [line.encode(x=x, y=y, color=colour), marks.encode(x=x, y=y, color=colour, fill=fill, shape=shape)]


def _near_top(scale: alt.Scale) -> float:
    """A value a little below the upper edge, where crosses stand whole."""
    low, high = scale["domain"]
    return low * (high / low) ** 0.95 if scale.to_dict().get("type") == "log" else low + 0.95 * (high - low)


def _best(rows: pl.DataFrame, x: alt.X, scale: alt.Scale) -> Chart:
    """A ring around the lowest test loss of each series."""
    held = rows.filter((pl.col("diverged") == 0) & pl.col("test_loss").is_finite())
    lowest = held.sort("test_loss").group_by("run", maintain_order=True).head(1)
    ring = alt.Chart(inline(lowest)).mark_point(size=190, filled=False, strokeWidth=1.6, color=look.INK, opacity=1)
    return ring.encode(x=x, y=alt.Y("test_loss", type="quantitative", scale=scale))
