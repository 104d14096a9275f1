"""Runs in a few figures, for notebooks: still pictures that need no network and no scripts."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import altair as alt
import polars as pl

from edgescope.errors import InputError
from edgescope.figures import Figure, look
from edgescope.figures.chart import Chart
from edgescope.monitor import Monitor
from edgescope.monitor.notebook import readable
from edgescope.notebooks import escaped
from edgescope.printable import printable
from edgescope.report.pictures import inlined
from edgescope.report.run_report.figures import run_figures
from edgescope.report.run_report.scalars import scalars_of
from edgescope.store import Record

USUAL: Final = ("loss", "training_loss", "sharpness", "effective_sharpness", "threshold", "ratio")

COMPANIONS: Final = {"effective_sharpness": "effective-sharpness", "threshold": "threshold"}
"""Measures that the figure of the sharpness needs to draw a threshold, and the names of their own figures."""

SMALL: Final = 160
"""The height of a figure that is combined with others."""


@dataclass(frozen=True)
class RunPlot:
    """Figures of one or several runs; a notebook shows them below each other, and :meth:`save` writes them."""

    figures: tuple[Figure, ...]

    def _repr_html_(self) -> str:
        return "".join(figure_html(figure) for figure in self.figures)

    def save(self, folder: Path | str) -> list[Path]:
        """Write each figure as SVG, PNG and PDF into ``folder``; the paths."""
        return [path for figure in self.figures for path in figure.save(folder).values()]

    def combined(self, name: str, title: str) -> Figure:
        """All figures below each other in a single one, each with its title above it; ``name`` and ``title`` are its
        own."""
        parts = [_part(each, SMALL if len(self.figures) > 1 else look.HEIGHT) for each in self.figures]
        caption = " ".join(each.caption for each in self.figures)
        chart = alt.vconcat(*parts, spacing=18).resolve_scale(color="independent", shape="independent")
        return Figure(name, title, caption, chart)


def plot_run(record: Record, *measures: str) -> RunPlot:
    """Loss, eigenvalues with their threshold, and ratio of a run, or these ``measures``, by name.

    Raises :class:`InputError` for a record without any of them, and for one that it does not have. Cost: one pass over
    the record.
    """
    return plot_runs({printable(record.folder.name) or "run": record}, *measures)


def plot_runs(runs: Mapping[str, Record | Monitor], *measures: str) -> RunPlot:
    """Several runs in the same figures, by the names that the legend gives them: ``{"Adam": monitor, ...}``.

    Loss, eigenvalues with their threshold, and ratio, or these ``measures``, by name; also parts of them, such as
    ``"headroom/ratio"``. A run is a record, or a monitor
    whose record is open or in a folder. Raises :class:`InputError` for no runs, for a measure that no run has, and
    where there is nothing to draw. Cost: one pass over each record.
    """
    if not runs:
        raise InputError("no runs to plot", expected="records or monitors by name")
    with contextlib.ExitStack() as opened:
        records = {
            name: opened.enter_context(readable(run.record)) if isinstance(run, Monitor) else run
            for name, run in runs.items()
        }
        table = pl.concat([scalars_of(name, record.pieces()) for name, record in records.items()])
        wanted = set(measures or USUAL)
        companions = COMPANIONS if "sharpness" in wanted else dict[str, str]()
        chosen = pl.any_horizontal(*(_named(name) for name in {*wanted, *companions}))
        known = table["measure"].unique(maintain_order=True).to_list()
        for measure in measures:
            if table.filter(_named(measure)).is_empty():
                raise InputError(f"no measure '{measure}' in the record", expected=f"one of {', '.join(known)}")
        drawn = table.filter(chosen)
        figures = tuple(run_figures(records, drawn, arrays=False)) if not drawn.is_empty() else ()
    if not figures:
        raise InputError("the record has nothing to plot yet", expected="readings of at least one of its measures")
    own = set() if wanted & companions.keys() else set(companions.values())  # figures that nobody asked for
    return RunPlot(tuple(figure for figure in figures if figure.name not in own))


def _named(name: str) -> pl.Expr:
    """Whether a row is of a measure, or of a part or group of parts of one: "headroom/ratio", "block_sharpness/top"."""
    measure, _, part = name.partition("/")
    own = pl.col("measure") == measure
    return own & ((pl.col("part") == part) | pl.col("part").str.starts_with(f"{part}/")) if part else own


def _part(figure: Figure, height: float) -> Chart:
    """The chart of a figure with its title above it; a single panel at this height."""
    chart = figure.chart.properties(title=alt.TitleParams(figure.title, **look.NAME | {"fontSize": 13}))
    return chart.properties(height=height) if isinstance(chart, alt.LayerChart | alt.Chart) else chart


def figure_html(figure: Figure) -> str:
    """A figure as HTML: its title, the picture as SVG on white, and the caption."""
    picture = inlined(figure.svg(), f"plot-{figure.name}", figure.title)
    return (
        f'<figure style="margin:0 0 1em"><strong>{escaped(figure.title)}</strong>'
        f'<div style="background:white;width:fit-content">{picture}</div>'
        f"<figcaption>{escaped(figure.caption)}</figcaption></figure>"
    )
