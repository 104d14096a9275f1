"""The Hessian of a diagonal network's loss."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from edgescope.theory.arguments import Array


def sharpness(X: Float[Array, "n d"], y: Float[Array, " n"], beta: Float[Array, " d"]) -> float:
    """max |eigenvalue| of 4/n diag(w) X^T X diag(w) + 2/n diag(X^T (X beta - y)), where w = sqrt(beta)."""
    rows = X * np.sqrt(beta)
    residual = (X @ beta - y) @ X
    hessian = (4 * rows.T @ rows + np.diag(2 * residual)) / len(y)
    return float(np.abs(np.linalg.eigvalsh(hessian)).max())
