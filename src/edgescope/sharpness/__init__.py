"""The largest curvature in the unit ball of a norm (generalized sharpness); curvature and headroom along one step; the
curvature that mini-batches see along their own gradients (batch sharpness)."""

from edgescope.sharpness.batch_sharpness import BatchSharpness, batch_sharpness
from edgescope.sharpness.bracket import GeneralizedSharpness
from edgescope.sharpness.generalized import generalized_sharpness
from edgescope.sharpness.headroom import Headroom, headroom
from edgescope.sharpness.smoothness import Smoothness, directional_smoothness

__all__ = [
    "BatchSharpness",
    "GeneralizedSharpness",
    "Headroom",
    "Smoothness",
    "batch_sharpness",
    "directional_smoothness",
    "generalized_sharpness",
    "headroom",
]
