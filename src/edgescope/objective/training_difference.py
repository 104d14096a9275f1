"""Whether a model computes a different function in training than while it is measured."""

from __future__ import annotations

import copy
import math

import torch

from edgescope.objective.modes import Flags, TrainingFlags, active_dropout
from edgescope.objective.modules import measuring
from edgescope.objective.problem import LossModule, Point, TrainingProblem

SAMPLES = 32
"""Samples whose loss is looked at."""


def losses_in_training(problem: TrainingProblem, point: Point, flags: Flags) -> tuple[float, float, str] | None:
    """The loss of a few samples as it is measured and as it is in training mode, and what is random in the latter.

    The text is empty where training mode gives the same loss twice. A copy of the model, which shares its parameters,
    is evaluated, because a training step may write into more than buffers. None where the loss cannot be had on a few
    samples or the model cannot be copied. Cost: three losses of 32 samples.
    """
    batch = problem.batches.some(SAMPLES)
    try:
        with problem.preparing(), measuring(problem.model, flags, problem.device), torch.no_grad():
            measured = float(problem.loss_of(point.tensors, point.constants, batch))
        model = copy.deepcopy(problem.model, {id(p): p for p in problem.model.parameters()})
        module = LossModule(model, problem.loss_fn)
        with (
            problem.preparing(),
            measuring(model, TrainingFlags(problem.model, flags), problem.device),
            torch.no_grad(),
        ):
            first, second = (
                float(problem.call(point.tensors, point.constants, batch, None, module=module)) for _ in range(2)
            )
    except Exception:  # whatever a model raises in a mode that it is not measured in
        return None
    if not all(map(math.isfinite, (measured, first, second))):
        return None
    if abs(first - second) <= 1e-6 * max(abs(first), abs(second)):
        return measured, first, ""
    dropped = active_dropout(problem.model)
    name = f"dropout (p={dropped[0][1]:g} in '{dropped[0][0]}')" if dropped else "a random operation (such as dropout)"
    return measured, first, name
