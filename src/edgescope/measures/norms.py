"""How large the parameters are, and how far they have come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.linalg import vector_norm

from edgescope.measures.measure import Measure, Moment, Needs, Reading


@dataclass
class Norms(Measure):
    """Parts "l1", "l2" and "distance" (l2, from initialisation) of all parameters, and "l2/NAME" of each tensor."""

    name: ClassVar[str] = "norms"
    title: ClassVar[str] = "Norms of the parameters"
    unit: ClassVar[str] = "parameter"
    source: ClassVar[str] = "definition"
    needs: ClassVar[Needs] = "nothing"

    def read(self, moment: Moment) -> Reading:
        w = moment.parameters.double()
        values = {
            "l1": float(vector_norm(w, 1)),
            "l2": float(vector_norm(w)),
            "distance": float(vector_norm(w - moment.initial.double())),
        }
        layers = {f"l2/{slot.name}": float(vector_norm(w[slot.slice])) for slot in moment.objective.layout}
        return Reading(self.name, values | layers)
