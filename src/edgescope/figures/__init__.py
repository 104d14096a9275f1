"""Charts: from tables to a picture, nothing else. Every function takes a polars table and gives an Altair chart."""

from __future__ import annotations

from edgescope.extras import require

require("figures", "figures need", "altair", "polars", "vl_convert")

from edgescope.figures.bands import seed_bands
from edgescope.figures.brackets import bracket_curves
from edgescope.figures.correlations import correlation_dots
from edgescope.figures.curves import loss_curves
from edgescope.figures.eigenvalues import eigenvalue_curves
from edgescope.figures.escapes import arrhenius_lines, survival_curves
from edgescope.figures.figure import Figure
from edgescope.figures.flatness import flatness_against_error
from edgescope.figures.gaps import scatter_panels
from edgescope.figures.heat_map import heat_map
from edgescope.figures.interval import interval_dots
from edgescope.figures.loops import hysteresis_loops
from edgescope.figures.marks import Mark, marked
from edgescope.figures.neurons import neuron_fields
from edgescope.figures.panels import stacked_panels
from edgescope.figures.rates import rate_panels
from edgescope.figures.ratio import ratio_curves
from edgescope.figures.ridge import spectral_ridge
from edgescope.figures.scatter import predicted_against_measured
from edgescope.figures.series import series_panels
from edgescope.figures.spectrum import spectral_density, spectral_stems
from edgescope.figures.tradeoff import tradeoff_panels

__all__ = [
    "Figure",
    "Mark",
    "arrhenius_lines",
    "bracket_curves",
    "correlation_dots",
    "eigenvalue_curves",
    "flatness_against_error",
    "heat_map",
    "hysteresis_loops",
    "interval_dots",
    "loss_curves",
    "marked",
    "neuron_fields",
    "predicted_against_measured",
    "rate_panels",
    "ratio_curves",
    "scatter_panels",
    "seed_bands",
    "series_panels",
    "spectral_density",
    "spectral_ridge",
    "spectral_stems",
    "stacked_panels",
    "survival_curves",
    "tradeoff_panels",
]
