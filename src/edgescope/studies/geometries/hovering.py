"""The claims about where sharpness and smoothness stay: in every norm around its own threshold."""

from __future__ import annotations

from edgescope.claims import Measured, Open
from edgescope.experiments.geometries.descents import DescentRun, descents
from edgescope.statistics.estimate import Estimate
from edgescope.studies.stated_claim import stated_claim
from edgescope.studies.tested_claim import TestedClaim

METHODS = ("gd", "preconditioned", "linf", "blocks", "spectral")
"""Those whose steps are not normalized."""


def _sharpness(run: DescentRun) -> Measured | Open:
    mean = run.sharpness.mean_after_arrival()
    return mean if isinstance(mean, Open) else Measured(mean, {"certified upper end": run.upper_mean})


def _smoothness(run: DescentRun) -> Estimate | Open:
    return run.not_at_edge or run.smoothness_mean


def _sharpness_of_normalized(run: DescentRun) -> Measured | Open:
    found, smooth = _sharpness(run), run.smoothness_mean
    if isinstance(found, Open) or isinstance(smooth, Open):
        return found
    return Measured(found.estimate, {"certified upper end": run.upper_mean, "D": smooth})


def _hovers(method: str) -> tuple[TestedClaim[DescentRun], ...]:
    """Smoothness at the threshold, sharpness around or above it, and sharpness close to it."""
    each = descents(method=method)
    return (
        stated_claim(f"geometries.{method}-smoothness", each=each)(_smoothness),
        stated_claim(f"geometries.{method}-sharpness", each=each)(_sharpness),
        stated_claim(f"geometries.{method}-sharpness-near", each=each)(_sharpness),
    )


HOVERING = (
    *(tested for method in METHODS for tested in _hovers(method)),
    stated_claim("geometries.gd-settles", each=descents(method="gd"))(_sharpness),
    *(
        stated_claim(f"geometries.{method}-sharpness", each=descents(method=method))(_sharpness_of_normalized)
        for method in ("sign", "spectral-normalized")
    ),
)
