"""Norms of the parameters without what oscillates at the edge of stability."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from edgescope.cost import Cost
from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.options import check_fields, integer, real


@dataclass
class SettledNorms(Measure):
    """Norms of the mean of the next ``steps`` iterates, and of the end of ``steps`` steps ``factor`` times as short.

    Both continue from the present parameters on all training data; training itself is not changed. Parts "averaged/l1",
    "averaged/l2", "decayed/l1", "decayed/l2", and the losses there, such as "averaged/train" and "decayed/test". Along
    sharp directions the mean of an even number of iterates cancels an oscillation of period two, and short steps damp
    it; along flat ones neither moves far. So a norm that still is larger than that of a stable run is not so by
    oscillation. A shorter step is the optimizer's own, shortened: for SGD that with learning rate / factor.
    Cost: 2 ``steps`` gradients, and two losses for each set of data.
    """

    steps: int = 50
    factor: float = 10.0

    name: ClassVar[str] = "settled_norms"
    title: ClassVar[str] = "Norms without oscillation"
    unit: ClassVar[str] = "parameter (norms), unit of the loss function (losses)"
    source: ClassVar[str] = "definition"
    needs: ClassVar[Needs] = "other points"

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'", steps=integer(1), factor=real(least=1))

    def expected_cost(self, size: ProblemSize) -> Cost:
        return Cost(gradients=2 * self.steps)

    def read(self, moment: Moment) -> Reading:
        total = torch.zeros_like(moment.parameters, dtype=torch.float64)
        for w in self._ahead(moment, 1.0):
            total += w
        for last in self._ahead(moment, self.factor):
            decayed = last
        values: dict[str, float] = {}
        for name, w in (("averaged", (total / self.steps).to(moment.parameters)), ("decayed", decayed)):
            if not bool(torch.isfinite(w).all()):
                raise NotKnownError(f"the next {self.steps} steps from here diverge")
            values |= {f"{name}/l{order}": float(vector_norm(w.double(), order)) for order in (1, 2)}
            for part, objective in {"train": moment.objective, **moment.evaluations}.items():
                values[f"{name}/{part}"] = float(objective.loss(w))
        return Reading(self.name, values)

    def _ahead(self, moment: Moment, factor: float) -> Iterator[Float[Tensor, " P"]]:
        """The next iterates, each step that of the optimizer divided by ``factor``."""
        rule, w = moment.known_rule(), moment.parameters
        if rule.gradients > 1:
            raise NotKnownError(f"the next steps of {rule.name} take gradients at other places than the parameters")
        state = rule.state()
        for _ in range(self.steps):
            moved, state = rule.update(w, state, moment.objective.gradient(w))
            w = w + (moved - w) / factor
            yield w
