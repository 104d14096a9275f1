"""Figures of measures that have no picture of their own: by any name, with one part or many."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from edgescope.figures import Figure, Mark, heat_map, series_panels
from edgescope.figures.chart import Chart
from edgescope.figures.heat_map import MOST_ROWS
from edgescope.figures.series import log_helps
from edgescope.report.run_report.names import coarser, file_name
from edgescope.report.run_report.scalars import About, about

MOST_FIGURES: Final = 20
"""Measures with a figure of their own; further ones share one of small panels."""

MOST_LINES: Final = 6
"""Parts that are lines of one figure, or panels; more are rows of a heat map."""

MOST_PANELS: Final = 40
MOST_MAPS: Final = 6
"""Small panels in the figure of further measures, and runs in one heat map."""

APART: Final = 10.0
"""Parts whose usual values differ by more than this factor have axes of their own."""

ORDER: Final = {"accuracy": -1, "time": 1}
"""What comes before and after the others, which are in the order in which they were measured."""


@dataclass(frozen=True)
class _Family:
    """Parts of one measure that belong together: all without a slash, or those with the same text before it."""

    measure: str
    prefix: str
    table: pl.DataFrame

    @property
    def parts(self) -> list[str]:
        return self.table["part"].unique(maintain_order=True).to_list()

    @property
    def name(self) -> str:
        return f"{self.measure} {self.prefix}".strip()


def other_figures(
    table: pl.DataFrame,
    names: Sequence[str],
    diverged: Collection[str],
    marks: Collection[Mark],
    words: str,
    known: Mapping[str, About],
    taken: set[str],
) -> Iterator[Figure]:
    """A figure for each measure in ``table`` (run, step, measure, part, value) that has a finite value.

    For one run the parts of a measure are lines of one figure; for several each part is a panel, and runs are lines.
    Many parts are a heat map. ``words`` belong to the ``marks`` and end each caption of a figure that has them.
    """
    families = [family for family in _families(table) if family.table["value"].is_finite().any()]
    families.sort(key=lambda family: ORDER.get(family.measure, 0))
    lost = [*names, *diverged] if len(names) == 1 and diverged else list(diverged)
    for family in families[:MOST_FIGURES]:
        said = about(known, family.measure)
        detail = family.prefix or (family.parts[0] if len(family.parts) == 1 else "")
        title = f"{said.title}: {detail}" if detail else said.title
        caption = _caption(said)
        if len(family.parts) > MOST_LINES:
            chart, more = _map(family, names, said)
            yield Figure(file_name(family.name, taken), title, caption + more, chart)
            continue
        chart = _lines(family, said, len(names) == 1, lost, marks)
        yield Figure(file_name(family.name, taken), title, caption + words, chart)
    if families[MOST_FIGURES:]:
        yield _further(families[MOST_FIGURES:], lost, taken)


def _families(table: pl.DataFrame) -> Iterator[_Family]:
    before = pl.col("part").str.extract(r"^([^/]*)/", 1).fill_null("")
    with_prefix = table.with_columns(prefix=before)
    alone = with_prefix.group_by("measure", "prefix").agg(pl.col("part").n_unique()).filter(pl.col("part") == 1)
    alone = alone.select("measure", "prefix", alone=pl.lit(True))
    named = with_prefix.join(alone, on=["measure", "prefix"], how="left", maintain_order="left")
    named = named.with_columns(prefix=pl.when(pl.col("alone")).then(pl.lit("")).otherwise("prefix"))
    for (measure, prefix), rows in named.group_by("measure", "prefix", maintain_order=True):
        yield _Family(str(measure), str(prefix), rows.select("run", "step", "part", "value"))


def _lines(family: _Family, said: About, single: bool, diverged: Collection[str], marks: Collection[Mark]) -> Chart:
    inner = pl.col("part").str.strip_prefix(f"{family.prefix}/") if family.prefix else pl.col("part")
    part = pl.when(pl.col("part") == "").then(pl.lit(family.measure)).otherwise(inner)
    if len(family.parts) == 1:
        panels = family.table.with_columns(panel=pl.lit(family.measure))
    elif single and _comparable(family.table):
        panels = family.table.with_columns(panel=pl.lit(family.measure), run=part)
        diverged = panels["run"].unique().to_list() if diverged else ()
    else:
        panels = family.table.with_columns(panel=part)
    titles = {family.measure: said.axis} if panels["panel"].n_unique() == 1 else None
    log = False if said.unit.startswith("share") else None
    return series_panels(panels, titles=titles, diverged=diverged, marks=marks, logarithmic=log)


def _comparable(table: pl.DataFrame) -> bool:
    """Whether the parts can share an axis: none is so small beside the others that it would lie on the ground."""
    finite = table.filter(pl.col("value").is_finite())
    usual = finite.group_by("part").agg(pl.col("value").abs().max())["value"]
    low, high = float(usual.min()), float(usual.max())  # type: ignore[arg-type]
    return low == high or log_helps(finite["value"]) or (low > 0 and high <= APART * low)


def _map(family: _Family, names: Sequence[str], said: About) -> tuple[Chart, str]:
    """The parts as rows; and what has to be said of it."""
    parts = [part.removeprefix(f"{family.prefix}/") if family.prefix else part for part in family.parts]
    groups = coarser(parts, MOST_ROWS)
    inner = pl.col("part").str.strip_prefix(f"{family.prefix}/") if family.prefix else pl.col("part")
    table = family.table.with_columns(row=inner.replace_strict(groups))
    drawn = [name for name in names if name in set(table["run"])][:MOST_MAPS]
    table = table.filter(pl.col("run").is_in(drawn))
    more = ""
    if len(set(groups.values())) < len(parts):
        more += f" The {len(parts)} parts are joined to {len(set(groups.values()))} rows, which have their means."
        finite = pl.when(pl.col("value").is_finite()).then(pl.col("value"))
        table = table.group_by("run", "row", "step", maintain_order=True).agg(finite.mean().alias("value"))
    if len(drawn) < len(names):
        more += f" The first {len(drawn)} runs are shown."
    log = log_helps(table["value"])
    title = said.unit if said.unit and len(said.unit) <= 24 else "value"
    return heat_map(table.select("run", "row", "step", "value"), title=title, logarithmic=log), more


def _further(families: Sequence[_Family], diverged: Collection[str], taken: set[str]) -> Figure:
    """One figure of small panels for all that is left."""
    panels = []
    for family in families:
        label = (
            pl.when(pl.col("part") == "")
            .then(pl.lit(family.measure))
            .otherwise(pl.concat_str(pl.lit(f"{family.measure} "), "part"))
        )
        panels.append(family.table.with_columns(panel=label))
    table = pl.concat(panels)
    names = table["panel"].unique(maintain_order=True).to_list()
    caption = "Further measures, by their names."
    if len(names) > MOST_PANELS:
        caption += f" {MOST_PANELS} of {len(names)} are shown; edgescope export gives the numbers of all."
    chart = series_panels(table.filter(pl.col("panel").is_in(names[:MOST_PANELS])), diverged=diverged)
    return Figure(file_name("further", taken), "Further measures", caption, chart)


def _caption(said: About) -> str:
    unit = f", in {said.unit}" if said.unit and said.unit != "1" else ""
    source = f" Source: {said.source.rstrip('.')}." if said.source and said.source != "definition" else ""
    return f"Measure {said.name}{unit}.{source}"
