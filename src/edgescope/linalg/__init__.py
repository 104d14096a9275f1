"""Matrix-free numerics that know nothing of networks."""

from edgescope.linalg.bound import EigenvalueBound
from edgescope.linalg.eigenpairs import Eigenpairs, top_eigenpairs
from edgescope.linalg.frobenius import FrobeniusEstimate, frobenius
from edgescope.linalg.metric import Diagonal, Metric
from edgescope.linalg.operator import Operator, as_operator, from_matrix, to_matrix
from edgescope.linalg.quadrature import spectrum
from edgescope.linalg.spectral import SpectralSum, Spectrum
from edgescope.linalg.trace import TraceEstimate, trace
from edgescope.linalg.tracker import EigenTracker

__all__ = [
    "Diagonal",
    "EigenTracker",
    "Eigenpairs",
    "EigenvalueBound",
    "FrobeniusEstimate",
    "Metric",
    "Operator",
    "SpectralSum",
    "Spectrum",
    "TraceEstimate",
    "as_operator",
    "frobenius",
    "from_matrix",
    "spectrum",
    "to_matrix",
    "top_eigenpairs",
    "trace",
]
