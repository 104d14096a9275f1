"""A run in a few figures, for notebooks: still pictures that need no network and no scripts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from edgescope.errors import InputError
from edgescope.figures import Figure
from edgescope.notebooks import escaped
from edgescope.printable import printable
from edgescope.report.pictures import inlined
from edgescope.report.run_report.figures import run_figures
from edgescope.report.run_report.scalars import scalars_of
from edgescope.store import Record

USUAL: Final = ("loss", "training_loss", "sharpness", "effective_sharpness", "threshold", "ratio")


@dataclass(frozen=True)
class RunPlot:
    """Figures of a run; a notebook shows them below each other, and :meth:`save` writes them."""

    figures: tuple[Figure, ...]

    def _repr_html_(self) -> str:
        return "".join(figure_html(figure) for figure in self.figures)

    def save(self, folder: Path | str) -> list[Path]:
        """Write each figure as SVG, PNG and PDF into ``folder``; the paths."""
        return [path for figure in self.figures for path in figure.save(folder).values()]


def plot_run(record: Record, *measures: str) -> RunPlot:
    """Loss, eigenvalues with their threshold, and ratio of a run, or these ``measures``, by name.

    Raises :class:`InputError` for a record without any of them, and :class:`UnknownNameError` for one that it does not
    have. Cost: one pass over the record.
    """
    name = printable(record.folder.name) or "run"
    table = scalars_of(name, record.pieces())
    known = table["measure"].unique(maintain_order=True).to_list()
    for measure in measures:
        if measure not in known:
            raise InputError(f"no measure '{measure}' in the record", expected=f"one of {', '.join(known)}")
    drawn = table.filter(pl.col("measure").is_in(measures or USUAL))
    figures = tuple(run_figures({name: record}, drawn, arrays=False)) if not drawn.is_empty() else ()
    if not figures:
        raise InputError("the record has nothing to plot yet", expected="readings of at least one of its measures")
    return RunPlot(figures)


def figure_html(figure: Figure) -> str:
    """A figure as HTML: its title, the picture as SVG on white, and the caption."""
    picture = inlined(figure.svg(), f"plot-{figure.name}", figure.title)
    return (
        f'<figure style="margin:0 0 1em"><strong>{escaped(figure.title)}</strong>'
        f'<div style="background:white;width:fit-content">{picture}</div>'
        f"<figcaption>{escaped(figure.caption)}</figcaption></figure>"
    )
