"""Objectives and optimizers as arguments, checked before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from edgescope.errors import InputError
from edgescope.objective import Objective
from edgescope.optim.unwrap import OptimizerLike, unwrapped

Optimizers = OptimizerLike | Iterable[OptimizerLike]


def checked_objective(objective: Any, owner: str) -> Objective:
    """The objective; InputError, with a hint for the usual mistakes, where it is something else.

    ``owner`` says what it is an argument of, such as "a monitor".
    """
    if isinstance(objective, Objective):
        return objective
    hint = None
    if isinstance(objective, torch.optim.Optimizer):
        hint = "the objective first and the optimizer second"
    elif isinstance(objective, torch.nn.Module):
        hint = "Objective(model, loss_fn, data) of it"
    text = f"the objective of {owner} is {kind_of(objective)}"
    raise InputError(text, expected="an edgescope.Objective", hint=hint)


def checked_optimizers(optimizer: Any, owner: str) -> list[torch.optim.Optimizer]:
    """The optimizers, taken out of the wrappers of frameworks; each once."""
    if optimizer is None:
        return []
    if isinstance(optimizer, Mapping | torch.nn.Module):
        raise InputError(
            f"the optimizer of {owner} is of type {type(optimizer).__name__}",
            expected="a torch.optim.Optimizer, or a list of them",
            hint="list(optimizers.values())" if isinstance(optimizer, Mapping) else "the optimizer of this model",
        )
    wrapped = hasattr(optimizer, "param_groups")
    given = [optimizer] if wrapped or not isinstance(optimizer, Iterable) else list(optimizer)
    if not wrapped and any(_are_parameters(one) for one in given):
        raise InputError(
            f"the optimizer of {owner} is a list of parameters",
            expected="a torch.optim.Optimizer, or a list of them",
            hint="the optimizer that was made for these parameters",
        )
    found: list[torch.optim.Optimizer] = []
    for one in given:
        if isinstance(one, type):
            raise InputError(f"the optimizer of {owner} is the class {one.__name__}", expected="an instance of it")
        inner = unwrapped(one)
        if not any(inner is other for other in found):
            found.append(inner)
    if not found:
        raise InputError("an empty list of optimizers", expected="at least one, or None")
    return found


def checked_evaluations(evaluations: Any) -> dict[str, Objective]:
    """Further objectives by name."""
    if evaluations is None:
        return {}
    if not isinstance(evaluations, Mapping):
        raise InputError(
            f"evaluations of type {type(evaluations).__name__}", expected="a dict from names to edgescope.Objective"
        )
    for name, objective in evaluations.items():
        if not isinstance(objective, Objective):
            raise InputError(
                f"evaluation '{name}' is {kind_of(objective)}",
                expected="an edgescope.Objective",
                hint=f'{{"{name}": Objective(model, loss_fn, data)}}',
            )
        if not isinstance(name, str) or name in ("", "train"):
            raise InputError(f"an evaluation named {name!r}", expected="a name other than 'train'")
    return dict(evaluations)


def _are_parameters(value: Any) -> bool:
    """A tensor, a parameter with its name, or a group of parameters: what optimizers are made of."""
    if isinstance(value, Mapping):
        return "params" in value
    parts = value if isinstance(value, tuple) else (value,)
    return any(isinstance(part, torch.Tensor) for part in parts)


def kind_of(value: Any) -> str:
    """What an argument is, for an error message."""
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"
