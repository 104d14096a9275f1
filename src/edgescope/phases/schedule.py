"""Schedules of weight decay that keep a network from being trapped, or free a trapped one."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from edgescope.errors import InputError
from edgescope.options import checked, choice, integer, optional, real, text, type_of
from edgescope.phases.barrier import Barrier
from edgescope.phases.decay_schedule import DecaySchedule, DecayTransitions, Means
from edgescope.phases.scan import Scan
from edgescope.theory.deep_linear import Mode

Goal = Literal["learn", "free"]

Source = Scan | Mode | Barrier | DecayTransitions

CHANCE = 0.95
"""The probability with which noise frees the network in its steps, for escape times that are exponential."""

LEAST_RATIO = 2.0
"""The smallest ratio of barrier and temperature for which the law of Arrhenius is used."""

PIECES = 8
"""Decays of a rise for which no sweep says where they should be."""


@checked(
    goal=choice("learn", "free"),
    final=optional(real(above=0)),
    low=optional(real(least=0)),
    steps=optional(integer(1)),
    raising=integer(0),
    lr=optional(real(above=0)),
    start=optional(real(above=0)),
    margin=real(least=0, below=1),
    order=text(empty=False),
)
def schedule(
    source: Source,
    *,
    goal: Goal = "learn",
    final: float | None = None,
    low: float | None = None,
    steps: int | None = None,
    raising: int = 0,
    lr: float | None = None,
    start: float | None = None,
    margin: float = 0.1,
    order: str = "norm",
) -> DecaySchedule:
    """A schedule of weight decay that does not trap a network (``goal="learn"``) or frees a trapped one (``"free"``).

    To learn, the decay is ``low`` while features are learned and then rises to ``final``, below the upper spinodal, on
    the branch that keeps them. For deep linear networks no schedule of decays is faster to the learned state of
    ``final`` than no decay until that state is reached, since every decay slows the growth of every weight.

    To free, the decay dips to ``low``, below the lower spinodal, for ``steps`` steps. Where there is no such decay, or
    none is known, Langevin noise over the barrier does it, at the temperature of Arrhenius' law by which 95% of the
    networks escape within ``steps`` steps; the decay is ``low`` meanwhile, by default ``final``.

    Args:
        source: what is known of the network: a sweep of its decay (:func:`edgescope.phases.scan`); the mode of a deep
            linear network, the weakest of those to be kept; the two spinodals, where they are known otherwise; or, to
            free it by noise, the path out of the trap at decay ``final`` (:func:`edgescope.phases.barrier`).
        final: the decay at the end; by default 1 - margin times the upper spinodal.
        low: the decay at the beginning; by default 0 to learn, and to free 1 - margin times the lower spinodal.
        steps: optimizer steps at the decay ``low``: how long the network takes to learn there, plus a margin of your
            own. Of a mode it is computed from ``start`` and ``lr``, as the time of gradient flow and a margin.
        raising: steps of the rise to ``final`` after that, at the decays that the sweep visited; 0: at once.
        lr: learning rate, for times of a mode and for noise.
        start: all weights of the mode at the start, for a mode alone; without it, freeing a mode takes noise.
        margin: the share by which the schedule stays away from the spinodals, and by which ``steps`` are longer.
        order: the order parameter of the sweep whose jumps are the spinodals.

    Raises :class:`InputError` for a final decay that is not below the upper spinodal, a low one at which the network
    would be trapped, a sweep without a jump, and steps too few for noise to free it. No cost.

    Source: the closed forms of Ersoy and Wiesner 2026, arXiv 2606.17120, corrected; derived here.
    """
    if isinstance(source, Barrier):
        return _by_noise_over(source, goal, final, steps, lr, margin)
    if isinstance(source, Mode):
        if source.depth < 3:
            raise InputError(
                f"a mode of depth {source.depth}", expected="depth of at least 3: decay does not trap others"
            )
        transitions = DecayTransitions(0.0, source.critical_decay())
    elif isinstance(source, Scan):
        transitions = DecayTransitions.of(source, order)
    elif isinstance(source, DecayTransitions):
        transitions = source
    else:
        raise InputError(f"a schedule from {type_of(source)}", expected="a Scan, a Mode, a Barrier or DecayTransitions")
    final = _final(final, transitions, margin)
    if isinstance(source, Mode) and goal == "free" and start is None:
        return _by_noise(source, final, final if low is None else low, steps, lr, margin)
    if isinstance(source, Mode):
        low = 0.0 if low is None else low
        steps = _steps_to_learn(source, low, final, start, lr, margin) if steps is None else steps
        _refuse_trap(low, source.growth_decay(start) if start else math.inf, margin, final)
        assumes = (
            "gradient descent with coupled weight decay on a deep linear network with balanced layers",
            "learning rates small enough that descent follows the flow",
        )
    else:
        low = _low_of(transitions, goal, low, margin, final)
        if steps is None:
            raise InputError("a schedule without steps", expected="how many steps the network takes to learn at low=")
        assumes = (
            f"the network learns within {steps} steps at decay {low:.4g}",
            "the optimizer and learning rate with which the transitions were found",
        )
    rise = _rise(source, low, final, raising)
    at = [0, *(steps + round(k * raising / len(rise)) for k in range(len(rise)))]
    means: Means = "dip" if goal == "free" else "low decay"
    return DecaySchedule(tuple(at), (low, *rise), (0.0,) * len(at), means, transitions, 0.0, margin, assumes)


def _final(final: float | None, transitions: DecayTransitions, margin: float) -> float:
    most = (1 - margin) * transitions.upper
    if final is not None and final > most:
        raise InputError(
            f"final={final:g} with the upper spinodal at {transitions.upper:.4g}",
            expected=f"at most {most:.4g}, below it by the margin of {margin:g}",
        )
    return most if final is None else final


def _refuse_trap(low: float, below: float, margin: float, final: float) -> None:
    """Raise :class:`InputError` for a low decay at which the network does not grow, or which is not the lower one."""
    if low > (1 - margin) * below:
        raise InputError(
            f"low={low:g}, at which the network stays trapped", expected=f"at most {(1 - margin) * below:.4g}"
        )
    if low >= final:
        raise InputError(f"low={low:g} and final={final:g}", expected="a final decay above the low one")


def _low_of(transitions: DecayTransitions, goal: Goal, low: float | None, margin: float, final: float) -> float:
    if goal == "free" and transitions.lower == 0:
        raise InputError(
            "a network that came back at no decay, so that no dip is known to free it",
            expected="a lower spinodal above 0", hint="noise, with the path out of the trap as source",
        )  # fmt: skip
    low = (0.0 if goal == "learn" else (1 - margin) * transitions.lower) if low is None else low
    _refuse_trap(low, transitions.lower, margin, final)
    return low


def _steps_to_learn(mode: Mode, low: float, final: float, start: float | None, lr: float | None, margin: float) -> int:
    if start is None or lr is None:
        raise InputError(
            "a schedule of a mode without steps", expected="start= and lr=, from which they follow, or steps="
        )
    end = mode.minimum(final)
    if start >= end:
        return 1
    time = mode.learning_time(low, start, end)
    if math.isinf(time):
        raise InputError(
            f"low={low:g}, at which weights of {start:g} do not grow",
            expected=f"less than {mode.growth_decay(start):.4g}",
        )
    return max(1, math.ceil((1 + margin) * time / lr))


def _rise(source: Source, low: float, final: float, raising: int) -> tuple[float, ...]:
    """The decays after ``low``, up to ``final``."""
    if raising == 0:
        return (final,)
    if isinstance(source, Scan):
        visited = [decay for decay in source.decays.tolist() if low < decay < final]
    else:
        visited = np.geomspace(max(low, final / 100), final, PIECES + 1)[1:-1].tolist()
    return (*visited[-(raising - 1) :], final) if raising > 1 else (final,)


def _by_noise(
    mode: Mode, final: float, decay: float, steps: int | None, lr: float | None, margin: float
) -> DecaySchedule:
    _refuse_noise_at(decay, mode.critical_decay(), margin)
    height = mode.barrier_up(decay)
    attempts = mode.kramers_time(decay, height) / math.e  # the factor before the exponential
    temperature = _temperature(height, attempts, steps, lr)
    assumes = (
        "Langevin noise and coupled weight decay",
        "the time of a chain of scalars: wider networks escape sooner",
        f"a learned state that stays: its barrier is {mode.barrier_down(decay) / temperature:.1f} temperatures high",
    )
    transitions = DecayTransitions(0.0, mode.critical_decay())
    return _noisy(int(steps or 0), decay, final, temperature, transitions, height, margin, assumes)


def _refuse_noise_at(decay: float, upper: float, margin: float) -> None:
    if not 0 < decay <= (1 - margin) * upper:
        raise InputError(
            f"noise at decay {decay:g}", expected=f"a decay above 0 and at most {(1 - margin) * upper:.4g}, where"
            " a barrier separates the two states",
        )  # fmt: skip


def _by_noise_over(
    path: Barrier, goal: Goal, final: float | None, steps: int | None, lr: float | None, margin: float
) -> DecaySchedule:
    if goal != "free":
        raise InputError("a schedule to learn from a Barrier", expected="a Scan, a Mode or DecayTransitions")
    if final is None:
        raise InputError("a schedule from a Barrier without final", expected="the decay at which the path was found")
    if not path.height > path.error:
        raise InputError(
            f"a path of height {path.height:.3g} +- {path.error:.3g}", expected="a barrier, which noise has to cross"
        )
    temperature = _temperature(path.height, 1 / final, steps, lr)
    assumes = (
        "Langevin noise and coupled weight decay",
        "an attempt to escape in each relaxation time, 1 / decay; entropy may lower the barrier",
        f"a learned state that stays: its barrier is {path.reverse_height / temperature:.1f} temperatures high",
    )
    transitions = DecayTransitions(0.0, final / (1 - margin))
    return _noisy(int(steps or 0), final, final, temperature, transitions, path.height, margin, assumes)


def _temperature(height: float, attempts: float, steps: int | None, lr: float | None) -> float:
    """The temperature at which the time attempts exp(height / T) lets 95% escape within the steps."""
    if steps is None or lr is None:
        raise InputError("noise without steps and lr", expected="steps= in which it frees the network, and lr=")
    mean = steps * lr / -math.log1p(-CHANCE)
    if mean < attempts * math.exp(LEAST_RATIO):
        least = math.ceil(attempts * math.exp(LEAST_RATIO) * -math.log1p(-CHANCE) / lr)
        raise InputError(
            f"steps={steps}, too few for noise that is cold against the barrier", expected=f"at least {least:,}"
        )
    return height / math.log(mean / attempts)


def _noisy(
    steps: int, decay: float, final: float, temperature: float, transitions: DecayTransitions, height: float,
    margin: float, assumes: tuple[str, ...],
) -> DecaySchedule:  # fmt: skip
    return DecaySchedule((0, steps), (decay, final), (temperature, 0.0), "noise", transitions, height, margin, assumes)
