"""Learning-rate schedules by name, for runs: ``SCHEDULES.build("warmup:steps=100,then=cosine")``."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.optim.lr_scheduler import LambdaLR

from edgescope.options import check_fields, choice, integer, real
from edgescope.registry import Registry

After = Literal["constant", "cosine", "linear"]


@dataclass(frozen=True)
class NamedSchedule(ABC):
    """The factor of the learning rate at each optimizer step (from 0) of a run of ``total`` steps."""

    @abstractmethod
    def factor(self, step: int, total: int) -> float:
        """What the learning rate of every parameter group is multiplied by at this step; 0 <= step <= total."""

    @property
    def needs_total(self) -> bool:
        """Whether a factor depends on the number of steps of the run, which then cannot be extended."""
        return True

    def attach(self, optimizers: Sequence[torch.optim.Optimizer], total: int) -> list[LambdaLR]:
        """A scheduler of torch for each optimizer, which sets its learning rate for step 0.

        ``scheduler.step()`` after every optimizer step; ``state_dict()`` continues bit for bit.
        """

        def factor(step: int) -> float:
            return self.factor(step, total)

        return [LambdaLR(optimizer, factor) for optimizer in optimizers]


@dataclass(frozen=True)
class ConstantSchedule(NamedSchedule):
    """The learning rate of the run at every step."""

    def factor(self, step: int, total: int) -> float:
        return 1.0

    @property
    def needs_total(self) -> bool:
        return False

    def attach(self, optimizers: Sequence[torch.optim.Optimizer], total: int) -> list[LambdaLR]:
        """No scheduler."""
        return []


@dataclass(frozen=True)
class CosineSchedule(NamedSchedule):
    """Half a cosine, from the learning rate of the run to ``final`` times it after the last step."""

    final: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "schedule cosine", final=real(least=0, most=1))

    def factor(self, step: int, total: int) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * step / total)) / 2


@dataclass(frozen=True)
class LinearSchedule(NamedSchedule):
    """A straight line, from the learning rate of the run to ``final`` times it after the last step."""

    final: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "schedule linear", final=real(least=0, most=1))

    def factor(self, step: int, total: int) -> float:
        return 1 - (1 - self.final) * step / total


@dataclass(frozen=True)
class WarmupSchedule(NamedSchedule):
    """A linear rise to the learning rate of the run over ``steps`` steps, ``then`` constant, cosine or linear.

    Cosine and linear go down to ``final`` times it over the remaining steps. A run of fewer than ``steps`` steps ends
    while the learning rate still rises.
    """

    steps: int = 100
    then: After = "constant"
    final: float = 0.0

    def __post_init__(self) -> None:
        known = choice("constant", "cosine", "linear")
        check_fields(self, "schedule warmup", steps=integer(1), then=known, final=real(least=0, most=1))

    def factor(self, step: int, total: int) -> float:
        if step < self.steps:
            return (step + 1) / self.steps if self.steps > 1 else 1.0
        if self.then == "constant":
            return 1.0
        after: NamedSchedule = CosineSchedule(self.final) if self.then == "cosine" else LinearSchedule(self.final)
        return after.factor(step - self.steps, max(total - self.steps, 1))

    @property
    def needs_total(self) -> bool:
        return self.then != "constant"


SCHEDULES: Registry[NamedSchedule] = Registry("schedule")
SCHEDULES.add("constant", ConstantSchedule)
SCHEDULES.add("cosine", CosineSchedule)
SCHEDULES.add("linear", LinearSchedule)
SCHEDULES.add("warmup", WarmupSchedule)
