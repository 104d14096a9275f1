"""Figures of the blocks of a model over the steps: how sharp each is, and which of them limits the learning rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from edgescope.figures import Figure, heat_map
from edgescope.figures.heat_map import MOST_ROWS
from edgescope.figures.series import log_helps
from edgescope.report.run_report.names import coarser

MOST_MAPS: Final = 6
"""Runs in one heat map."""


@dataclass(frozen=True)
class BlockParts:
    """Parts of a measure that have one for each block: what they are called, and how they are drawn.

    ``shares`` add up to 1 over the blocks of a step.
    """

    measure: str
    prefix: str
    name: str
    title: str
    caption: str
    colour: str
    shares: bool


DRAWN: Final = (
    BlockParts(
        "block_sharpness",
        "mass",
        "blocks-mass",
        "The direction that limits the learning rate, by block",
        "The share of each block in the squared norm of the sharpest direction in the metric of the optimizer, in "
        "which training oscillates at the edge of stability; the shares of a step sum to 1.",
        "share",
        shares=True,
    ),
    BlockParts(
        "block_sharpness",
        "top",
        "blocks-sharpness",
        "The sharpness of each block",
        "The largest eigenvalue of the diagonal block of the Hessian of each block, a part of the model. None of them "
        "is above the largest eigenvalue of the whole Hessian.",
        "eigenvalue λ",
        shares=False,
    ),
    BlockParts(
        "headroom",
        "share",
        "blocks-headroom",
        "The curvature along the last step, by block",
        "The share of each block in the curvature along the last step, which limits how long the step could be; the "
        "shares of a step sum to 1, and single ones may be negative (drawn as 0) or above 1.",
        "share",
        shares=True,
    ),
)


def block_figures(table: pl.DataFrame, names: Sequence[str]) -> Iterator[tuple[Figure, pl.DataFrame]]:
    """A heat map for each of ``DRAWN`` that has two blocks and two steps: with the measure and parts that it shows.

    ``table`` are scalars of runs (run, step, measure, part, value); ``names`` are the runs in their order, the first
    ``MOST_MAPS`` of which are drawn.
    """
    for kind in DRAWN:
        found = table.filter(
            pl.col("measure") == kind.measure,
            pl.col("part").str.starts_with(f"{kind.prefix}/"),
            pl.col("value").is_finite(),
        )
        if found["part"].n_unique() < 2 or found["step"].n_unique() < 2:
            continue
        drawn = [name for name in names if name in set(found["run"])][:MOST_MAPS]
        shown = found.select("measure", "part").unique()
        rows = found.filter(pl.col("run").is_in(drawn)).with_columns(row=pl.col("part").str.slice(len(kind.prefix) + 1))
        blocks = rows["row"].unique(maintain_order=True).to_list()
        groups = coarser(blocks, MOST_ROWS)
        caption = f"{kind.caption} Measure {kind.measure}."
        if len(set(groups.values())) < len(blocks):
            how = "sums" if kind.shares else "largest values"
            caption += (
                f" The {len(blocks)} blocks are joined to {len(set(groups.values()))} rows, which have their {how}."
            )
        if len(drawn) < found["run"].n_unique():
            caption += f" The first {len(drawn)} runs are shown."
        rows = rows.with_columns(pl.col("row").replace_strict(groups))
        joined = pl.col("value").sum() if kind.shares else pl.col("value").max()
        rows = rows.group_by("run", "row", "step", maintain_order=True).agg(joined)
        order = pl.DataFrame({"run": drawn, "place": range(len(drawn))})
        rows = rows.join(order, on="run", maintain_order="left").sort("place", maintain_order=True)
        highest = float(rows["value"].max())  # type: ignore[arg-type]
        chart = heat_map(
            rows.select("run", "row", "step", "value"),
            title=kind.colour,
            rows_title="block",
            logarithmic=not kind.shares and log_helps(rows["value"]),
            limits=(0.0, max(0.5, min(highest, 1.0))) if kind.shares else None,
        )
        yield Figure(kind.name, kind.title, caption, chart), shown
