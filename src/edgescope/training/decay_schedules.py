"""Schedules of weight decay by name, for runs: ``DECAY_SCHEDULES.build("knots:steps=0x500,decays=0x0.1")``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from edgescope.options import check_fields, each, integer, real
from edgescope.phases.decay_schedule import check_knots, set_decay
from edgescope.registry import Registry


@dataclass(frozen=True)
class NamedDecaySchedule(ABC):
    """The weight decay of every parameter group at each optimizer step (from 0)."""

    @abstractmethod
    def apply(self, optimizers: Sequence[torch.optim.Optimizer], step: int) -> None:
        """Set the weight decay of all groups for this step; :class:`InputError` for optimizers without one."""


@dataclass(frozen=True)
class ConstantDecay(NamedDecaySchedule):
    """The weight decay that the optimizer was given."""

    def apply(self, optimizers: Sequence[torch.optim.Optimizer], step: int) -> None:
        pass


@dataclass(frozen=True)
class KnotsOfDecay(NamedDecaySchedule):
    """``decays[k]`` from step ``steps[k]`` on, until the next of the steps, which rise from 0.

    It replaces the weight decay of the optimizer. :meth:`edgescope.phases.DecaySchedule.as_option` writes it.
    """

    steps: tuple[int, ...]
    decays: tuple[float, ...]

    def __post_init__(self) -> None:
        check_fields(self, "decay schedule knots", steps=each(integer(0)), decays=each(real(least=0)))
        check_knots(self.steps, self.decays)

    def apply(self, optimizers: Sequence[torch.optim.Optimizer], step: int) -> None:
        decay = self.decays[sum(at <= step for at in self.steps) - 1]
        for optimizer in optimizers:
            set_decay(optimizer, decay)


DECAY_SCHEDULES: Registry[NamedDecaySchedule] = Registry("decay schedule")
DECAY_SCHEDULES.add("constant", ConstantDecay)
DECAY_SCHEDULES.add("knots", KnotsOfDecay)
