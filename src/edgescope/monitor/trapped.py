"""Whether weight decay holds a network near the origin, where it has learned nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edgescope.monitor.run_facts import RunFacts, Series

SHRUNK: Final = 0.1
"""The norm of the weights, as a share of its largest, below which a network is near the origin."""

UNLEARNED: Final = 0.5
"""The loss, as a share of its first value, above which little was learned."""

LEAST: Final = 3
"""Readings of norm and loss below which nothing is told."""


@dataclass(frozen=True)
class TrapSigns:
    """The norms of all weights and the losses along a run, and its weight decay.

    ``norm`` is the last norm over the largest one, ``loss`` the last loss over the first one.
    """

    norms: Series
    losses: Series
    decay: float

    @property
    def norm(self) -> float:
        return self.norms.last / float(self.norms.values.max())

    @property
    def loss(self) -> float:
        return self.losses.last / float(self.losses.values[0])

    @property
    def trapped(self) -> bool:
        """Whether the weights have shrunk towards the origin and the loss is still near its first value.

        With weight decay the origin of a deep network is a local minimum, beside one at which features are learned
        (Ersoy and Wiesner 2026): a trap, which gradient descent does not leave by itself.
        """
        return self.norm <= SHRUNK and self.loss >= UNLEARNED

    def __str__(self) -> str:
        return (
            f"With a weight decay of {self.decay:g} the norm of the weights is {self.norms.last:.3g}, {self.norm:.2g}"
            f" of its largest, and the loss {self.losses.last:.3g}, {self.loss:.2g} times its first value"
        )


def trap_signs(run: RunFacts) -> TrapSigns | None:
    """What tells a trap; None without weight decay, or without three readings of the measures norms and loss."""
    decay, norms, losses = run.weight_decay, run.series("norms", "l2").finite(), run.series("loss", "train").finite()
    if not decay or len(norms) < LEAST or len(losses) < LEAST or not losses.values[0] > 0:
        return None
    return TrapSigns(norms, losses, decay)
