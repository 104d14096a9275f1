"""The weights of the largest neurons as fields of colour: which inputs a network looks at."""

from __future__ import annotations

import altair as alt
import polars as pl

from edgescope.figures import look
from edgescope.figures.chart import Chart
from edgescope.figures.lines import inline
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table

CELL = 9.5
NEGATIVE, NONE, POSITIVE = "#8a2a24", "#ffffff", "#1a63bc"


@shown_as_picture
def neuron_fields(table: pl.DataFrame) -> Chart:
    """A field a network, two side by side; a row a neuron, a column an input: red negative, white zero, blue positive.

    ``table`` has the columns ``network``, ``neuron``, ``input`` and ``weight``; networks are in its order, and colours
    reach to the largest weight of each. Raises :class:`InputError` for a table without rows or columns.
    """
    columns = {"network": "name", "neuron": "number", "input": "number", "weight": "number"}
    table = check_table(table, columns, "fields of neurons")
    table = table.with_columns(pl.col("weight") / pl.col("weight").abs().max().over("network"))
    panels: list[Chart] = []
    for name in table["network"].unique(maintain_order=True).to_list():
        rows = table.filter(pl.col("network") == name).with_columns(pl.col("neuron", "input").cast(pl.Int64))
        inputs, neurons = rows["input"].n_unique(), rows["neuron"].n_unique()
        scale = alt.Scale(domain=[-1, 0, 1], range=[NEGATIVE, NONE, POSITIVE], interpolate="rgb")
        ticks = [i for i in range(1, inputs + 1) if i in (1, 2) or i % 5 == 0]
        across = alt.X("input", type="ordinal", axis=alt.Axis(title="input", values=ticks, labelAngle=0))
        down = alt.Y("neuron", type="ordinal", axis=alt.Axis(title="neuron", labels=False, ticks=False))
        key = alt.Legend(title="weight / largest")
        chart = alt.Chart(inline(rows)).mark_rect(stroke="#e6e8eb", strokeWidth=0.4)
        chart = chart.encode(x=across, y=down, color=alt.Color("weight", type="quantitative", scale=scale, legend=key))
        title = alt.TitleParams(name, **look.NAME)
        panels.append(chart.properties(width=CELL * inputs, height=CELL * neurons, title=title))
    return alt.concat(*panels, columns=2, spacing=18)
