"""The last spectrum of each chosen run as a panel: the density of the eigenvalues of the Hessian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl
from jaxtyping import Float

from edgescope.board.panels import Line, Panel, numbers
from edgescope.errors import EdgescopeError
from edgescope.figures.spectrum import FLOOR, GRID_POINTS, smooth_density
from edgescope.store import Record
from edgescope.store.arrays import arrays_at, steps_with_array

SMOOTHING: Final = 150
"""The range of the nodes over the width of the normal density that each becomes."""

Array = Float[np.ndarray, " n"]
Spectrum = tuple[int, Array, Array]


def last_spectrum(record: Record) -> Spectrum | None:
    """Step, nodes and weights of the last spectrum of a record; None where it has none."""
    steps = steps_with_array(record, "spectrum", "nodes")
    if not steps:
        return None
    found = [dict(arrays_at(record, "spectrum", part, steps[-1:])).get(steps[-1]) for part in ("nodes", "weights")]
    nodes, weights = (np.asarray(array, dtype=np.float64) if array is not None else np.empty(0) for array in found)
    if nodes.ndim != 1 or nodes.shape != weights.shape or not len(nodes):
        return None
    return steps[-1], nodes, weights


def spectrum_panel(spectra: Mapping[int, Spectrum]) -> Panel | None:
    """One line a run, by its place among those chosen, over the range of all of them; None without any.

    The density is logarithmic over six decades, as in reports.
    """
    kept = {place: one for place, one in spectra.items() if np.isfinite(one[1]).all() and np.isfinite(one[2]).all()}
    if not kept:
        return None
    low = min(float(nodes.min()) for _, nodes, _ in kept.values())
    high = max(float(nodes.max()) for _, nodes, _ in kept.values())
    width = ((high - low) or max(abs(high), 1.0)) / SMOOTHING
    grid = np.linspace(low - 5 * width, high + 5 * width, GRID_POINTS)
    densities = {
        place: smooth_density(pl.DataFrame({"node": nodes, "weight": weights}), grid, width)
        for place, (_, nodes, weights) in kept.items()
    }
    floor = FLOOR * max(float(curve.max()) for curve in densities.values())
    x = [float(f"{node:.7g}") for node in grid.tolist()]
    lines = [
        Line(
            place,
            f"step {kept[place][0]}",
            list(x),
            numbers(np.where(curve < floor, np.nan, curve)),
            False,
            1.0,
            len(x),
        )
        for place, curve in densities.items()
    ]
    return Panel(
        "last spectrum",
        "Spectrum of the Hessian, the last one",
        "density",
        lines,
        logarithmic=True,
        note="Density of the eigenvalues, logarithmic over six decades.",
        horizontal="eigenvalue",
    )


def spectra_of(records: Mapping[int, Record]) -> dict[int, Spectrum]:
    """The last spectra of these records, without those that cannot be read."""
    found = {}
    for place, record in records.items():
        try:
            spectrum = last_spectrum(record)
        except EdgescopeError:
            continue
        if spectrum is not None:
            found[place] = spectrum
    return found
