"""The figures of the study `dimension`."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from edgescope.experiments.dimension.grid import CONTROLS, TARGETS, Correlations
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure, correlation_dots, scatter_panels

FAMILIES = {
    ("mlp", ""): "small networks",
    ("wide", ""): "larger networks",
    ("gpt", "adamw"): "language models under AdamW",
}

SHOWN = (
    "SD exact",
    "SD-SLQ",
    "SD exact, fixed η",
    "RDS sharpness",
    "largest eigenvalue",
    "trace",
    "PH dimension",
    "lifetime sum",
    "gradient noise",
)


def dimension_figures(runs: Runs) -> list[Figure]:
    """The figures of every family that has runs."""
    return [figure for (role, kind), words in FAMILIES.items() for figure in _of_family(runs, role, kind, words)]


def _of_family(runs: Runs, role: str, kind: str, words: str) -> Iterator[Figure]:
    found = Correlations.of(runs, role, kind)
    if found.points < 4:
        return
    family = f"{role}-{kind}" if kind else role
    table = found.table()
    if not table.is_empty():
        yield Figure(
            f"correlations-{family}",
            f"What follows the generalization gap: {words}",
            f"Rank correlations of each measure with the gaps between test and training, over {found.points} networks: "
            "Kendall's τ; the granulated coefficient Ψ, the mean of τ along learning rates and along batch sizes, all "
            "else equal; and the partial rank correlation given both. Lines are 95% bootstrap intervals. Without "
            f"association τ has a standard deviation of {found.noise:.2f}.",
            correlation_dots(table),
        )
    cells = found.grid
    shown = [name for name in SHOWN if name in cells.columns and cells[name].drop_nulls().len()]
    for target in TARGETS:
        rows = pl.concat(
            cells.select(*CONTROLS, measure=pl.lit(name), value=pl.col(name).cast(pl.Float64), target=pl.col(target))
            for name in shown
        ).drop_nulls()
        if rows.is_empty():
            continue
        yield Figure(
            f"scatter-{family}-{target.replace(' ', '-')}",
            f"The {target} against each measure: {words}",
            "A point a network; colour by learning rate, shape by batch size. A measure that only sorts the learning "
            "rates shows as bands of one colour.",
            scatter_panels(rows, y_title=target),
        )
