"""A spike of the loss with the warnings before it: loss and norms of the steps, below each other, events marked."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from edgescope.figures import look
from edgescope.figures.axes import linear_axis, log_axis
from edgescope.figures.chart import Chart
from edgescope.figures.lines import Lines, inline
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

HEIGHT = 130

WARNING, SPIKE = "warning", "spike"

SIGNS = {WARNING: (look.PALETTE[2], "triangle-down", 7), SPIKE: (look.ALARM, "cross", 20)}
"""Colour, shape, and height above the panel of the sign of each kind of event."""


@shown_as_picture
def spike_panels(
    losses: pl.DataFrame,
    norms: pl.DataFrame | None,
    *,
    warnings: Sequence[float] = (),
    spikes: Sequence[float] = (),
    cutoff: float | None = None,
    title: str = "training loss",
) -> Chart:
    """The loss on a logarithmic axis, below it the norm of each step over the median of those before it.

    ``losses`` and ``norms`` have the columns ``step`` and ``value``; without ``norms`` there is the loss alone.
    ``warnings`` and ``spikes`` are steps: a dotted line in every panel, above the first a triangle for a warning and a
    cross for a spike. ``cutoff`` draws a dashed line at the norm above which the curvature is measured. Losses that are
    not positive are left out. Raises :class:`InputError` for a table without rows, columns or values that can be shown.
    """
    what = "a chart of a spike"
    columns = {"step": "number", "value": "number"}
    tables = [check_table(losses, columns, what), *([] if norms is None else [check_table(norms, columns, what)])]
    steps = [float(table[end]) for table, end in ((tables[0]["step"].sort(), 0), (tables[0]["step"].sort(), -1))]
    events = [(SPIKE, float(step)) for step in spikes] + [(WARNING, float(step)) for step in warnings]
    events = [(kind, step) for kind, step in events if steps[0] <= step <= steps[1]]
    panels: list[Chart] = []
    for number, table in enumerate(tables):
        lines = Lines.of(table.with_columns(run=pl.lit("")), "step", "value", ["run"], what, positive=number == 0)
        limits = lines.limits()
        if number == 0:
            scale, axis = log_axis(title, limits)
        else:
            scale, axis = linear_axis("step / its median", [*limits, *([] if cutoff is None else [1.1 * cutoff])])
        last = number == len(tables) - 1
        layers = _marks(events, signs=number == 0)
        layers += lines.layers(scale, axis, x_titled=last, legend=False)
        if number == 1 and cutoff is not None:
            rule = alt.Chart(inline(pl.DataFrame({"cutoff": [float(cutoff)]}))).mark_rule(**look.EXPECTED)
            layers.append(rule.encode(y=alt.Y("cutoff", type="quantitative", scale=scale, axis=axis)))
        panels.append(alt.layer(*layers).properties(width=look.WIDTH, height=HEIGHT))
    return panels[0] if len(panels) == 1 else alt.vconcat(*panels, spacing=10)


def _marks(events: list[tuple[str, float]], signs: bool) -> list[Chart]:
    """Dotted lines at the steps of events, and with ``signs`` what they are: a row for each kind above the panel."""
    layers: list[Chart] = []
    for kind, (colour, shape, height) in SIGNS.items():
        steps = [step for other, step in events if other == kind]
        if not steps:
            continue
        base = alt.Chart(inline(pl.DataFrame({"step": steps}))).encode(x=alt.X("step", type="quantitative"))
        layers.append(base.mark_rule(strokeWidth=1, opacity=0.7, strokeDash=[1, 2], clip=True, color=colour))
        if signs:
            points = base.mark_point(size=48, filled=True, opacity=1, color=colour, shape=shape)
            layers.append(points.encode(y=alt.value(-height)))
            word = alt.Chart(inline(pl.DataFrame({"kind": [kind]}))).mark_text(
                align="left", dx=6, color=colour, **look.NOTE
            )
            layers.append(word.encode(x=alt.value(look.WIDTH), y=alt.value(-height), text="kind:N"))
    return layers
