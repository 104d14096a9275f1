"""Matrix-free numerics that know nothing of networks."""

from edgescope.linalg.eigenpairs import Eigenpairs, top_eigenpairs
from edgescope.linalg.metric import Diagonal, Metric
from edgescope.linalg.operator import Operator, as_operator, from_matrix

__all__ = ["Diagonal", "Eigenpairs", "Metric", "Operator", "as_operator", "from_matrix", "top_eigenpairs"]
