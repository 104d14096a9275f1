"""Norms of the parameters without what oscillates at the edge of stability."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from edgescope.errors import InputError, NotKnownError
from edgescope.measures.measure import Measure, Moment, Needs, Reading


@dataclass
class SettledNorms(Measure):
    """Norms of the mean of the next ``steps`` iterates, and of where ``steps`` steps ``factor`` times as short lead.

    Both go on from here on all of the training data, while training itself is left as it is. Parts "averaged/l1",
    "averaged/l2", "decayed/l1", "decayed/l2", and the losses there, such as "averaged/train" and "decayed/test". Along
    sharp directions the mean of an even number of iterates cancels an oscillation of period two, and short steps let
    it die out; along flat ones neither moves far. So what a norm has here beyond that of a stable run is no
    oscillation. A shorter step is the optimizer's own, shortened: for SGD that with learning rate / factor.
    Cost: 2 ``steps`` gradients and, beside, two losses for each set of data.
    """

    steps: int = 50
    factor: float = 10.0

    name: ClassVar[str] = "settled_norms"
    title: ClassVar[str] = "Norms without oscillation"
    unit: ClassVar[str] = "parameter (norms), unit of the loss function (losses)"
    source: ClassVar[str] = "definition"
    needs: ClassVar[Needs] = "other points"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"measure '{self.name}' with steps={self.steps}", expected="at least 1")
        if not 1 <= self.factor < float("inf"):
            raise InputError(f"measure '{self.name}' with factor={self.factor:g}", expected="a finite number from 1 on")

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
        state = rule.state()
        for _ in range(self.steps):
            moved, state = rule.update(w, state, moment.objective.gradient(w))
            w = w + (moved - w) / factor
            yield w
