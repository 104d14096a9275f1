"""The cosine between successive changes of the network's outputs, negative where they oscillate."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.reading import Reading


@dataclass
class Oscillation(Measure):
    """The cosine between the last two changes of the network's outputs on all training data, from reading to reading.

    To be taken at every step (``"oscillation@1"``): 1 where the outputs move along a line, below 0 where a step
    undoes the one before. There is none before the third reading. Cost: one loss.
    """

    _outputs: list[Tensor] = field(default_factory=list, init=False, repr=False)  # of the last two readings

    name: ClassVar[str] = "oscillation"
    title: ClassVar[str] = "Cosine between the last two changes of the outputs"
    unit: ClassVar[str] = "1"
    source: ClassVar[str] = "Islamov et al. 2026 (arXiv 2603.05002)"
    needs: ClassVar[Needs] = "loss"
    needs_run: ClassVar[str] = "it compares the outputs at three readings"

    def read(self, moment: Moment) -> Reading:
        outputs = torch.cat([outputs.detach().flatten() for outputs, _ in moment.objective.outputs()])
        seen = [*(earlier.to(outputs.device) for earlier in self._outputs), outputs]
        self._outputs = seen[-2:]
        if len(seen) < 3:
            raise NotKnownError("there are no two changes of the outputs before the third reading")
        earlier, later = ((after - before).double() for before, after in pairwise(seen))
        lengths = float(earlier.norm() * later.norm())
        if lengths == 0:
            raise NotKnownError("the outputs did not change")
        return Reading(self.name, {"": float(earlier @ later) / lengths})

    def state(self) -> dict[str, Any]:
        return {str(number): outputs for number, outputs in enumerate(self._outputs)}

    def load_state(self, state: dict[str, Any]) -> None:
        self._outputs = [state[number] for number in sorted(state)]
