"""An estimate of an operator outside a basis, from earlier eigenpairs, and the corrections of Ritz pairs it gives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# On networks at the edge of stability and on matrices with crossings, 0.03 to 0.3 took about as many products.
_NEAREST = 0.1  # the least distance of an estimated value from a Ritz value, as a fraction of that


@dataclass(frozen=True)
class OutsideEstimate:
    """The operator between the ``f`` rows outside a basis, as far as it is estimated.

    ``matrix`` (f, f) is float64 and on the CPU; along directions of which nothing is known it is ``elsewhere`` times
    the identity: zero for the bulk of a Hessian's spectrum.
    """

    matrix: Float[Tensor, "f f"]
    elsewhere: float

    @classmethod
    def from_pairs(
        cls, values: Float[Tensor, " j"], coordinates: Float[Tensor, "j f"], elsewhere: float
    ) -> OutsideEstimate:
        """From values of vectors with these coordinates, which are nearly orthonormal."""
        axes = torch.linalg.pinv(coordinates)
        known = axes @ torch.diag(values - elsewhere) @ axes.T
        return cls(known + elsewhere * torch.eye(known.shape[0], dtype=torch.float64, device="cpu"), elsewhere)

    def turned(self, turn: Float[Tensor, "f g"]) -> OutsideEstimate:
        """For the rows that are ``turn.T`` times those outside."""
        return OutsideEstimate(turn.T @ self.matrix @ turn, self.elsewhere)

    def after(self, taken: int, added: int) -> OutsideEstimate:
        """Where the first ``taken`` rows are no longer outside, and others, of which nothing is known, came last."""
        left = self.matrix[taken:, taken:]
        fresh = self.elsewhere * torch.eye(added, dtype=torch.float64, device="cpu")
        return OutsideEstimate(torch.block_diag(left, fresh), self.elsewhere)

    def corrections(
        self, residuals: Float[Tensor, "b f"], values: Float[Tensor, " b"], largest: Bool[Tensor, " b"], floor: float
    ) -> Float[Tensor, "b f"]:
        """(value - estimate)^(-1) residual: the directions outside along which Ritz pairs are to be corrected.

        Where nothing is known these are the residuals. A pair that is among the ``largest`` is taken to lie above all
        estimated values, another one below, by a small part of its value or of ``floor`` at least.
        Source: Davidson, J. Comput. Phys. 17 (1975) 87; Morgan and Scott, SIAM J. Sci. Stat. Comput. 7 (1986) 817.
        """
        known, axes = torch.linalg.eigh(self.matrix)
        size = values.abs().clamp(min=floor)[:, None]
        distances = torch.where(largest[:, None], values[:, None] - known, known - values[:, None])
        return (residuals @ axes * size / torch.maximum(distances, _NEAREST * size)) @ axes.T
