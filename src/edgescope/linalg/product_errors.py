"""Errors of products that are not exact, as a method measures them of each product."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


class ProductErrors:
    """What a method of products knows of their errors.

    ``errors`` are estimates for the last block, one row a product, as vectors. ``measured`` has a pair for each product
    so far: the norms of its error and of itself, for a vector of unit norm.
    """

    def __init__(self) -> None:
        self.errors: Float[Tensor, "k P"] | None = None
        self.measured: list[tuple[float, float]] = []


def note_on(errors: ProductErrors | None, before: int) -> str:
    """How far the products were off that were made after the first ``before``; "" where they are exact, or none."""
    pairs = [] if errors is None else errors.measured[before:]
    if not pairs:
        return ""
    largest = max(error for error, _ in pairs)
    of = max(product for _, product in pairs)
    share = f", {largest / of:.1e} of the largest product" if of else ""
    return f"Hessian products by differences of gradients, off by up to {largest:.2e} for unit vectors{share}"
