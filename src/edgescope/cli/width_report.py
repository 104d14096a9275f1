"""What a sweep over learning rates at several widths found: in words, a table and a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import polars as pl
from rich import box
from rich.table import Table

from edgescope.cli.sweep_words import CRITERIA
from edgescope.figures import Figure, width_panels
from edgescope.report.numbers import number
from edgescope.store import Record
from edgescope.training.best_rate import Criterion
from edgescope.training.width_transfer import WidthTransfer, width_of

METRIC = "effective_sharpness"


def several_widths(records: Mapping[str, Record]) -> bool:
    """Whether the runs of a sweep differ in the width of their network."""
    return len({width_of(record.config) for record in records.values()}) > 1


def means_by_width(table: pl.DataFrame, criterion: Criterion) -> pl.DataFrame:
    """One row for each width and learning rate, in order, with means over seeds.

    The columns are ``width``, ``lr``, ``loss`` (that of the criterion), ``sharpness`` (in the metric of the optimizer
    where it is known, else the plain one), and ``regime``, that of all seeds. A mean is null if a run diverged.
    """
    known = table[METRIC].drop_nulls().len() > 0
    diverged = pl.col("diverged").any()

    def mean(column: str) -> pl.Expr:
        return pl.when(diverged).then(None).otherwise(pl.col(column).mean())

    return (
        table.group_by("width", "lr")
        .agg(
            mean(criterion).alias("loss"),
            mean(METRIC if known else "sharpness").alias("sharpness"),
            pl.col("regime").unique(maintain_order=True).str.join(", "),
            pl.lit(CRITERIA[criterion]).first().alias("criterion"),
            pl.lit(known).first().alias("in_metric"),
        )
        .sort("width", "lr")
    )


def width_table(means: pl.DataFrame) -> Table:
    """One line for each width and learning rate. Fits 80 columns unless seeds differ in regime."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("width", "rate", sharpness_name(means), means["criterion"][0]):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("regime")
    for row in means.iter_rows(named=True):
        figures = ("" if row[name] is None else f"{row[name]:.4g}" for name in ("sharpness", "loss"))
        shown.add_row(str(row["width"]), f"{row['lr']:.4g}", *figures, row["regime"])
    return shown


def sharpness_name(means: pl.DataFrame) -> str:
    """What the sharpness of these means is called."""
    return "effective sharpness" if means["in_metric"][0] else "sharpness"


def width_words(means: pl.DataFrame, transfer: WidthTransfer) -> list[str]:
    """The best rate at each width, whether it transfers, and how the sharpness depends on the width."""
    lines = []
    for width, best in transfer.best.items():
        if best is None:
            lines.append(f"width {width}: no best learning rate, since every one has a run that diverged or failed.")
            continue
        tried = " (an end of the rates that were tried)" if best.low_open or best.high_open else ""
        alone = best.low == best.high
        good = "no neighbouring one is as good" if alone else f"as good from {best.low:g} to {best.high:g}"
        name = CRITERIA[best.criterion]
        lines.append(f"width {width}: best {name} {number(best.value)} at learning rate {best.lr:g}; {good}{tried}.")
    widths = list(transfer.best)
    if transfer.transfers is None:
        lines.append("whether the best learning rate transfers across these widths is not known.")
    elif transfer.transfers:
        common = f"{transfer.low:g}" if transfer.low == transfer.high else f"{transfer.low:g} to {transfer.high:g}"
        lines.append(
            f"the best learning rate transfers from width {widths[0]} to {widths[-1]}: {common} is as good as the best "
            "at every width."
        )
    else:
        rates = ", ".join(f"{best.lr:g} at {width}" for width, best in transfer.best.items() if best is not None)
        lines.append(f"the best learning rate does not transfer: none is as good as the best at every width ({rates}).")
    return [*lines, *_sharpness_words(means, widths)]


def _sharpness_words(means: pl.DataFrame, widths: list[int]) -> list[str]:
    """The sharpness at each width, at the middle one of the rates that ended at every width."""
    held = means.filter(pl.col("sharpness").is_finite() & (pl.col("sharpness") > 0))
    everywhere = held.group_by("lr").len().filter(pl.col("len") == len(widths))["lr"].sort().to_list()
    if not everywhere:
        return []
    lr = everywhere[len(everywhere) // 2]
    values = held.filter(pl.col("lr") == lr).sort("width")["sharpness"].to_list()
    power = math.log(values[-1] / values[0]) / math.log(widths[-1] / widths[0])
    shown = ", ".join(f"{value:.4g} at {width}" for width, value in zip(widths, values, strict=True))
    return [
        f"{sharpness_name(means)} at learning rate {lr:g} after equally many steps: {shown}; between the smallest and "
        f"the largest width it changes as width to the power {power:.2f}."
    ]


def width_pictures(means: pl.DataFrame, criterion: Criterion) -> list[Figure]:
    """The loss over the learning rate at each width, and the sharpness over the width; none where all runs diverged."""
    if not any((means[name].is_finite() & (means[name] > 0)).any() for name in ("loss", "sharpness")):
        return []
    name = sharpness_name(means)
    return [
        Figure(
            "widths",
            "Loss and sharpness over learning rate and width",
            f"Means over seeds after equally many steps. Above: the {CRITERIA[criterion]} over the learning rate, a "
            "line for each width; the best learning rate transfers if the minima are at the same place. Below: the "
            f"{name} over the width, a line for each learning rate. Runs that diverged are left out.",
            width_panels(means, loss=CRITERIA[criterion], sharpness=name),
        )
    ]
