"""Norms on parameter space, by name, and the directional smoothness of a step."""

from edgescope.geometry.blocks import Blocks
from edgescope.geometry.euclidean import Euclidean
from edgescope.geometry.geometry import Geometry
from edgescope.geometry.linf import Linf
from edgescope.geometry.smoothness import Smoothness, directional_smoothness
from edgescope.geometry.spectral import Spectral
from edgescope.registry import Registry

GEOMETRIES: Registry[Geometry] = Registry("geometry")
GEOMETRIES.add("euclidean", Euclidean)
GEOMETRIES.add("linf", Linf)
GEOMETRIES.add("blocks", Blocks)
GEOMETRIES.add("spectral", Spectral)

__all__ = [
    "GEOMETRIES",
    "Blocks",
    "Euclidean",
    "Geometry",
    "Linf",
    "Smoothness",
    "Spectral",
    "directional_smoothness",
]
