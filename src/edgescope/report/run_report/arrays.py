"""The arrays that runs recorded: spectra, the oscillating direction by layer, and those of users' own measures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from edgescope.figures import Figure, heat_map, spectral_ridge
from edgescope.figures.heat_map import COLUMNS, MOST_ROWS
from edgescope.printable import printable
from edgescope.report.run_report.names import coarser, file_name
from edgescope.store import Record
from edgescope.store.arrays import arrays_at, kinds_of_arrays, steps_with_array

MOST_SPECTRA: Final = 12
MOST_MOMENTS: Final = 24
"""Runs whose spectra are drawn, and moments of each."""

MOST_MAPS: Final = 6
"""Runs in one heat map."""

LAYERED: Final = {
    "sharpness": ("layers", "The sharpest direction, by layer", "the first eigenvector of the Hessian"),
    "effective_sharpness": (
        "effective-layers",
        "The direction that is sharpest for the optimizer, by layer",
        "the first eigenvector of the Hessian that the optimizer's preconditioner has scaled",
    ),
}
"""Measures with an array of shares by layer; name, title and direction of their figure."""

MOST_BYTES: Final = 1 << 20
"""Arrays of users' own measures that are larger are not drawn."""


def spectra(record: Record, most: int | None = None, measure: str = "spectrum") -> tuple[pl.DataFrame, int]:
    """The spectra of a record, of ``most`` moments evenly spaced or of all: moment, node, weight; and how many it has.

    Empty where none was taken.
    """
    steps = steps_with_array(record, measure, "nodes")
    drawn = evenly(steps, most) if most is not None else steps
    weights = dict(arrays_at(record, measure, "weights", drawn))
    parts = []
    for step, nodes in arrays_at(record, measure, "nodes", drawn):
        if step in weights and weights[step].shape == nodes.shape:
            moment = [f"step {step}"] * len(nodes)
            parts.append(pl.DataFrame({"moment": moment, "node": nodes, "weight": weights[step]}))
    return (pl.concat(parts) if parts else pl.DataFrame()), len(steps)


def evenly(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of the steps, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def array_figures(records: Mapping[str, Record], thresholds: pl.DataFrame, taken: set[str]) -> Iterator[Figure]:
    """Layers of the oscillating direction, spectra over training, and heat maps of any other arrays.

    ``thresholds`` (run, step, threshold) are those that eigenvalues of the Hessian can be compared with; names in
    ``taken`` are not used for files.
    """
    kinds = [kinds_of_arrays(record).with_columns(run=pl.lit(name)) for name, record in records.items()]
    table = pl.concat(kinds) if kinds else pl.DataFrame()
    if table.is_empty():
        return
    pairs = table.select("measure", "part").unique(maintain_order=True).sort("measure", "part").rows()
    for measure in LAYERED:
        if (measure, "layers") in pairs:
            yield from _layers(measure, records)
    with_nodes = [m for m, part in pairs if part == "nodes" and (m, "weights") in pairs]
    drawn = 0
    for measure in with_nodes:
        for number, (name, record) in enumerate(records.items(), 1):
            figure = None if drawn == MOST_SPECTRA else _ridge(measure, number, name, record, thresholds)
            if figure is not None:
                drawn += 1
                yield figure
    for measure, part in pairs:
        by_layer = measure in LAYERED and part == "layers"
        shown = by_layer or (measure in with_nodes and part in ("nodes", "weights"))
        of = table.filter(measure=measure, part=part)
        if not shown and int(of["bytes"].max()) <= MOST_BYTES:  # type: ignore[arg-type]
            yield from _own(measure, part, {name: records[name] for name in of["run"]}, taken)


def _ridge(measure: str, number: int, name: str, record: Record, thresholds: pl.DataFrame) -> Figure | None:
    """The spectra of one run, one step above the other; None where it has none."""
    moments, count = spectra(record, MOST_MOMENTS, measure)
    if moments.is_empty():
        return None
    known = thresholds.filter(pl.col("run") == name, pl.col("threshold").is_finite())["threshold"]
    fewer = f" {MOST_MOMENTS} of {count} steps are shown, evenly spaced." if count > MOST_MOMENTS else ""
    ours = measure == "spectrum"
    return Figure(
        f"spectrum-{number}" if ours else f"{file_name(measure, set())}-spectrum-{number}",
        f"The spectrum over training: {name}" if ours else printable(f"{measure}: {name}"),
        "Density of the eigenvalues of the Hessian, logarithmic over six decades, one step above the other; "
        f"dashed: the last threshold, where it can be compared.{fewer}",
        spectral_ridge(moments, threshold=known[-1] if len(known) and ours else None),
    )


def _layers(measure: str, records: Mapping[str, Record]) -> Iterator[Figure]:
    """In which layers the oscillating direction lies, by one of the measures ``LAYERED``."""
    tables: list[pl.DataFrame] = []
    for name, record in records.items():
        if len(tables) == MOST_MAPS:
            break
        rows = _shares(name, record, measure)
        if not rows.is_empty():
            tables.append(rows)
    if not tables:
        return
    table = pl.concat(tables)
    if table["row"].n_unique() < 2 and len(tables) == 1:
        return
    fewer = f" The first {MOST_MAPS} runs are shown." if len(records) > MOST_MAPS == len(tables) else ""
    name, title, direction = LAYERED[measure]
    yield Figure(
        name,
        title,
        f"The share of each layer in the squared norm of {direction}, the direction in which training oscillates at "
        f"the edge of stability; the shares of a step sum to 1. Measure {measure}.{fewer}",
        heat_map(table, title="share", rows_title="layer", limits=(0.0, max(0.5, float(table["value"].max())))),  # type: ignore[arg-type]
    )


def _shares(name: str, record: Record, measure: str) -> pl.DataFrame:
    """Run, row (a layer), step, value (its share)."""
    steps = evenly(steps_with_array(record, measure, "layers"), 4 * COLUMNS)
    noted: Any = record.info.get("tensors")
    names = [printable(str(each)) for each in noted] if isinstance(noted, list) else []
    tables = []
    for step, shares in arrays_at(record, measure, "layers", steps):
        labels = names if len(names) == len(shares) else [f"tensor {place}" for place in range(len(shares))]
        tables.append(pl.DataFrame({"row": labels, "value": shares, "step": [step] * len(shares)}))
    if not tables:
        return pl.DataFrame()
    table = pl.concat(tables)
    groups = coarser(table["row"].unique(maintain_order=True).to_list(), MOST_ROWS, modules=True)
    table = table.with_columns(pl.col("row").replace_strict(groups))
    summed = table.group_by("row", "step", maintain_order=True).agg(pl.col("value").sum())
    return summed.select(pl.lit(name).alias("run"), "row", pl.col("step").cast(pl.Float64), "value")


def _own(measure: str, part: str, records: Mapping[str, Record], taken: set[str]) -> Iterator[Figure]:
    """An array of a user's own measure: its entries from top to bottom, in at most ``MOST_ROWS`` blocks."""
    tables = []
    for name, record in list(records.items())[:MOST_MAPS]:
        for step, array in arrays_at(record, measure, part, evenly(steps_with_array(record, measure, part), COLUMNS)):
            if array.ndim != 1 or not array.size or array.dtype.kind not in "biuf":
                return
            blocks = np.array_split(array.astype(float), min(MOST_ROWS, array.size))
            edges = np.cumsum([0, *(len(block) for block in blocks)])
            rows = [str(low) if high == low + 1 else f"{low} to {high - 1}" for low, high in itertools.pairwise(edges)]
            values = [float(np.mean(block)) for block in blocks]
            tables.append(pl.DataFrame({"run": name, "row": rows, "step": float(step), "value": values}))
    if not tables or not (table := pl.concat(tables))["value"].is_finite().any():
        return
    if table["row"].n_unique() > MOST_ROWS:  # of several lengths
        return
    title = printable(f"{measure}: {part}" if part else measure)
    caption = f"The array {part} of measure {measure}: its entries from the first at the top, over the steps."
    yield Figure(file_name(title, taken), title, caption, heat_map(table, title="value"))
