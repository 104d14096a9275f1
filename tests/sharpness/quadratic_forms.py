"""Quadratic forms of several kinds, geometries of several tensors, and the true maximum over the cube's surface."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from edgescope.geometry import Blocks, Diagonal, Euclidean, Geometry, Linf, Mixed, Part, Product, Scaled, Spectral
from edgescope.linalg import Operator

SHAPES = [(2, 3), (3,), (2, 2, 1, 2), ()]  # a matrix, a vector, a convolution, a scalar
SIZE = 6 + 3 + 8 + 1
GEOMETRIES: dict[str, Geometry] = {
    "euclidean": Euclidean(),
    "diagonal": Diagonal("log-uniform", seed=2),
    "linf": Linf(),
    "blocks": Blocks(),
    "spectral": Spectral(),
    "mixed": Mixed(),
    "product": Product((Part(Blocks(), (2, 0)), Part(Linf(), (1, 3)))),
    "scaled": Scaled(Spectral(), (0.5, 2.0, 1.0, 3.0)),
    "scaled linf": Scaled(Linf(), (0.5, 2.0, 1.0, 3.0)),
}
KINDS = ("gaussian", "low rank and noise", "outliers", "nearly diagonal", "mostly negative")


def form(kind: str, size: int, seed: int) -> Tensor:
    """A float64 matrix (size, size); all kinds but the nearly diagonal of ones are indefinite."""
    generator = torch.Generator().manual_seed(1000 * size + seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    noise = normal(size, size)
    noise = (noise + noise.T) / 2
    if kind == "gaussian":
        return noise
    if kind == "low rank and noise":
        factors = normal(size, max(1, size // 5))
        return factors @ factors.T + 0.3 * noise
    if kind == "outliers":  # as networks have: a few large eigenvalues, a bulk near 0, a small negative tail
        frame = torch.linalg.qr(normal(size, size)).Q
        values = 0.2 * normal(size)
        values[: max(1, size // 6)] += 10 * torch.rand(max(1, size // 6), generator=generator, dtype=torch.float64)
        return (frame * values) @ frame.T
    if kind == "nearly diagonal":
        return torch.diag(normal(size)) + 0.05 * noise
    return noise - 2 * torch.eye(size, dtype=torch.float64)


def with_nonnegative_diagonal(matrix: Tensor) -> Tensor:
    """The same with the moduli of its diagonal, so that a vertex of the cube is a maximiser."""
    return matrix - torch.diag(matrix.diagonal()) + torch.diag(matrix.diagonal().abs())


def over_signs(matrix: Tensor) -> float:
    """max d'Hd over sign vectors, by trying them all."""
    size, best = len(matrix), -torch.inf
    for numbers in torch.arange(2 ** (size - 1)).split(1 << 15):
        signs = 2.0 * ((numbers[:, None] >> torch.arange(size)) & 1).double() - 1
        best = max(best, float(torch.einsum("bi,bi->b", signs @ matrix, signs).max()))
    return best


def over_faces(matrix: Tensor) -> float:
    """max d'Hd over the surface of the cube: on each face, the stationary point of its free coordinates."""
    size, best = len(matrix), -torch.inf
    for count in range(size):
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * (size - count))
        signs = signs.reshape(-1, size - count)
        for free in itertools.combinations(range(size), count):
            held = [i for i in range(size) if i not in free]
            inside = matrix[free, :][:, free]
            if count and float(torch.linalg.eigvalsh(inside)[-1]) >= 0:
                continue  # no interior maximum
            points = torch.zeros(len(signs), size, dtype=torch.float64)
            points[:, held] = signs
            if count:
                points[:, free] = torch.linalg.solve(inside, -matrix[free, :][:, held] @ signs.T).T
            points = points[(points.abs() <= 1).all(dim=1)]
            if len(points):
                best = max(best, float(torch.einsum("bi,bi->b", points @ matrix, points).max()))
    return best


def products_only(matrix: Tensor, dtype: torch.dtype = torch.float64, shapes: list | None = None) -> Operator:
    """The same map without its entries, so that everything takes the way that large operators take."""
    return Operator(len(matrix), lambda block: (matrix @ block.double()).to(dtype), dtype=dtype, shapes=shapes)
