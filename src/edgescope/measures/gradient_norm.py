"""The Euclidean norm of the full gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.linalg import vector_norm

from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.reading import Reading


@dataclass
class GradientNorm(Measure):
    """||g||_2 over all data. Cost: one gradient, or nothing where a curvature product was taken at the same step."""

    name: ClassVar[str] = "gradient_norm"
    title: ClassVar[str] = "Gradient norm"
    unit: ClassVar[str] = "loss / parameter"
    source: ClassVar[str] = "definition"
    needs: ClassVar[Needs] = "gradient"

    def read(self, moment: Moment) -> Reading:
        return Reading(self.name, {"": float(vector_norm(moment.objective.gradient().double()))})
