"""Long series made short for drawing: mean, lowest and highest a bin, so that no spike is lost."""

from __future__ import annotations

import polars as pl

from edgescope.errors import InputError

BINS = 240
"""Points a long line: about two pixels each at the width of these charts. Up to twice as many are drawn as they are."""


def check_table(table: pl.DataFrame, columns: dict[str, str], what: str) -> pl.DataFrame:
    """The named columns of ``table``; ``columns`` says of each whether it is a ``"name"`` or a ``"number"``.

    Raises :class:`InputError` for an empty table, a missing column and a number column that holds none.
    """
    if not isinstance(table, pl.DataFrame):
        raise InputError(f"{what} made from a {type(table).__name__}", expected="a polars DataFrame")
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(f"the table for {what} has no column {', '.join(missing)}", expected=", ".join(columns))
    if table.is_empty():
        raise InputError(f"the table for {what} is empty", expected="at least one row")
    for name, kind in columns.items():
        if kind == "number" and not table[name].dtype.is_numeric():
            raise InputError(f"column {name} for {what} is of type {table[name].dtype}", expected="numbers")
    casts = [pl.col(c).cast(pl.Float64 if kind == "number" else pl.String) for c, kind in columns.items()]
    return table.select(casts)


def thin(table: pl.DataFrame, x: str, y: str, by: list[str], bins: int = BINS) -> pl.DataFrame:
    """At most ``2 bins`` rows a series: the columns ``by``, then ``x`` (mean), ``low``, ``mean``, ``high``, ``rows``.

    Every combination of ``by`` is a series, sorted by ``x``. A series of at most ``2 bins`` rows is kept as it is; a
    longer one is cut into ``bins`` stretches of consecutive rows. Rows that are not finite are dropped. The lowest and
    the highest value of every series are kept exactly.
    """
    finite = table.filter(pl.col(x).is_finite() & pl.col(y).is_finite()).sort(x, maintain_order=True)
    place, count = pl.int_range(pl.len()).over(by), pl.len().over(by)
    stretch = pl.when(count <= 2 * bins).then(place).otherwise(place * bins // count).alias("stretch")
    summary = [
        pl.col(x).mean(),
        pl.col(y).min().alias("low"),
        # The mean of equal numbers may round to just outside their range.
        pl.col(y).mean().clip(pl.col(y).min(), pl.col(y).max()).alias("mean"),
        pl.col(y).max().alias("high"),
        pl.len().alias("rows"),
    ]
    return finite.with_columns(stretch).group_by([*by, "stretch"], maintain_order=True).agg(summary).drop("stretch")


def thin_with_gaps(table: pl.DataFrame, x: str, y: str, by: list[str], bins: int = BINS) -> pl.DataFrame:
    """As :func:`thin`, and where a series has no value: further columns ``segment`` and ``lost``.

    Rows of one ``segment`` are connected; between two segments there is nothing that could be drawn. ``lost`` counts
    the measurements in a row that are null or not finite, and rows that have no other are kept, with null values. The
    stretches of a long series count all of its measurements.
    """
    ordered = table.filter(pl.col(x).is_finite()).sort(x, maintain_order=True)
    place, count = pl.int_range(pl.len()).over(by), pl.len().over(by)
    stretch = pl.when(count <= 2 * bins).then(place).otherwise(place * bins // count).alias("stretch")
    value = pl.when(pl.col(y).is_finite()).then(pl.col(y))
    summary = [
        pl.coalesce(pl.col(x).filter(value.is_not_null()).mean(), pl.col(x).mean()).alias(x),
        value.min().alias("low"),
        value.mean().clip(value.min(), value.max()).alias("mean"),
        value.max().alias("high"),
        value.count().alias("rows"),
        value.is_null().sum().alias("lost"),
    ]
    points = ordered.with_columns(stretch).group_by([*by, "stretch"], maintain_order=True).agg(summary).drop("stretch")
    return points.with_columns((pl.col("rows") == 0).cum_sum().over(by).alias("segment"))


def thin_to_extremes(table: pl.DataFrame, x: str, y: str, by: list[str], bins: int = BINS) -> pl.DataFrame:
    """At most ``2 bins`` rows a series, sorted by ``x``: those with the lowest and the highest ``y`` of each stretch.

    As :func:`thin`, for a line without a band; rows are kept as they are. Rows that are not finite are dropped.
    """
    finite = table.filter(pl.col(x).is_finite() & pl.col(y).is_finite()).sort(x, maintain_order=True)
    place, count = pl.int_range(pl.len()).over(by), pl.len().over(by)
    stretch = finite.with_columns(stretch=place * bins // count, all=count <= 2 * bins)
    ends = [pl.col(y).arg_min().over([*by, "stretch"]), pl.col(y).arg_max().over([*by, "stretch"])]
    within = pl.int_range(pl.len()).over([*by, "stretch"])
    return stretch.filter(pl.col("all") | (within == ends[0]) | (within == ends[1])).drop("stretch", "all")


def not_finite_at_last(table: pl.DataFrame, x: str, y: str) -> list[str]:
    """The runs of which some series ends in a value that is not finite."""
    series = [c for c in table.columns if c not in (x, y)]
    last = table.sort(x, maintain_order=True).group_by(series, maintain_order=True).agg(pl.col(y).last())
    return last.filter(~pl.col(y).is_finite().fill_null(False))["run"].unique(maintain_order=True).to_list()
