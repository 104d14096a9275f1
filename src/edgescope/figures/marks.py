"""Steps at which something happened, marked by letters at the top of a chart over steps."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import altair as alt
import polars as pl

from edgescope.figures import look
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline
from edgescope.figures.picture import shown_as_picture

MOST_LETTERS = 12
"""Marks that have letters; more would run into each other and are ticks alone."""


class Mark(NamedTuple):
    """A ``letter`` at a ``step``; ``alarm`` draws it in red."""

    letter: str
    step: float
    alarm: bool = False


@shown_as_picture
def marked(chart: Chart, marks: Collection[Mark], x: str = "step") -> Chart:
    """The chart with a thin vertical line for each mark, its letter beside its top; several at one step share one."""
    if not marks:
        return chart
    rows = pl.DataFrame(
        [(mark.letter, float(mark.step), mark.alarm) for mark in marks], schema=["letter", x, "alarm"], orient="row"
    )
    rows = rows.group_by(x, maintain_order=True).agg(pl.col("letter").str.join(" "), pl.col("alarm").any())
    layers = [chart]
    for alarm, colour in ((False, look.MUTED), (True, look.ALARM)):
        some = rows.filter(pl.col("alarm") == alarm)
        if some.is_empty():
            continue
        base = alt.Chart(inline(some)).encode(x=alt.X(x, type="quantitative"))
        layers.append(base.mark_rule(strokeWidth=1, opacity=0.6, strokeDash=[1, 2], clip=True, color=colour))
        if len(marks) <= MOST_LETTERS:
            word = base.mark_text(align="left", dx=3, dy=7, color=colour, **look.NOTE)  # inside: live charts clip
            layers.append(word.encode(y=alt.value(0), text=alt.Text("letter", type="nominal")))
    return alt.layer(*layers)
