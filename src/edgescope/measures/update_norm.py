"""How far the parameters move in a step, and how unusual that is."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from edgescope.errors import EdgescopeError, NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.blocks import By, blocks_of
from edgescope.measures.reading import Reading
from edgescope.objective import Objective
from edgescope.options import check_fields, integer

ENOUGH: Final = 10
"""Steps after which a median of norms says what is usual."""


@dataclass
class UpdateNorm(Measure):
    """The norm of the last step, whatever took it.

    Parts: "" is ||d||, "relative" is it over the norm of the parameters that it has led to, and "over_median" over the
    median norm of the ``window`` steps before (of at least 10): far above 1 where updates grow, as before many spikes
    of adaptive optimizers. ``by`` "tensors" or "layers": also "norm/BLOCK", "relative/BLOCK" and "over_median/BLOCK".

    Every step enters the median, also those without a reading. Cost: a copy of the parameters and a norm at each step.
    """

    by: By = "none"
    window: int = 100
    _last: Tensor | None = field(default=None, init=False, repr=False)
    _norms: dict[str, list[float]] = field(default_factory=dict, init=False, repr=False)

    name: ClassVar[str] = "update_norm"
    title: ClassVar[str] = "Norm of the last step"
    unit: ClassVar[str] = "parameter (relative, over_median: 1)"
    source: ClassVar[str] = "definition"
    needs: ClassVar[Needs] = "nothing"
    needs_run: ClassVar[str] = "it compares the parameters before and after an optimizer step"

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'", window=integer(ENOUGH))

    def follow(self, step: int, objective: Objective) -> None:
        try:
            now = objective.parameters()
        except EdgescopeError:  # the model has changed
            self._last = None
            self._norms.clear()
            return
        if self._last is not None and self._last.shape == now.shape:
            moved = now.double() - self._last.to(now.device).double()
            for name, norm in self._of_blocks(moved, objective).items():
                kept = self._norms.setdefault(name, [])
                kept.append(norm)
                del kept[: -self.window - 1]
        self._last = now

    def read(self, moment: Moment) -> Reading:
        if not self._norms.get(""):
            raise NotKnownError("no step was seen yet")
        sizes = self._of_blocks(moment.parameters.double(), moment.objective)
        values: dict[str, float] = {}
        for name, norms in self._norms.items():
            *earlier, norm = norms
            if not math.isfinite(norm):
                raise NotKnownError("the parameters are not finite")
            end = f"/{name}" if name else ""
            values[f"norm{end}" if name else ""] = norm
            if sizes[name] > 0:
                values[f"relative{end}"] = norm / sizes[name]
            usual = statistics.median(earlier) if len(earlier) >= ENOUGH else 0.0
            if usual > 0:
                values[f"over_median{end}"] = norm / usual
        return Reading(self.name, values)

    def _of_blocks(self, vector: Float[Tensor, " P"], objective: Objective) -> dict[str, float]:
        found = {"": float(vector_norm(vector))}
        for name, places in blocks_of(objective.layout, self.by).items():
            found[name] = math.hypot(*(float(vector_norm(vector[place])) for place in places))
        return found

    def state(self) -> dict[str, Any]:
        return {"last": self._last, "norms": {name: list(norms) for name, norms in self._norms.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        self._last = state.get("last")
        self._norms = {name: list(norms) for name, norms in state.get("norms", {}).items()}
