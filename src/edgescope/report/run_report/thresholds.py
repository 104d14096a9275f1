"""The thresholds that eigenvalues of the Hessian itself can be compared with."""

from __future__ import annotations

from typing import Final

import polars as pl

ROUNDING: Final = 1e-9
"""Share of the sharpness below which two differences from it are the same."""


def plain_thresholds(table: pl.DataFrame) -> pl.DataFrame:
    """Run, step, threshold, decay: of those runs whose optimizer sees the eigenvalues of the Hessian plus one number.

    That number is ``decay``, what coupled weight decay adds to every eigenvalue (0 without): the effective sharpness
    less the sharpness, when it is the same at all steps though the sharpness is not. The threshold of the eigenvalues
    is that of the effective sharpness less ``decay``. ``table`` has the columns run, step, measure, part, value.
    """
    raw = _of(table, "sharpness", "1", "raw")
    effective = _of(table, "effective_sharpness", "", "effective")
    both = raw.join(effective, on=["run", "step"]).filter(pl.col("raw").is_finite() & pl.col("effective").is_finite())
    difference = pl.col("effective") - pl.col("raw")
    runs = both.group_by("run", maintain_order=True).agg(
        decay=difference.median(),
        zero=(difference == 0).all(),
        spread=difference.max() - difference.min(),
        size=pl.col("raw").abs().max(),
        moved=pl.col("raw").max() - pl.col("raw").min(),
    )
    # Under another metric the difference moves with the sharpness; where neither moves, nothing can be told.
    same = (pl.col("spread") <= ROUNDING * pl.col("size")) & (pl.col("moved") > 1e3 * ROUNDING * pl.col("size"))
    plain = runs.filter(pl.col("zero") | same).select("run", decay=pl.when("zero").then(0.0).otherwise("decay"))
    found = _of(table, "threshold", "", "threshold").join(plain, on="run")
    return found.select("run", "step", threshold=pl.col("threshold") - pl.col("decay"), decay="decay")


def _of(table: pl.DataFrame, measure: str, part: str, name: str) -> pl.DataFrame:
    found = table.filter(pl.col("measure") == measure, pl.col("part") == part)
    return found.select("run", "step", pl.col("value").alias(name))
