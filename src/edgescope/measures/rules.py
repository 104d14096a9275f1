"""The update rules of the optimizers of a run, or why there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from edgescope.errors import EdgescopeError
from edgescope.objective import Objective
from edgescope.optim import GradientFlow, Langevin, UpdateRule, rule_for

NO_OPTIMIZER: Final = "there is no optimizer"


@dataclass(frozen=True)
class Rules:
    """``together`` is the rule of all optimizers (None: ``why``), ``each`` that of each by its name where there are
    several. ``problems`` are pairs (kind of notice, text) of what a user must know about them."""

    together: UpdateRule | None = None
    each: dict[str, UpdateRule] = field(default_factory=dict)
    why: str = NO_OPTIMIZER
    problems: tuple[tuple[str, str], ...] = ()

    def of(self, optimizer: torch.optim.Optimizer) -> UpdateRule | None:
        """The rule of one of the optimizers, over all tensors of the objective; None where it has none.

        Also where it adds noise to its steps, which its rule, that of the mean, leaves out.
        """
        for rule in self.each.values() if self.each else filter(None, [self.together]):
            if any(own.optimizer is optimizer for own in rule.rules):
                return None if isinstance(optimizer, Langevin) else rule
        return None


def rules_of(optimizers: Sequence[torch.optim.Optimizer], tensors: list[Tensor]) -> Rules:
    """The rules of ``optimizers`` for an objective's ``tensors``; of those that hold one of them, if any does."""
    if not optimizers:
        return Rules()
    measured = {id(tensor) for tensor in tensors}
    optimizers = [one for one in optimizers if ids_of(one) & measured] or optimizers
    problems: list[tuple[str, str]] = []
    each: dict[str, UpdateRule] = {}
    if len(optimizers) > 1:
        for name, optimizer in by_type_name(optimizers).items():
            try:
                each[name] = rule_for([optimizer], tensors)
            except EdgescopeError as error:
                problems.append(("optimizer", f"{name}: {error}"))
    try:
        together: UpdateRule | None = rule_for(list(optimizers), tensors)
        why = ""
    except EdgescopeError as error:
        together, why = None, str(error)
        # Gradient flow has no threshold, which is no fault of anybody's.
        if not problems and not all(isinstance(optimizer, GradientFlow) for optimizer in optimizers):
            problems.append(("optimizer", why))
    for name, rule in ({"": together} if not problems else each).items():
        problems += _problems_of(name, rule)
    return Rules(together, each, why, tuple(dict.fromkeys(problems)))


def ids_of(optimizer: torch.optim.Optimizer) -> set[int]:
    """The identities of the tensors that an optimizer holds."""
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def measured_of(optimizer: torch.optim.Optimizer, objective: Objective) -> set[int]:
    """The identities of the objective's tensors that an optimizer holds; of all that train where these are others."""
    try:
        tensors = objective.tensors
    except EdgescopeError:
        tensors = [p for p in objective.model.parameters() if p.requires_grad]
    return ids_of(optimizer) & {id(tensor) for tensor in tensors}


def replaced_by(
    optimizer: torch.optim.Optimizer, watched: Sequence[torch.optim.Optimizer], objective: Objective
) -> list[torch.optim.Optimizer]:
    """Those of the ``watched`` optimizers that hold a tensor of the objective which this one holds too."""
    held = measured_of(optimizer, objective)
    return [one for one in watched if ids_of(one) & held]


def by_type_name(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, torch.optim.Optimizer]:
    """Optimizers by the names of their types, numbered where several have one name."""
    found: dict[str, torch.optim.Optimizer] = {}
    for optimizer in optimizers:
        name, number = type(optimizer).__name__, 1
        while (label := name if number == 1 else f"{name}-{number}") in found:
            number += 1
        found[label] = optimizer
    return found


def _problems_of(name: str, rule: UpdateRule | None) -> list[tuple[str, str]]:
    if rule is None:
        return []
    try:
        caveat = rule.threshold().caveat
    except EdgescopeError as error:
        return [("threshold", f"{name}: {error}" if name else str(error))]
    return [("threshold", f"the threshold is no border of stability: {caveat}")] if caveat else []
