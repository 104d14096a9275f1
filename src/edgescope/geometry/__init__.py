"""Norms on parameter space, by name, and the directional smoothness of a step."""

from edgescope.geometry.blocks import Blocks
from edgescope.geometry.bracket import GeneralizedSharpness
from edgescope.geometry.diagonal import Diagonal
from edgescope.geometry.euclidean import Euclidean
from edgescope.geometry.geometry import GEOMETRIES, Geometry, as_geometry
from edgescope.geometry.linf import Linf
from edgescope.geometry.of_tensors import OfTensors
from edgescope.geometry.product import Mixed, Part, Product
from edgescope.geometry.scaled import Scaled
from edgescope.geometry.sharpness import generalized_sharpness
from edgescope.geometry.smoothness import Smoothness, directional_smoothness
from edgescope.geometry.spectral import Spectral

GEOMETRIES.add("euclidean", Euclidean)
GEOMETRIES.add("diagonal", Diagonal)
GEOMETRIES.add("linf", Linf)
GEOMETRIES.add("blocks", Blocks)
GEOMETRIES.add("spectral", Spectral)
GEOMETRIES.add("mixed", Mixed)

__all__ = [
    "GEOMETRIES",
    "Blocks",
    "Diagonal",
    "Euclidean",
    "GeneralizedSharpness",
    "Geometry",
    "Linf",
    "Mixed",
    "OfTensors",
    "Part",
    "Product",
    "Scaled",
    "Smoothness",
    "Spectral",
    "as_geometry",
    "directional_smoothness",
    "generalized_sharpness",
]
