"""The semidefinite complementarity problem: X and A + B[X] positive semidefinite, with product zero."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import EdgescopeError, InputError
from edgescope.linalg.arguments import as_tensor
from edgescope.notebooks import in_notebooks
from edgescope.options import checked, real
from edgescope.short_errors import short_errors

_MOST = 5000  # iterations; 5 are common
_RELAXATION = 1.7
_BALANCE = 3.0  # of the residuals of the method of multipliers, beyond which its penalty is changed
_EVERY = 5  # iterations after which Newton's method is tried
_SLACK = 1e-9  # asymmetry and negative eigenvalues that count as rounding, relative to the largest entry

NO_STABILIZATION = "self-stabilization: no covariance holds the curvature at the threshold"


@in_notebooks
@dataclass(frozen=True)
class Complementarity:
    """The solution X (k, k), positive semidefinite; its natural residual; and the iterations of the solver.

    The residual is the largest entry of X - (X - A - B[X])_+ (``_+``: the nearest positive semidefinite matrix), which
    is zero for a solution and for nothing else. It is taken where B is 1 for every direction alone, and A has a largest
    entry of 1, so that it has no unit.
    """

    X: Float[Tensor, "k k"]
    residual: float
    iterations: int


@short_errors
@checked(tol=real(above=0, below=1))
def complementarity(
    A: Float[Tensor, "k k"] | Float[np.ndarray, "k k"],
    B: Float[Tensor, "m m"] | Float[np.ndarray, "m m"],
    tol: float = 1e-9,
) -> Complementarity:
    """The symmetric X (k, k) with X >= 0, A + B[X] >= 0 and <X, A + B[X]> = 0 (>= 0: positive semidefinite).

    A is symmetric. B, symmetric and positive semidefinite, acts on symmetric matrices as vectors of length
    m = k(k+1)/2: the entries on and above the diagonal, row by row, those off the diagonal times sqrt(2)
    (:func:`to_vector`), so that inner products are those of the matrices. X then minimises <X, B[X]>/2 + <A, X> over
    positive semidefinite matrices, which is how it is found: for k = 1 it is max(0, -A/B), where A is positive
    semidefinite it is 0, and otherwise by the alternating direction method of multipliers, with one factorisation of B
    and one eigendecomposition of a (k, k) matrix for each iteration. Every five iterations Newton's method for the
    natural residual is tried, which ends most problems.

    Where B is singular, X is one of several solutions, or there is none: :class:`InputError` where B is zero and A is
    not positive semidefinite (nothing that X adds makes A + B[X] so), :class:`EdgescopeError` where the iteration does
    not converge to ``tol``, the largest natural residual.

    Cost: below 2 ms for k up to 8; results are on the CPU, in float64.
    Sources: Boyd et al., Foundations and Trends in Machine Learning 3 (2011) 1; Sun and Sun, Mathematics of Operations
    Research 27 (2002) 150 (the derivative of the projection).
    """
    a, b = _symmetric("A", A), _symmetric("B", B)
    k = a.shape[0]
    if b.shape[0] != k * (k + 1) // 2:
        raise InputError(f"B of shape {b.shape} for A of shape {a.shape}", expected=f"shape ({k * (k + 1) // 2}, same)")
    size_a, size_b = float(np.abs(a).max()), float(np.abs(b).max())
    if float(np.linalg.eigvalsh(a)[0]) >= 0:
        return Complementarity(torch.zeros(k, k, dtype=torch.float64), 0.0, 0)
    if size_b == 0 or not math.isfinite(size_a / size_b):
        raise InputError(
            "B is zero while A is not positive semidefinite, so that there is no " + NO_STABILIZATION,
            expected="a B that is not zero, such as the curvature's gradients have",
        )
    alone = np.diag(b)[np.equal(*pairs_of(k))]
    if alone.min() < 0:
        raise _not_positive(float(alone.min()))
    # A congruence keeps matrices positive semidefinite: X = D X' D, with D for which B' is 1 for each direction alone.
    lengths = np.where(alone > _SLACK * size_b, np.maximum(alone, _SLACK * size_b), size_b) ** -0.25
    rows, columns = pairs_of(k)
    factors = lengths[rows] * lengths[columns]
    a = a * lengths[:, None] * lengths
    b = b * factors[:, None] * factors
    unit = float(np.abs(a).max())
    if k == 1:
        return Complementarity(torch.full((1, 1), unit * float(factors[0]), dtype=torch.float64), 0.0, 0)
    x, residual, iterations = _solve(a / unit, b, tol)
    if residual > tol:
        raise EdgescopeError(
            f"the complementarity problem was not solved to {tol:g} (residual {residual:.2g}): with a nearly singular B"
            f" there may be no {NO_STABILIZATION}",
            hint="a larger tol, or fewer directions",
        )
    x = unit * x * lengths[:, None] * lengths
    return Complementarity(torch.from_numpy(x), residual, iterations)


def pairs_of(k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the entries on and above the diagonal, row by row: the order of vectors of matrices."""
    return np.triu_indices(k)


def weights_of(k: int) -> Float[Tensor, " m"]:
    """1 for entries on the diagonal and sqrt(2) for those above it, in the order of :func:`pairs_of`."""
    rows, columns = pairs_of(k)
    return torch.from_numpy(np.where(rows == columns, 1.0, math.sqrt(2)))


def to_vector(matrix: Float[np.ndarray, "k k"]) -> Float[np.ndarray, " m"]:
    """A symmetric matrix as a vector of the same norm."""
    rows, columns = pairs_of(matrix.shape[0])
    return np.asarray(matrix[rows, columns] * np.where(rows == columns, 1.0, math.sqrt(2)))


def to_symmetric(vector: Float[np.ndarray, " m"], k: int) -> Float[np.ndarray, "k k"]:
    """The symmetric matrix of such a vector."""
    rows, columns = pairs_of(k)
    matrix = np.zeros((k, k))
    matrix[rows, columns] = matrix[columns, rows] = vector / np.where(rows == columns, 1.0, math.sqrt(2))
    return matrix


def _solve(a: np.ndarray, b: np.ndarray, tol: float) -> tuple[np.ndarray, float, int]:
    """X, its residual and the iterations, for A and B with a largest entry of 1."""
    k = a.shape[0]
    curvatures, axes = np.linalg.eigh(b)
    if curvatures[0] < -_SLACK * curvatures[-1]:
        raise _not_positive(float(curvatures[0]))
    curvatures = curvatures.clip(min=0.0)
    cone, vector = _Cone(k), to_vector(a)
    penalty = math.sqrt(float(curvatures[-1] * max(curvatures[0], 1e-4 * curvatures[-1])))
    inverse = (axes / (curvatures + penalty)) @ axes.T
    z, dual = np.zeros_like(vector), np.zeros_like(vector)
    best, least = z, math.inf
    for iteration in range(1, _MOST + 1):
        exact = inverse @ (penalty * (z - dual) - vector)
        relaxed = _RELAXATION * exact + (1 - _RELAXATION) * z
        last, z = z, cone.project(relaxed + dual)
        dual = dual + relaxed - z
        if iteration % _EVERY == 0:
            found, residual = _newton(z, vector, b, cone, tol)
            if residual < least:
                best, least = found, residual
            if residual <= tol:
                break
            # Where one of the two residuals is much larger than the other, the penalty balances them.
            apart, moved = float(np.linalg.norm(exact - z)), penalty * float(np.linalg.norm(z - last))
            if moved > 0 and apart > 0 and not 1 / _BALANCE < apart / moved < _BALANCE:
                factor = math.sqrt(apart / moved)
                penalty, dual = penalty * factor, dual / factor
                inverse = (axes / (curvatures + penalty)) @ axes.T
    return to_symmetric(best, k), least, iteration


def _newton(x: np.ndarray, vector: np.ndarray, b: np.ndarray, cone: _Cone, tol: float) -> tuple[np.ndarray, float]:
    """Newton's method for x = (x - A - B[x])_+, as far as it halves the natural residual at every step.

    It converges fast near a solution, and from afar not at all, where further iterations of multipliers come first.
    """
    before, residual = x, math.inf
    while True:
        values, turned = cone.turned(x - vector - b @ x)
        projected = turned.T @ cone.positive(values)
        off = x - projected
        now = float(np.abs(off / cone.scale).max())
        if not now <= residual / 2:
            return before, residual
        before, residual = x, now
        if now <= tol:
            return x, now
        slope = (turned.T * cone.slopes(values)) @ turned
        try:
            step = np.linalg.solve(np.eye(len(x)) - slope @ (np.eye(len(x)) - b), -off)
        except np.linalg.LinAlgError:
            return before, residual
        x = cone.project(x + step)


class _Cone:
    """Positive semidefinite matrices (k, k), as vectors of length m."""

    def __init__(self, k: int) -> None:
        self.rows, self.columns = pairs_of(k)
        self.scale = np.where(self.rows == self.columns, 1.0, math.sqrt(2))
        m = len(self.rows)
        self._units = np.zeros((m, k, k))
        each = np.arange(m)
        self._units[each, self.rows, self.columns] = self._units[each, self.columns, self.rows] = 1 / self.scale
        self._diagonal = self.rows == self.columns

    def matrix(self, point: np.ndarray) -> np.ndarray:
        k = self._units.shape[1]
        matrix = np.empty((k, k))
        matrix[self.rows, self.columns] = matrix[self.columns, self.rows] = point / self.scale
        return matrix

    def project(self, point: np.ndarray) -> np.ndarray:
        """The nearest positive semidefinite matrix."""
        values, vectors = np.linalg.eigh(self.matrix(point))
        positive = (vectors * values.clip(min=0.0)) @ vectors.T
        return np.asarray(positive[self.rows, self.columns] * self.scale)

    def turned(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (k,), and the orthogonal (m, m) map of vectors of matrices to those in their eigenbasis."""
        values, vectors = np.linalg.eigh(self.matrix(point))
        inside = vectors.T @ self._units @ vectors
        return values, inside[:, self.rows, self.columns].T * self.scale[:, None]

    def positive(self, values: np.ndarray) -> np.ndarray:
        """The vector of the diagonal matrix of the positive ones among the eigenvalues."""
        found = np.zeros(len(self.rows))
        found[self._diagonal] = values.clip(min=0.0)
        return found

    def slopes(self, values: np.ndarray) -> np.ndarray:
        """The derivative of the projection in the eigenbasis, where it is diagonal: quotients of max(0, .)."""
        one, other = values[self.rows], values[self.columns]
        apart = np.abs(one - other)
        steps = np.abs(one.clip(min=0) - other.clip(min=0))
        return np.where(apart > 0, steps / np.where(apart > 0, apart, 1.0), (one > 0).astype(float))


def _symmetric(name: str, given: Tensor | np.ndarray) -> np.ndarray:
    matrix = as_tensor(name, given, "a symmetric matrix").detach().cpu().double().numpy()
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise InputError(f"{name} of shape {matrix.shape}", expected="a symmetric matrix")
    if not np.isfinite(matrix).all():
        raise InputError(f"{name} has entries that are NaN or infinite", expected="finite entries")
    if np.abs(matrix - matrix.T).max() > 1e-6 * max(float(np.abs(matrix).max()), 1e-300):
        raise InputError(f"{name} is not symmetric", expected="a symmetric matrix", hint=f"({name} + {name}.T) / 2")
    return np.asarray((matrix + matrix.T) / 2)


def _not_positive(value: float) -> InputError:
    return InputError(
        f"B has a negative eigenvalue ({value:.3g} of its largest entry)", expected="a positive semidefinite B"
    )
