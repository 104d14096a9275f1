"""Loss against step or time, several runs; the training loss solid, the test loss dashed."""

from __future__ import annotations

import altair as alt
import polars as pl

from edgescope.figures import look
from edgescope.figures.axes import X, limits, log_axis, x_title
from edgescope.figures.lines import Lines
from edgescope.figures.thin import check_table


def loss_curves(table: pl.DataFrame, *, x: X = "step", title: str = "loss") -> alt.LayerChart:
    """Loss on a logarithmic axis.

    ``table`` has the columns ``run``, ``step`` (or ``time``: learning rate times step), ``loss`` and, where there is
    a test loss beside it, ``split`` (``"train"`` or ``"test"``). A run whose last loss is not finite is marked as
    diverged at its last finite one. ``title`` names the loss on its axis, with its formula: ``"loss ½|f − y|²"``.
    Raises :class:`InputError` for a table without rows, columns or positive values.
    """
    columns = {"run": "name", x: "number", "loss": "number"}
    by = ["run"]
    if "split" in table.columns:
        columns["split"], by = "name", ["run", "split"]
    lines = Lines.of(check_table(table, columns, "loss curves"), x, "loss", by, "loss curves", positive=True)
    scale, axis = log_axis(title, limits(lines.points))
    detail: dict[str, alt.StrokeDash] = {}
    if "split" in columns:
        kinds = [s for s in ("train", "test") if s in lines.points["split"]]
        dashes = [{"train": [1, 0], "test": look.DASH}[s] for s in kinds]
        legend = alt.Legend(symbolType="stroke") if len(kinds) > 1 else None
        detail["strokeDash"] = alt.StrokeDash(
            "split", type="nominal", scale=alt.Scale(domain=kinds, range=dashes), legend=legend
        )
    layers = lines.layers(
        alt.Axis(title=x_title(x, lines.rows)), scale, axis, detail, marked=pl.col("split") == kinds[0] if detail else None
    )
    return alt.layer(*layers)
