"""Options of the chains that estimate a learning coefficient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edgescope.options import Check, check_fields, integer, optional, real

CHECKS: Final[dict[str, Check]] = {
    "gamma": real(above=0),
    "beta": optional(real(above=0)),
    "n": optional(integer(2)),
    "chains": integer(2),
    "times": real(above=0),
    "burn_in": real(above=0),
    "share": real(above=0, below=1),
    "batch": optional(integer(1)),
    "max_steps": integer(1),
}
"""What the options may be that the measure ``learning_coefficient`` has too."""


@dataclass(frozen=True)
class ChainOptions:
    """How many chains, how long, and with which step: the arguments of :func:`learning_coefficient` by these names."""

    gamma: float = 1.0
    beta: float | None = None
    n: int | None = None
    chains: int = 8
    times: float = 8.0
    burn_in: float = 2.0
    share: float = 0.1
    step: float | None = None
    sharpness: float | None = None
    half_step: bool = False
    batch: int | None = None
    max_steps: int = 500_000
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(
            self,
            "learning_coefficient",
            step=optional(real(above=0)),
            sharpness=optional(real(least=0)),
            **CHECKS,
        )
