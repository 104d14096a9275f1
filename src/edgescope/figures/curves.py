"""Loss against step or time, several runs; the training loss solid, the test loss dashed, or another such pair."""

from __future__ import annotations

from collections.abc import Collection

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import look
from edgescope.figures.axes import X, log_axis
from edgescope.figures.chart import Chart
from edgescope.figures.lines import Lines
from edgescope.figures.picture import shown_as_picture
from edgescope.figures.thin import check_table


@shown_as_picture
def loss_curves(
    table: pl.DataFrame,
    *,
    x: X = "step",
    diverged: Collection[str] = (),
    title: str = "loss",
    pair: tuple[str, str] = ("train", "test"),
) -> Chart:
    """Loss on a logarithmic axis.

    ``table`` has the columns ``run``, ``step`` (or ``time``: learning rate times step), ``loss`` and, where there is
    a test loss beside it, ``split``: a name of ``pair``, the first drawn solid, the second dashed. Runs that
    ``diverged`` names, and those whose last loss is not finite, are crossed where they leave the picture. ``title``
    names the loss on its axis, with its formula: ``"loss ½|f − y|²"``. Raises :class:`InputError` for a table without
    rows, columns or positive values.
    """
    what = "loss curves"
    columns = {"run": "name", x: "number", "loss": "number"}
    if "split" not in table.columns:
        table = check_table(table, columns, what)
        lines = Lines.of(table, x, "loss", ["run"], what, diverged=diverged, positive=True)
        return alt.layer(*lines.layers(*log_axis(title, lines.limits())))
    table = check_table(table, columns | {"split": "name"}, what)
    lines = Lines.of(table, x, "loss", ["run", "split"], what, diverged=diverged, positive=True)
    dashes = {pair[0]: [1, 0], pair[1]: look.DASH}
    splits = [split for split in dashes if split in lines.points["split"]]
    if not splits:
        raise InputError(f"the table for {what} has no split '{pair[0]}' or '{pair[1]}'", expected="one in each row")
    dash = alt.StrokeDash(
        "split",
        type="nominal",
        scale=alt.Scale(domain=splits, range=[dashes[split] for split in splits]),
        legend=alt.Legend(symbolType="stroke", symbolSize=400) if len(splits) > 1 else None,
    )
    marked = pl.col("split") == splits[0]
    return alt.layer(*lines.layers(*log_axis(title, lines.limits()), line={"strokeDash": dash}, marked=marked))
