"""A schedule of weight decay, and of Langevin noise, over optimizer steps; and the decays that it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch

from edgescope.errors import InputError
from edgescope.notebooks import in_notebooks
from edgescope.options import check_fields, check_int, choice, each, instance_of, integer, real
from edgescope.phases.scan import Scan

Means = Literal["low decay", "dip", "noise"]


@in_notebooks
@dataclass(frozen=True)
class DecayTransitions:
    """The decays between which a network has two states, one with features and one without.

    Above ``upper`` (upper spinodal) the features are lost. Below ``lower`` (lower spinodal) the network leaves the
    state without features by itself; 0 where it does so at no positive decay, as deep linear networks from depth 3 on.
    """

    lower: float
    upper: float

    def __post_init__(self) -> None:
        check_fields(self, "transitions", lower=real(least=0), upper=real(above=0))
        if self.lower > self.upper:
            raise InputError(
                f"transitions with lower={self.lower:g} above upper={self.upper:g}", expected="the reverse"
            )

    @classmethod
    def of(cls, scan: Scan, order: str = "norm") -> DecayTransitions:
        """Those of a sweep: of its jumps of the order parameter ``order``, the decays next to them on the safe side.

        ``upper`` is the decay before the first jump on the way up, and ``lower`` the decay after the last one on the
        way down; 0 where nothing came back. Raises :class:`InputError` for a sweep without a jump on the way up.
        """
        jumps = scan.jumps(order)
        up, down = ([jump for jump in jumps if jump.way == way] for way in ("up", "down"))
        if not up:
            raise InputError(
                f"a scan in which '{order}' does not jump on the way up",
                expected="a network with two states",
                hint="larger decays, or another order parameter as order=",
            )
        upper = min(jump.before for jump in up)
        return cls(min(min((jump.after for jump in down), default=0.0), upper), upper)


@in_notebooks
@dataclass(frozen=True)
class DecaySchedule:
    """Weight decay against optimizer steps: ``decays[k]`` from step ``steps[k]`` on, until the next of them.

    ``temperatures`` are those of Langevin noise, 0 for none. ``means`` says what keeps the network from being trapped,
    or frees it: a low decay while features are learned, a dip below the decay at which the trap ends, or noise over the
    barrier. ``transitions`` are the decays that it rests on, ``barrier`` the height in the unit of the loss where it
    uses noise (0 otherwise), ``margin`` the distance kept from them as a share, and ``assumes`` the conditions under
    which it does what it is for. Made by :func:`edgescope.phases.schedule`, or by hand.
    """

    steps: tuple[int, ...]
    decays: tuple[float, ...]
    temperatures: tuple[float, ...]
    means: Means
    transitions: DecayTransitions
    barrier: float = 0.0
    margin: float = 0.0
    assumes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        size = real(least=0)
        check_fields(
            self, "a decay schedule", steps=each(integer(0)), decays=each(size), temperatures=each(size),
            means=choice(*get_args(Means)), transitions=instance_of(DecayTransitions), barrier=size,
            margin=real(least=0, below=1),
        )  # fmt: skip
        check_knots(self.steps, self.decays)
        if len(self.temperatures) != len(self.steps):
            raise InputError(
                f"a decay schedule with {len(self.temperatures)} temperatures at {len(self.steps)} steps",
                expected="one for each",
            )

    def at(self, step: int) -> float:
        """The weight decay of optimizer step ``step``, counted from 0."""
        return self.decays[self._place(step)]

    def temperature_at(self, step: int) -> float:
        """The temperature of the noise at that step; 0 for none."""
        return self.temperatures[self._place(step)]

    def apply(self, optimizer: torch.optim.Optimizer, step: int, groups: Sequence[int] | None = None) -> None:
        """Set the weight decay of an optimizer, and its temperature, before it takes step ``step``.

        ``groups`` are the numbers of the parameter groups that decay, by default all. Temperatures need
        :class:`edgescope.optim.Langevin`, to which a temperature of 0 is given as 1e-30. Raises :class:`InputError` for
        an optimizer without weight decay, or without temperature where the schedule has noise.
        """
        set_decay(optimizer, self.at(step), groups)
        if any(self.temperatures):
            if any("temperature" not in group for group in optimizer.param_groups):
                raise InputError(
                    f"a schedule with noise for {type(optimizer).__name__}", expected="an optimizer with a temperature",
                    hint="es.optim.Langevin",
                )  # fmt: skip
            for group in optimizer.param_groups:
                group["temperature"] = max(self.temperature_at(step), 1e-30)

    def as_option(self) -> str:
        """The text of this schedule for training runs: ``RunConfig(decay_schedule=...)``.

        Raises :class:`InputError` for a schedule with noise, which runs cannot take.
        """
        if any(self.temperatures):
            raise InputError("a schedule with noise as an option of a run", expected="one of weight decay alone")
        return f"knots:steps={'x'.join(map(str, self.steps))},decays={'x'.join(f'{d!r}' for d in self.decays)}"

    def _place(self, step: int) -> int:
        step = check_int("a decay schedule", "step", step, least=0)
        return sum(at <= step for at in self.steps) - 1


def check_knots(steps: Sequence[int], decays: Sequence[float]) -> None:
    """Raise :class:`InputError` for steps that do not rise from 0, or not one decay for each."""
    if not steps or steps[0] != 0 or any(b <= a for a, b in pairwise(steps)):
        raise InputError(f"a decay schedule with steps={tuple(steps)}", expected="steps that rise from 0")
    if len(decays) != len(steps):
        raise InputError(
            f"a decay schedule with {len(decays)} decays at {len(steps)} steps", expected="one decay for each"
        )


def set_decay(optimizer: torch.optim.Optimizer, decay: float, groups: Sequence[int] | None = None) -> None:
    """Set the ``weight_decay`` of these parameter groups of an optimizer, by default of all."""
    known = range(len(optimizer.param_groups))
    chosen = known if groups is None else groups
    for number in chosen:
        if number not in known:
            raise InputError(f"parameter group {number}", expected=f"0 to {len(known) - 1}")
        if "weight_decay" not in optimizer.param_groups[number]:
            raise InputError(
                f"a decay schedule for {type(optimizer).__name__}", expected="an optimizer with a weight_decay"
            )
    for number in chosen:
        optimizer.param_groups[number]["weight_decay"] = decay
