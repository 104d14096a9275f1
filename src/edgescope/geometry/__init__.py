"""Norms on parameter space, by name."""

from edgescope.geometry.blocks import Blocks
from edgescope.geometry.diagonal import Diagonal
from edgescope.geometry.euclidean import Euclidean
from edgescope.geometry.geometry import GEOMETRIES, Geometry, as_geometry
from edgescope.geometry.linf import Linf
from edgescope.geometry.of_tensors import OfTensors
from edgescope.geometry.product import Mixed, Part, Product
from edgescope.geometry.scaled import Scaled
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
    "Geometry",
    "Linf",
    "Mixed",
    "OfTensors",
    "Part",
    "Product",
    "Scaled",
    "Spectral",
    "as_geometry",
]
