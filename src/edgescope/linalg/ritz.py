"""The eigenpairs of an operator that was projected on a subspace."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Ritz:
    """Eigenpairs of the projected operator, in descending order: values (m,), coordinates in the basis (m, m)."""

    values: Float[Tensor, " m"]
    coordinates: Float[Tensor, "m m"]

    @cached_property
    def magnitude(self) -> float:
        """The largest absolute value: an estimate of the operator's norm, from below."""
        return float(self.values.abs().max()) if self.values.numel() else 0.0
