"""The registry of update rules by exact type of optimizer, and how to add to it."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.optim.rule import UpdateRule
from edgescope.optim.unwrap import inside
from edgescope.shards import is_sharded

RuleType = TypeVar("RuleType", bound=type[UpdateRule])
OptimizerType = TypeVar("OptimizerType", bound=type[torch.optim.Optimizer])
RULES: dict[type[torch.optim.Optimizer], type[UpdateRule]] = {}
BY_NAME: dict[str, type[UpdateRule]] = {}
"""Rules of optimizers whose packages may not be installed: by "package.Class", or "Class" whatever the module."""

WHY_NONE = {
    "LBFGS": "its step is found by a line search over several gradients, and depends on a history of them",
    "SparseAdam": "it steps only the rows that have a gradient",
    "DistributedShampoo": "its steps are grafted onto those of another optimizer, with their own lengths",
    "ScalableShampoo": "its steps are grafted onto those of another optimizer, with their own lengths",
    "GrokFastAdamW": "it filters gradients twice, and a complex pair of eigenvalues may leave the unit circle first",
}
"""Optimizers that cannot have a rule of this kind, with the reason."""


@overload
def add_rule(rule: RuleType) -> RuleType: ...
@overload
def add_rule(rule: OptimizerType, *, same_as: type[torch.optim.Optimizer]) -> OptimizerType: ...
def add_rule(rule: Any, *, same_as: type[torch.optim.Optimizer] | None = None) -> Any:
    """Register the update rule of an optimizer; the last one wins. Returns ``rule``, so it is a decorator too.

    ``add_rule(MyRule)`` is for the exact optimizer types that the :class:`UpdateRule` names in ``kinds``, or as text in
    ``names``. ``add_rule(MyAdam, same_as=torch.optim.Adam)`` says that a subclass of a known optimizer takes the same
    steps, from the same options and state. Raises :class:`InputError` for anything else.
    """
    if same_as is None:
        if not (isinstance(rule, type) and issubclass(rule, UpdateRule)):
            raise InputError(
                f"{_named(rule)} is not an update rule",
                expected="a subclass of UpdateRule",
                hint="same_as=torch.optim.Adam for an optimizer that steps as Adam does",
            )
        if not rule.kinds and not rule.names:
            raise InputError(
                f"the update rule {rule.__name__} names no optimizer", expected="its types in the class variable kinds"
            )
        RULES.update(dict.fromkeys(rule.kinds, rule))
        BY_NAME.update(dict.fromkeys(rule.names, rule))
        return rule
    if same_as not in RULES:
        raise InputError(f"same_as={_named(same_as)}", expected=f"one of {_known()}")
    if not (isinstance(rule, type) and issubclass(rule, same_as)):
        raise InputError(
            f"{_named(rule)} is not a subclass of {same_as.__name__}",
            expected="one, since options and state are read by the names of its class",
            hint="an UpdateRule of your own",
        )
    RULES[rule] = RULES[same_as]
    return rule


def rule_of(optimizer: torch.optim.Optimizer, tensors: list[Tensor]) -> UpdateRule:
    """The rule of one optimizer for tensors that it holds.

    Raises :class:`NotKnownError` for an optimizer without a registered rule (a subclass of a known one included, since
    it may step differently).
    """
    kind = type(optimizer)
    rule = RULES.get(kind) or _rule_by_name(kind)
    if rule is not None:
        if not rule.by_entry and any(map(is_sharded, tensors)):
            raise NotKnownError(
                f"the update rule of {kind.__name__} on parameters that are sharded over processes is not known",
                hint="an optimizer that steps each entry by itself, such as SGD and AdamW",
            )
        return rule(optimizer, tensors)
    base = next((parent for parent in kind.__mro__ if parent in RULES), None)
    wrapped = inside(optimizer)
    what, hint = f"no update rule is known for the optimizer {kind.__name__}", "edgescope.optim.add_rule with a rule"
    if kind.__name__ in WHY_NONE:
        raise NotKnownError(f"{what}: {WHY_NONE[kind.__name__]}", hint="the measure headroom, which needs no rule")
    if base is not None:
        name = f"torch.optim.{base.__name__}" if base.__module__.startswith("torch.optim") else base.__name__
        what += f", a subclass of {base.__name__} that may step differently"
        hint = f"edgescope.optim.add_rule({kind.__name__}, same_as={name}) if its steps are those of {base.__name__}"
    elif wrapped is not None:
        what += f", which has {type(wrapped).__name__} inside and may step differently"
        hint = f"the {type(wrapped).__name__} itself, if its steps are the steps that are taken"
    raise NotKnownError(what, expected=f"exactly one of {_known()}", hint=hint)


def _rule_by_name(kind: type[torch.optim.Optimizer]) -> type[UpdateRule] | None:
    package = kind.__module__.split(".")[0]
    if package == "torch":
        return None
    return BY_NAME.get(f"{package}.{kind.__name__}") or BY_NAME.get(kind.__name__)


def _known() -> str:
    return ", ".join(sorted(kind.__name__ for kind in RULES))


def _named(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else f"a {type(value).__name__}"
