"""Minima of a deep linear network whose modes are coupled by the input covariance, by numerical minimisation."""

from __future__ import annotations

import itertools

import numpy as np
import scipy
from jaxtyping import Float

from edgescope.errors import InputError
from edgescope.theory.arguments import Array

_MAX_MODES = 6  # whose subsets are initial points
_SAME = 1e-4  # relative distance below which two maps are one


def height(depth: int, C: Array, covariance: Array, decay: float, end_to_end: Float[Array, "m n"]) -> float:
    """The least regularised loss of a network with this end-to-end map, minus that of the zero map."""
    sizes = np.linalg.svd(end_to_end, compute_uv=False)
    sizes = sizes[sizes > 1e-12 * sizes.max()]  # roots of rounding are not small
    fit = np.sum((end_to_end @ covariance) * end_to_end) / 2 - np.sum(C * end_to_end)
    return float(fit + depth * decay / 2 * np.sum(sizes ** (2 / depth)))


def search(depth: int, C: Float[Array, "m n"], covariance: Float[Array, "n n"], decay: float) -> list[Array]:
    """End-to-end maps of the minima found by BFGS from subsets of the modes of C, and of C whitened.

    A minimum of rank r is a minimum over networks of width r, since from depth 3 on unlearned modes are stable at 0.
    """
    if depth == 1:
        return [np.asarray(np.linalg.solve(covariance + decay * np.eye(len(covariance)), C.T).T, dtype=np.float64)]
    rank = int(np.linalg.matrix_rank(C))
    if rank > _MAX_MODES:
        raise InputError(f"{rank} modes coupled by the covariance", expected=f"at most {_MAX_MODES}")
    whitening = np.linalg.inv(np.real(scipy.linalg.sqrtm(covariance)))
    starts = []
    for basis in (whitening, np.eye(len(covariance))):
        left, values, right = np.linalg.svd(C @ basis, full_matrices=False)
        scale = values[:rank] if basis is whitening else values[:rank] / np.diag(right @ covariance @ right.T)[:rank]
        for r in range(1, rank + 1) if depth > 2 else (rank,):
            for on in map(list, itertools.combinations(range(rank), r)):
                starts.append((r, (left[:, on] * scale[on]) @ right[on] @ basis))
    found = [np.zeros_like(C)] if depth > 2 else []
    for r, start in starts:
        end = _descend(depth, C, covariance, decay, start, r)
        sizes = np.linalg.svd(end, compute_uv=False)
        learned = depth == 2 or sizes[r - 1] > 1e-3 * np.linalg.norm(start, 2)
        if learned and all(np.linalg.norm(end - other) > _SAME * np.linalg.norm(start) for other in found):
            found.append(end)
    return found


def _descend(depth: int, C: Array, covariance: Array, decay: float, start: Array, width: int) -> Float[Array, "m n"]:
    """The map at which BFGS ends, from a perturbed balanced network of this width with the map ``start``."""
    left, sizes, right = np.linalg.svd(start, full_matrices=False)
    root = sizes[:width] ** (1 / depth)
    layers: list[Array] = [root[:, None] * right[:width], *[np.diag(root)] * (depth - 2), left[:, :width] * root]
    shapes = [layer.shape for layer in layers]
    ends = np.cumsum([layer.size for layer in layers])[:-1]
    perturbation = np.random.default_rng(0).standard_normal(sum(layer.size for layer in layers))

    def split(weights: Array) -> list[Array]:
        return [piece.reshape(shape) for piece, shape in zip(np.split(weights, ends), shapes, strict=True)]

    def product(layers: list[Array], size: int) -> Array:
        result = np.eye(size)
        for layer in layers:
            result = layer @ result
        return result

    def loss(weights: Array) -> tuple[float, Array]:
        layers = split(weights)
        W = product(layers, C.shape[1])
        fit = W @ covariance / 2 - C
        slope = W @ covariance - C
        gradients = []
        for place, layer in enumerate(layers):
            below = product(layers[:place], C.shape[1])
            above = product(layers[place + 1 :], layer.shape[0])
            gradients.append((above.T @ slope @ below.T + decay * layer).ravel())
        return float(np.sum(fit * W) + decay / 2 * weights @ weights), np.concatenate(gradients)

    first = np.concatenate([layer.ravel() for layer in layers])
    first = first + 1e-3 * np.abs(first).max() * perturbation  # away from saddles of symmetric networks
    size = float(np.abs(C).max())
    ended = scipy.optimize.minimize(
        loss, first, jac=True, method="BFGS", options={"gtol": 1e-9 * size, "maxiter": 2000}
    )
    return product(split(ended.x), C.shape[1])
