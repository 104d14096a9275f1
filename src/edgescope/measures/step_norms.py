"""The norms of the last steps of a run, of all parameters and of each block, and their medians."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any, Final

from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from edgescope.errors import EdgescopeError
from edgescope.objective import Objective
from edgescope.objective.layout import Layout

ENOUGH: Final = 10
"""Steps after which a median of norms says what is usual."""

BlocksOf = Callable[[Layout], dict[str, list[slice]]]
"""The places in the flat vector of each block by its name."""


class StepNorms:
    """Follows the parameters of a run from step to step, and keeps the norms of the last ``window`` + 1 steps.

    ``norms`` has those of all parameters as "", and of each block of ``blocks`` by its name; ``step`` is the last step,
    None before the first. Memory: two copies of the parameters.
    """

    def __init__(self, window: int, blocks: BlocksOf) -> None:
        self.window, self.blocks = window, blocks
        self.norms: dict[str, list[float]] = {}
        self.step: Float[Tensor, " P"] | None = None
        self._last: Tensor | None = None

    def follow(self, objective: Objective) -> None:
        """Take the parameters as they are now. Cost: a copy of them and a norm, which the host reads."""
        self.step = None
        try:
            now = objective.parameters()
        except EdgescopeError:  # the model has changed
            self._last = None
            self.norms.clear()
            return
        if self._last is not None and self._last.shape == now.shape:
            self.step = now.double() - self._last.to(now.device).double()
            for name, norm in self.of_blocks(self.step, objective.layout).items():
                kept = self.norms.setdefault(name, [])
                kept.append(norm)
                del kept[: -self.window - 1]
        self._last = now

    def over_median(self, name: str = "") -> float | None:
        """The last norm over the median of those before, of at least 10; None where that is not known."""
        *earlier, norm = self.norms.get(name) or [math.nan]
        usual = statistics.median(earlier) if len(earlier) >= ENOUGH else 0.0
        return norm / usual if usual > 0 and math.isfinite(norm) else None

    def of_blocks(self, vector: Float[Tensor, " P"], layout: Layout) -> dict[str, float]:
        """The norm of a vector, as "", and of its part in each block."""
        found = {"": float(vector_norm(vector))}
        for name, places in self.blocks(layout).items():
            found[name] = math.hypot(*(float(vector_norm(vector[place])) for place in places))
        return found

    def state(self) -> dict[str, Any]:
        """What :meth:`load_state` needs."""
        return {"last": self._last, "norms": {name: list(norms) for name, norms in self.norms.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`state` gave."""
        self._last, self.step = state.get("last"), None
        self.norms = {name: list(norms) for name, norms in state.get("norms", {}).items()}
