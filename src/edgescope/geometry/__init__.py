"""Norms on parameter space, by name, and the directional smoothness of a step."""

from edgescope.geometry.euclidean import Euclidean
from edgescope.geometry.geometry import Geometry
from edgescope.geometry.smoothness import Smoothness, directional_smoothness
from edgescope.registry import Registry

GEOMETRIES: Registry[Geometry] = Registry("geometry")
GEOMETRIES.add("euclidean", Euclidean)

__all__ = ["GEOMETRIES", "Euclidean", "Geometry", "Smoothness", "directional_smoothness"]
