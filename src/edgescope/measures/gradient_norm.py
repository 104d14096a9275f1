"""The Euclidean norm of the full gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.reading import Reading
from edgescope.objective.layout import Layout, Slot

TENSORS_AT_ZERO: Final = "tensors without a gradient"
"""What :func:`tensors_at_zero` finds at a moment, as a function, by this name in ``moment.shared``."""


@dataclass
class GradientNorm(Measure):
    """||g||_2 over all data. Cost: one gradient, or nothing where a curvature product was taken at the same step."""

    name: ClassVar[str] = "gradient_norm"
    title: ClassVar[str] = "Gradient norm"
    unit: ClassVar[str] = "loss / parameter"
    source: ClassVar[str] = "definition"
    needs: ClassVar[Needs] = "gradient"

    def read(self, moment: Moment) -> Reading:
        gradient = moment.objective.gradient()
        moment.shared[TENSORS_AT_ZERO] = lambda: tensors_at_zero(moment.objective.layout, gradient)
        return Reading(self.name, {"": float(vector_norm(gradient.double()))})


def tensors_at_zero(layout: Layout, gradient: Float[Tensor, " P"]) -> list[Slot]:
    """The parameter tensors in which every entry of the gradient is exactly 0. Cost: a pass over the gradient."""
    some = torch.stack([piece.any() for piece in layout.split(gradient)]).tolist()
    return [slot for slot, has_gradient in zip(layout, some, strict=True) if not has_gradient]
