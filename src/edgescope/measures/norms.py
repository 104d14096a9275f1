"""Norms of the parameters, and their distance from initialisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from torch.linalg import vector_norm

from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.reading import Reading

UNKNOWN: Final = "no distance, since the parameters of step 0 are not known"


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
        }
        if moment.initial is not None:
            values["distance"] = float(vector_norm(w - moment.initial.double()))
        layers = {f"l2/{slot.name}": float(vector_norm(w[slot.slice])) for slot in moment.objective.layout}
        return Reading(self.name, values | layers, note="" if moment.initial is not None else UNKNOWN)
