"""Matrix-free numerics that know nothing of networks."""

from edgescope.linalg.blocks import BlockEigenvalues, BlockTraces, block_eigenvalues, block_masses, block_traces
from edgescope.linalg.bound import EigenvalueBound
from edgescope.linalg.complementarity import Complementarity, complementarity
from edgescope.linalg.eigenpairs import Eigenpairs, top_eigenpairs
from edgescope.linalg.frobenius import FrobeniusEstimate, frobenius
from edgescope.linalg.lanczos_quadrature import spectrum
from edgescope.linalg.metric import BlockMetric, DiagonalMetric, Metric
from edgescope.linalg.operator import HasOperator, Operator, OperatorLike, as_operator, from_matrix, to_matrix
from edgescope.linalg.spectral_density import SpectralSum, Spectrum
from edgescope.linalg.trace import TraceEstimate, trace
from edgescope.linalg.tracker import EigenTracker

__all__ = [
    "BlockEigenvalues",
    "BlockMetric",
    "BlockTraces",
    "Complementarity",
    "DiagonalMetric",
    "EigenTracker",
    "Eigenpairs",
    "EigenvalueBound",
    "FrobeniusEstimate",
    "HasOperator",
    "Metric",
    "Operator",
    "OperatorLike",
    "SpectralSum",
    "Spectrum",
    "TraceEstimate",
    "as_operator",
    "block_eigenvalues",
    "block_masses",
    "block_traces",
    "complementarity",
    "frobenius",
    "from_matrix",
    "spectrum",
    "to_matrix",
    "top_eigenpairs",
    "trace",
]
