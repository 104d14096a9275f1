"""A random sketch of an operator: the products with few vectors from which Hutch++ computes its estimates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.linalg.capacity import check_memory
from edgescope.linalg.inner_products import inner
from edgescope.linalg.operator import Operator

_SKEW = 4  # rounding errors of traces in float32 were two to five times the skew part of the products
_VECTORS_PER_PROBE = 3  # one finds the dominant subspace, one is multiplied in it, one samples the rest
MIN_MATVECS = 2 * _VECTORS_PER_PROBE
"""The least number of products: of a single sample no standard error can be estimated."""


@dataclass(frozen=True)
class Sketch:
    """Products of an operator H with two sets of vectors.

    ``dominant`` is an orthonormal basis Q of a subspace that contains most of the operator's weight. ``samples`` are
    Rademacher vectors, projected onto the orthogonal complement of that subspace. Where Q spans the whole space there
    are no samples, and sums over Q are exact.
    """

    dominant: Float[Tensor, "P j"]
    dominant_images: Float[Tensor, "P j"]
    samples: Float[Tensor, "P q"]
    sample_images: Float[Tensor, "P q"]
    block: int

    @property
    def exact(self) -> bool:
        return not self.samples.shape[1]

    def complement(self, columns: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        """The component of the columns that is orthogonal to the dominant subspace."""
        return columns - self.dominant @ (self.dominant.T @ columns)

    def forms(self, left: Float[Tensor, "P k"], right: Float[Tensor, "P k"]) -> Float[Tensor, " k"]:
        """Inner products of columns, summed in float64."""
        pairs = zip(left.split(self.block, dim=1), right.split(self.block, dim=1), strict=True)
        return torch.cat([(u.double() * v).sum(0) for u, v in pairs]).cpu()

    def rounding(self) -> float:
        """The standard error of a trace, or of ||H||_F, due to rounding of the products.

        The products of a symmetric H are symmetric up to rounding, so that their skew part measures the rounding
        errors: in the dominant subspace exactly, in its complement and between the two as a mean over the samples.
        Rounding that keeps the products symmetric does not show; at least 4 eps ||H||_F is added for it.
        """
        within = inner(self.dominant.T, self.dominant_images.T)
        skew = float((within - within.T).square().sum()) / 4
        square = float(self.forms(self.dominant_images, self.dominant_images).sum())
        if not self.exact:
            count = self.samples.shape[1]
            across = inner(self.dominant.T, self.sample_images.T) - inner(self.dominant_images.T, self.samples.T)
            within = inner(self.samples.T, self.sample_images.T)
            skew += float(across.square().sum()) / (2 * count)
            skew += float((within - within.T).square().sum()) / (4 * count * (count - 1))
            square += float(self.forms(self.sample_images, self.sample_images).mean())
        return _SKEW * math.sqrt(skew) + 4 * torch.finfo(self.dominant.dtype).eps * math.sqrt(square)


def sketch(operator: Operator, *, num_matvecs: int, seed: int, block: int) -> Sketch:
    """A sketch from at most ``num_matvecs`` products: a third each to find the dominant subspace, in it, and outside.

    An operator with no more than ``num_matvecs`` rows is multiplied with all unit vectors instead. Memory: 4/3
    ``num_matvecs`` vectors of length P, or 2 P vectors for a small operator. Raises :class:`MemoryBudgetError` where
    they do not fit.
    """
    count = num_matvecs // _VECTORS_PER_PROBE

    def images(columns: Float[Tensor, "P j"]) -> Float[Tensor, "P j"]:
        parts = [operator.unchecked(part) for part in columns.split(block, dim=1)]
        unread = [finite for _, finite in parts if finite is not None]
        operator.refuse_unless(not unread or bool(torch.stack(unread).all()), columns)
        return torch.cat([products for products, _ in parts], dim=1)

    if operator.size <= num_matvecs:
        check_memory(2 * operator.size, operator)
        everything = torch.eye(operator.size, dtype=operator.dtype, device=operator.device)
        none = everything[:, :0]
        return Sketch(everything, images(everything), none, none, block)
    check_memory(4 * count, operator)
    generator = torch.Generator().manual_seed(seed)
    dominant = torch.linalg.qr(images(rademacher(operator, count, generator))).Q
    dominant_images = images(dominant)
    samples = rademacher(operator, count, generator)
    samples -= dominant @ (dominant.T @ samples)
    return Sketch(dominant, dominant_images, samples, images(samples), block)


def rademacher(operator: Operator, count: int, generator: torch.Generator) -> Float[Tensor, "P count"]:
    """Vectors of random signs; for the same generator they are the same on every device."""
    signs = torch.randint(0, 2, (count, operator.size), generator=generator, dtype=torch.int8, device="cpu")
    return (2 * signs - 1).to(device=operator.device, dtype=operator.dtype).T
