"""The last optimizer step of a run, as the monitor has seen it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

StepPart = Literal["parameters", "gradient", "training"]
"""What a measure may need of the step before its reading: the parameters where it began, loss and gradient of the
objective there, or what training stepped with (its gradient, and the state of the optimizer's rule)."""


@dataclass(frozen=True)
class LastStep:
    """Where the last optimizer step began, and what it was taken with; None where no measure asked, or not known.

    ``rates`` are the learning rates of the step, each once, ``batch`` is the data that the caller said it was taken on.
    ``gradient()`` is the gradient of training as a flat vector, ``of_the_rule()`` the step of the optimizers' rules on
    it. ``at_target_rate()`` is the step that the optimizer's
    rule takes at the learning rates that a schedule starts from (``initial_lr``), where those of the step were 0, with
    these rates.
    """

    start: Float[Tensor, " P"] | None = None
    rates: tuple[float, ...] = ()
    batch: Any = None
    gradient: Callable[[], Float[Tensor, " P"] | None] = lambda: None
    of_the_rule: Callable[[], Float[Tensor, " P"] | None] = lambda: None
    at_target_rate: Callable[[], tuple[Float[Tensor, " P"], tuple[float, ...]] | None] = lambda: None
