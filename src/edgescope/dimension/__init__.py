"""The dimension of an optimizer's attractor: from one-step exponents, from Lyapunov exponents, and by box counting."""

from edgescope.dimension.bound import GeneralizationBound, dimension_bound, stability_bound
from edgescope.dimension.boxes import BoxDimension, box_dimension
from edgescope.dimension.formula import DeadZone
from edgescope.dimension.kaplan_yorke import kaplan_yorke
from edgescope.dimension.lyapunov import LyapunovExponents, LyapunovTracker, lyapunov_exponents, trajectory
from edgescope.dimension.options import DimensionOptions
from edgescope.dimension.random_attractor import Attractor, RandomAttractor
from edgescope.dimension.sharpness_dimension import SharpnessDimension, sharpness_dimension

__all__ = [
    "Attractor",
    "BoxDimension",
    "DeadZone",
    "DimensionOptions",
    "GeneralizationBound",
    "LyapunovExponents",
    "LyapunovTracker",
    "RandomAttractor",
    "SharpnessDimension",
    "box_dimension",
    "dimension_bound",
    "kaplan_yorke",
    "lyapunov_exponents",
    "sharpness_dimension",
    "stability_bound",
    "trajectory",
]
