"""Charts: from tables to a picture, nothing else. Every function takes a polars table and gives an Altair chart."""

from __future__ import annotations

from edgescope.figures.brackets import bracket_curves
from edgescope.figures.curves import loss_curves
from edgescope.figures.eigenvalues import eigenvalue_curves
from edgescope.figures.figure import Figure
from edgescope.figures.interval import interval_dots
from edgescope.figures.ratio import ratio_curves
from edgescope.figures.scatter import predicted_against_measured
from edgescope.figures.spectrum import spectral_density, spectral_stems

__all__ = [
    "Figure",
    "bracket_curves",
    "eigenvalue_curves",
    "interval_dots",
    "loss_curves",
    "predicted_against_measured",
    "ratio_curves",
    "spectral_density",
    "spectral_stems",
]
