"""What goes wrong around a training run without an error: one function for each, which gives a notice where it does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.measures import Measure, Reading, StepTaken
from edgescope.monitor.notifier import without_numbers
from edgescope.monitor.pending import Pieces
from edgescope.objective import Objective
from edgescope.objective.layout import Slot
from edgescope.objective.modes import RUNNING, running_statistics

MOVED_AFTER: Final = 10
"""Steps after which a parameter that has not moved is noticed."""

OTHERS: Final = 3
"""Calls of ``monitor.step()``, and steps of others, after which an optimizer that has never stepped is noticed."""

LAST: Final = 10
"""As many calls of ``monitor.step()``, and steps of others, at the end of training are too many without a step."""

CALLS: Final = 64
"""Calls of ``monitor.step()`` without any optimizer step after which that is noticed: more than most micro-batches."""

STEADY: Final = 0.99
"""Cosine above which the gradients of two steps in a row are nearly the same."""

MAX_GRADIENTS_COMPARED: Final = 5
"""Readings, at most, after which the gradient of the next step is compared too."""

Notify = Callable[..., object]


def check_mode(objective: Objective, notify: Notify) -> None:
    """Give a notice where the model computes another function in training than while it is measured."""
    names = running_statistics(objective.model) if objective.mode == "eval" else []
    if names:
        notify("mode", f"'{names[0]}' {RUNNING}", faq="running-statistics", hint="mode='auto'")
        return
    found = objective.loss_in_training_mode()
    if found is None:
        return
    measured, training, random = found
    if random:
        notify(
            "dropout",
            f"{random} is off while measuring: training descends the mean over its draws, whose curvature differs",
            faq="dropout",
            cause="random",
        )
    elif abs(measured - training) > 1e-3 * max(abs(measured), abs(training)):
        notify(
            "mode",
            f"in training mode the model computes another function than in mode='{objective.mode}' (loss"
            f" {training:.4g} instead of {measured:.4g} on the same samples)",
            faq="training-mode",
            hint="mode='train'",
        )


def check_evaluation_mode(objective: Objective, notify: Notify) -> None:
    """Give a notice where the model is in evaluation mode when it is trained, and measured with batch statistics."""
    names = objective.left_in_evaluation()
    if names:
        notify(
            "mode",
            f"the model is in evaluation when the optimizer steps, and '{names[0]}' is measured with the statistics of"
            " its batch (mode='auto')",
            faq="evaluation-mode",
            hint="mode='eval', if the model is trained so",
            cause="evaluation",
        )


def check_other_parameters(
    objective: Objective, held: dict[int, torch.Tensor], known: set[int], notify: Notify
) -> None:
    """Give a notice of parameters that optimizers hold and the objective does not have, and that are not ``known``."""
    others = [tensor for key, tensor in held.items() if key not in known and tensor.requires_grad]
    if others:
        count = sum(tensor.numel() for tensor in others)
        notify(
            "optimizer",
            f"optimizers hold {count:,} parameter{'s' * (count > 1)} that the objective does not have: its figures are"
            f" of its own {objective.size:,} alone",
            faq="parameters-of-others",
            hint="a module that has all of them registered, or params=optimizer",
            cause="other parameters",
        )


def check_changes(objective: Objective, held: set[int] | None, noticed: set[str], notify: Notify) -> None:
    """Give a notice of parameters that were replaced, added, removed, frozen, thawed, cast or moved since the start.

    ``held`` are the identities of those that optimizers hold (None: there are none).
    """
    news = [change for change in objective.changes() if str(change) not in noticed]
    noticed.update(map(str, news))
    for followed in (False, True):
        found = [change for change in news if (change.kind in ("replaced", "cast", "moved")) is followed]
        if not found:
            continue
        what = "nothing is measured any more; try a new Objective and Monitor"
        if followed:
            what = "followed, since names and shapes are the same"
            changed = {name for change in found for name in change.names}
            own = zip(objective.layout, objective.tensors, strict=True) if held is not None else ()
            if any(slot.name in changed and id(tensor) not in (held or ()) for slot, tensor in own):
                what += "; no optimizer holds them, so they do not train"
        words = "; ".join(map(str, found))
        causes = ", ".join(c.kind for c in found)
        notify("model", f"parameters of the model were {words} ({what})", faq="changed-parameters", cause=causes)


def check_parameters_without_optimizer(objective: Objective, held: set[int], notify: Notify) -> None:
    """Give a notice of parameters of the objective that no optimizer holds, where it holds others."""
    without = [slot for slot, tensor in zip(objective.layout, objective.tensors, strict=True) if id(tensor) not in held]
    if not 0 < len(without) < len(list(objective.layout)):
        return
    names = ", ".join(f"'{slot.name}'" for slot in without[:3]) + ", ..." * (len(without) > 3)
    count = sum(slot.slice.stop - slot.slice.start for slot in without)
    notify(
        "optimizer",
        f"no optimizer steps {count:,} of the {objective.size:,} parameters of the objective ({names}): the Hessian's"
        " spectrum is that of all of them, threshold and ratio are of those that are stepped",
        faq="parameters-that-do-not-train",
        hint="params=optimizer",
        cause="not held",
    )


def check_unmoved_parameters(
    objective: Objective, initial: Float[Tensor, " P"], expected: list[float], notify: Notify
) -> None:
    """Give a notice of parameters that are where they started, though an optimizer steps them and they have a gradient.

    ``expected`` says for each tensor by how much a gradient of 1 should have moved it; 0: not at all.
    """
    now = objective.parameters()
    pieces = zip(objective.layout, objective.tensors, expected, strict=True)
    still = [(s, t, e) for s, t, e in pieces if e > 0 and torch.equal(now[s.slice], initial[s.slice])]
    if not still:
        return
    gradient = objective.gradient()
    least = 1e-6 * float(gradient.norm())  # what rounding leaves where the gradient is 0, as before a normalisation
    names = []
    for slot, tensor, factor in still:
        own = gradient[slot.slice]
        lost = torch.finfo(tensor.dtype).eps * now[slot.slice].abs()  # in the rounding of the parameters
        if float(own.norm()) > least and bool((factor * own.abs() > lost).any()):
            names.append(slot.name)
    if len(names) == sum(e > 0 for e in expected):
        text = "no parameter of the objective has moved: is a copy of the model trained?"
        notify("model", text, faq="parameters-that-do-not-move", cause="still")
    elif names:
        some = ", ".join(f"'{name}'" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        have, them = ("have", "them") if len(names) > 1 else ("has", "it")
        text = f"{some} {have} a gradient and did not move since step 0: does training use a copy of {them}?"
        notify("model", text, faq="parameters-that-do-not-move", cause="still")


def check_dead_units(objective: Objective, at_zero: Sequence[Slot], notify: Notify) -> None:
    """Give a notice where at least half of the parameters, or the first tensor, have a gradient that is exactly 0.

    ``at_zero`` are the tensors that do. Those that the loss does not depend on, which have no ``.grad`` in training,
    are left out; and nothing is said where the whole gradient is 0, as where a loss is fitted.
    """
    if len(at_zero) == len(objective.layout):
        return
    unused = {
        slot.name for slot, tensor in zip(objective.layout, objective.tensors, strict=True) if tensor.grad is None
    }
    dead = [slot for slot in at_zero if slot.name not in unused]
    share = sum(slot.shape.numel() for slot in dead) / objective.size
    if not dead or (share < 0.5 and dead[0].name != objective.layout[0].name):
        return
    some = ", ".join(f"'{slot.name}'" for slot in dead[:3]) + (f" and {len(dead) - 3} more" if len(dead) > 3 else "")
    text = f"the gradient of {some} ({100 * share:.3g}% of the parameters) is exactly 0: units are dead or saturated"
    hint = "a smaller learning rate from the start, or another initialization"
    notify("dead-units", text, faq="dead-units", hint=hint)


def missing_steps(
    optimizers: Sequence[torch.optim.Optimizer], steps: int, calls: int, others: int, at_the_end: bool
) -> str:
    """That optimizers do not step though ``monitor.step()`` was called so often, or though others do; "" if they may.

    ``others`` counts the steps of optimizers of other parameters, like ``calls`` since the last of ``steps``.
    """
    few = LAST if steps else 1
    if not at_the_end:
        few = CALLS if steps else OTHERS
    if calls < few or not (others >= few or calls >= CALLS or (at_the_end and not steps)):
        return ""
    names = " and ".join(type(optimizer).__name__ for optimizer in optimizers)
    since = f"since step {steps}" if steps else "yet"
    why = ", while an optimizer of other parameters has: is a copy of the model trained?" if others >= few else ""
    return f"monitor.step() was called {calls} times, and {names} has not stepped {since}{why}"


def followed_optimizer(optimizer: torch.optim.Optimizer, replaced: Sequence[torch.optim.Optimizer]) -> str:
    """That an optimizer which was not given is followed, in place of those that it has ``replaced``."""
    name = type(optimizer).__name__
    if not replaced:
        return f"{name} steps parameters of the objective too, and is followed; try Monitor(objective, [a, b])"
    before = type(replaced[0]).__name__
    return f"{before} was replaced by {'another ' * (before == name)}{name}, which is followed from here on"


def check_step(taken: StepTaken | None, note: str, notify: Notify) -> None:
    """Give a notice where gradients or steps are not those of objective and rule, as ``note`` says in words."""
    if taken is None:
        return
    if taken.clipped_to is not None:
        if taken.sure:
            text = note or f"gradients are clipped to {taken.clipped_to:.4g}"
            notify("update", text, faq="clipped-gradients", cause="clipping")
    elif taken.scaled:
        text = f"training's gradient is {taken.gradient:.4g} times that of the objective"
        notify("update", text, faq="scaled-gradients", cause="gradient")
    elif taken.far_apart:
        notify("update", note, faq="scaled-gradients", cause="uneven")
    elif taken.gradient_cosine is not None and not taken.on_the_objective and not taken.uneven:
        notify(
            "gradients",
            f"training's gradients are not those of the objective (cosine {taken.gradient_cosine:.4g}): mini-batches,"
            " augmentation, another loss, other data, or parameters that another optimizer has moved since",
            faq="other-gradients",
            cause="direction",
            warn=False,
        )
    if taken.length is None or taken.error is None:
        return
    if taken.length < 0.5 and taken.error > 0.5:
        text = "the optimizer's steps are lost in the rounding of the parameters"
        notify("update", text, faq="rounded-steps", cause="rounding")
    elif taken.cosine is not None and taken.cosine < 0.99 and taken.error < 0.05:
        notify(
            "update",
            f"the optimizer's steps are not those of its rule (cosine {taken.cosine:.3g}, length {taken.length:.3g}):"
            " something else moves the parameters, or the optimizer steps otherwise",
            faq="other-steps",
            cause="step",
        )
    elif taken.step_scale != 1:
        text = f"steps are {taken.length:.4g} times those of the optimizer's rule"
        notify("update", text, faq="other-steps", cause="length")


def check_loss(before: Pieces, cosine: float, now: Pieces, notify: Notify) -> bool:
    """Give a notice where training's gradients differ from the objective's by more than they do from step to step.

    False where ``now`` is ``before``: that of the same step, seen again.

    The noise of mini-batches, which is drawn anew at each, makes two of training's gradients differ twice as much from
    one another as each of them from its mean. ``cosine`` is that of ``before`` with the objective's gradient there.
    """
    if before.keys() != now.keys():
        return True
    a, b = (torch.cat([pieces[place].double() for place in sorted(pieces)]) for pieces in (before, now))
    if torch.equal(a, b):
        return False
    length = float(a.norm() * b.norm())
    between = float(a @ b) / length if length > 0 else math.nan
    if between > STEADY and 1 - cosine > 10 * (1 - between):
        notify(
            "gradients",
            f"training's gradients are not those of the objective (cosine {cosine:.4g}), by more than mini-batches"
            " explain: another loss (a penalty), gradients that are changed (clipped by value, a hook), or other data",
            faq="other-gradients",
            cause="another loss",
        )
    return True


def check_readings(readings: Iterable[Reading], measures: dict[str, Measure], diverged: bool, notify: Notify) -> None:
    """Give a notice of measures that failed, of figures that are not finite, and of a network without curvature."""
    for reading in readings:
        if diverged:
            continue
        if reading.failed:
            notify(
                "measure",
                f"the measure '{reading.measure}' failed ({reading.note})",
                faq="failed-measures",
                cause=without_numbers(reading.note),
            )
        infinite = measures[reading.measure].may_be_infinite
        wrong = [p for p, x in reading.values.items() if math.isnan(x) or (math.isinf(x) and not infinite)]
        if wrong:
            name = reading.measure + (f"/{wrong[0]}" if wrong[0] else "")
            text = f"'{name}' is {reading.values[wrong[0]]:g}"
            notify("not-finite", text, faq="not-finite", cause=reading.measure)
        if reading.measure == "sharpness" and reading.values.get("1") == 0:
            notify(
                "saturated",
                "the sharpness is exactly 0: the losses are below the rounding of their precision, or units are dead",
                faq="saturated-networks",
                hint="dtype=torch.float64, or an earlier step",
            )
