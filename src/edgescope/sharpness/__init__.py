"""The largest curvature in the unit ball of a norm (generalized sharpness), and the curvature along one step."""

from edgescope.sharpness.bracket import GeneralizedSharpness
from edgescope.sharpness.generalized import generalized_sharpness
from edgescope.sharpness.smoothness import Smoothness, directional_smoothness

__all__ = ["GeneralizedSharpness", "Smoothness", "directional_smoothness", "generalized_sharpness"]
