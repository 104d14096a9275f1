"""Several optimizers on one objective, and tensors that no optimizer holds: one update rule, one threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any, NoReturn, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.linalg.metric import BlockMetric, DiagonalMetric, Metric
from edgescope.optim.held_state import Group
from edgescope.optim.known import rule_of
from edgescope.optim.momentum import NO_STEP, Momentum
from edgescope.optim.rule import UpdateRule
from edgescope.optim.threshold import Threshold, joint_threshold
from edgescope.optim.unwrap import OptimizerLike, check_not_sharded, unwrapped
from edgescope.options import type_of
from edgescope.shards import filled_like
from edgescope.short_errors import short_errors

T = TypeVar("T")
CONSTANT: Group = {"lr": 0.0, "weight_decay": 0.0}
"""Stands for the parameter group of a tensor that no optimizer holds."""


class JointRule(UpdateRule):
    """The rule of all ``optimizers`` together over all ``parameters``, each of which at most one of them holds.

    ``rules`` has an :class:`UpdateRule` for each optimizer, over the tensors that it holds (``tensors`` of that rule),
    with its own ``threshold()`` and ``metric()``. Vectors of the joint rule are of length P, over all parameters.

    **Threshold.** H couples the tensors of different optimizers, so that none is stable or unstable by itself: the
    threshold is 1, of the largest eigenvalue of M^(-1/2) H M^(-1/2) with M = P (2 - eta lambda)/(eta Gamma) tensor by
    tensor (derivation: :class:`Momentum`). With one optimizer it is the one of its own rule, in its own metric.

    **Constants.** Parameters that no optimizer holds do not move (``held`` says which do): M is infinite there, and
    ``metric()`` is never None. The largest eigenvalue is then at least 0.

    An optimizer whose steps no eigenvalue describes, or which nobody described, leaves the joint threshold and metric
    unknown (:class:`NotKnownError`, which names it), while ``rules`` still serve the others. Which optimizer holds what
    is read anew at every call, so that groups may be added later. Raises :class:`InputError` for a tensor that two
    optimizers hold and for an optimizer that holds none.
    """

    def __init__(self, optimizers: Iterable[OptimizerLike], parameters: Sequence[Tensor]) -> None:
        self.optimizers = [unwrapped(optimizer) for optimizer in optimizers]
        self.tensors = list(parameters)
        self._owners: list[int | None] = []
        self._rules: list[UpdateRule] = []
        for optimizer, places in zip(self.optimizers, self._places(), strict=True):
            if not places:
                raise InputError(
                    f"the optimizer {type(optimizer).__name__} holds no parameter of the objective",
                    expected="one that was made for parameters of this objective's model",
                )
        rules = self.rules
        if all(isinstance(rule, UnknownRule) for rule in rules):
            raise rules[0].reason  # type: ignore[attr-defined]

    @property
    def name(self) -> str:
        return " + ".join(type(optimizer).__name__ for optimizer in self.optimizers)

    @property
    def rules(self) -> list[UpdateRule]:
        """One rule for each optimizer, over the tensors that it holds; those that hold none any more are left out."""
        owners = owners_of(self.optimizers, self.tensors)
        if owners != self._owners:
            places = self._places()
            self._rules = [
                _rule_or_reason(optimizer, [self.tensors[i] for i in own])
                for optimizer, own in zip(self.optimizers, places, strict=True)
                if own
            ]
            self._owners = owners
        return self._rules

    @property
    def held(self) -> list[bool]:
        return [owner is not None for owner in owners_of(self.optimizers, self.tensors)]

    @property
    def others(self) -> int:
        return sum(rule.others for rule in self.rules)

    @property
    def caveat(self) -> str:  # type: ignore[override]
        return "; ".join(dict.fromkeys(rule.caveat for rule in self.rules if rule.caveat))

    def vectors(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for rule in self.rules for name in rule.vectors()))

    def layout(self) -> dict[str, list[bool]]:
        has = {name: [False] * len(self.tensors) for name in ("parameters", *self.vectors())}
        for rule, places in self._parts():
            for name, mask in rule.layout().items():
                for i, present in zip(places, mask, strict=True):
                    has[name][i] = present
        return has

    def groups(self) -> list[Group]:
        """The parameter group of each tensor, live; one at learning rate 0 for tensors that no optimizer holds."""
        groups = [CONSTANT] * len(self.tensors)
        for rule, places in self._parts():
            for i, group in zip(places, rule.groups(), strict=True):
                groups[i] = group
        return groups

    def momentum_of(self, group: Group) -> Momentum:
        return self._of_group(group, Momentum(), lambda rule: rule.momentum_of(group))

    def coupled_decay(self, group: Group) -> float:
        return self._of_group(group, 0.0, lambda rule: rule.coupled_decay(group))

    def decoupled_decay(self, group: Group) -> float:
        return self._of_group(group, 0.0, lambda rule: rule.decoupled_decay(group))

    def ascends(self, group: Group) -> bool:
        return self._of_group(group, False, lambda rule: rule.ascends(group))

    def counts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(("step", *(name for rule in self.rules for name in rule.counts()))))

    def rounding(self, state: dict[str, Tensor], gradient: Float[Tensor, " P"]) -> float:
        """The largest share of those of the optimizers, each of its own step."""
        gradients, pieces = self.split(gradient), self._split_state(state)
        shares = [0.0]
        for rule, places in self._parts():
            own = {name: self._joined(name, [pieces[i][name] for i in places]) for name in _kept_by(rule)}
            shares.append(rule.rounding(own, _flat(gradients[i] for i in places)))
        return max(shares)

    def check_linear(self) -> None:
        for rule in self.rules:
            self._named(rule, rule.check_linear)

    def state(self) -> dict[str, Tensor]:
        parts = [(places, rule.state()) for rule, places in self._parts()]
        zeros = [filled_like(t, 0.0).flatten() for t in self.tensors]
        columns = {name: list(zeros) for name in dict.fromkeys(name for _, state in parts for name in state)}
        none = torch.zeros((), dtype=torch.float64, device=self.tensors[0].device)
        columns |= {name: [none] * len(self.tensors) for name in self.counts()}
        for (rule, places), (_, state) in zip(self._parts(), parts, strict=True):
            for i, own in zip(places, rule._split_state(state), strict=True):
                for name, piece in own.items():
                    columns[name][i] = piece
        return {name: self._joined(name, column) for name, column in columns.items()}

    def update(
        self, w: Float[Tensor, " P"], state: dict[str, Tensor], gradient: Float[Tensor, " P"]
    ) -> tuple[Float[Tensor, " P"], dict[str, Tensor]]:
        """Parameters and state after one step of every optimizer, all of them from the same gradient.

        Pure, differentiable torch operations. Parameters that no optimizer holds, and their state, stay as they are.
        """
        moved, gradients, pieces = self.split(w), self.split(gradient), self._split_state(state)
        for rule, places in self._parts():
            own = {name: self._joined(name, [pieces[i][name] for i in places]) for name in _kept_by(rule)}
            new, after = rule.update(_flat(moved[i] for i in places), own, _flat(gradients[i] for i in places))
            for i, piece, kept in zip(places, rule.split(new), rule._split_state(after), strict=True):
                moved[i], pieces[i] = piece, pieces[i] | kept
        return _flat(moved), {name: self._joined(name, [piece[name] for piece in pieces]) for name in state}

    def scales(self) -> list[float] | None:
        """As for one optimizer, over the tensors that are held; those that none holds are constants in any case."""
        if len(self.rules) > 1:
            return None if self._still() else self.joint_scales()
        own = self.rules[0].scales()
        if own is None:
            return None
        each = iter(own)
        return [next(each) if here else math.inf for here in self.held]

    def joint_scales(self) -> list[float]:
        scales = [math.inf] * len(self.tensors)
        for rule, places in self._parts():
            for i, scale in zip(places, self._named(rule, rule.joint_scales), strict=True):
                scales[i] = scale
        return scales

    def scaled_metric(self, scales: list[float] | None, gradient: Float[Tensor, " P"] | None = None) -> Metric | None:
        self.sign()
        pieces = None if gradient is None else self.split(gradient)
        known: list[tuple[Metric, list[int]]] = []
        for rule, places in self._parts():
            own = [1.0] * len(places) if scales is None else [scales[i] for i in places]
            self._named(rule, rule.check_linear)
            slope = None if pieces is None else _flat(pieces[i] for i in places)
            block = self._named(rule, partial(rule.scaled_metric, own, slope))
            assert block is not None  # since there are scales
            known.append((block, places))
        return self._assembled(known)

    def threshold(self) -> Threshold:
        self.check_linear()
        self.sign()
        rules = self.rules
        if len(rules) == 1:
            return replace(rules[0].threshold(), geometry=None)
        sources = [rule.momentum_of(group).source for rule in rules for group in rule.groups()]
        if self._still():
            return Threshold(math.inf, NO_STEP, "; ".join(dict.fromkeys(sources)), caveat=self.caveat)
        self.joint_scales()  # raises where none is known
        return joint_threshold(sources, self.caveat)

    def _assembled(self, known: list[tuple[Metric, list[int]]]) -> Metric:
        """One metric of those of the optimizers, each of which is for the tensors at the given positions."""
        sizes = [tensor.numel() for tensor in self.tensors]
        ends = list(accumulate(sizes))
        parts = [(block, [slice(ends[i] - sizes[i], ends[i]) for i in places]) for block, places in known]
        if not all(isinstance(block, DiagonalMetric) for block, _ in parts):
            return BlockMetric(ends[-1], parts)
        entries = [filled_like(t, math.inf).flatten() for t in self.tensors]
        for block, places in known:
            own = cast(DiagonalMetric, block).entries.split([sizes[i] for i in places])
            for i, piece in zip(places, own, strict=True):
                entries[i] = piece
        flat = torch.cat(entries)
        constant = flat == math.inf
        return DiagonalMetric(flat, constant) if bool(constant.any()) else DiagonalMetric(flat)

    def _joined(self, name: str, pieces: list[Tensor]) -> Tensor:
        """The pieces of a state vector as one; ``counts`` have one number a tensor."""
        return torch.stack(pieces) if name in self.counts() else _flat(pieces)

    def _still(self) -> bool:
        """Whether all learning rates are 0."""
        return all(lr == 0 for rule in self.rules for lr, _ in self._named(rule, rule.rates))

    def _parts(self) -> list[tuple[UpdateRule, list[int]]]:
        """The rules, each with the places of its tensors among all."""
        rules = self.rules
        return list(zip(rules, [places for places in self._places() if places], strict=True))

    def _places(self) -> list[list[int]]:
        owners = owners_of(self.optimizers, self.tensors)
        return [[i for i, owner in enumerate(owners) if owner == k] for k in range(len(self.optimizers))]

    def _of_group(self, group: Group, otherwise: T, ask: Callable[[UpdateRule], T]) -> T:
        """``ask`` of the rule whose optimizer has this group, or ``otherwise`` where none has it."""
        for rule in self.rules:
            if any(group is own for own in rule.optimizer.param_groups):
                return ask(rule)
        return otherwise

    def _named(self, rule: UpdateRule, ask: Callable[[], T]) -> T:
        """The result of ``ask()``; an error of it names the optimizer."""
        try:
            return ask()
        except (InputError, NotKnownError) as error:
            if len(self.optimizers) == 1:
                raise
            place = next(i for i, optimizer in enumerate(self.optimizers, 1) if optimizer is rule.optimizer)
            raise type(error)(f"optimizer {place} of {len(self.optimizers)}, {rule.name}: {error}") from error


class UnknownRule(UpdateRule):
    """Stands for an optimizer without a known rule among several: every method raises the ``reason``."""

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor], reason: NotKnownError) -> None:
        self.optimizer, self.tensors, self.reason = optimizer, list(parameters), reason

    def vectors(self) -> NoReturn:
        raise self.reason

    def advance(self, *_: object) -> NoReturn:
        raise self.reason

    def momentum_of(self, group: Group) -> NoReturn:
        raise self.reason

    def coupled_decay(self, group: Group) -> NoReturn:
        raise self.reason

    def decoupled_decay(self, group: Group) -> NoReturn:
        raise self.reason

    def check_linear(self) -> NoReturn:
        raise self.reason

    def ascends(self, group: Group) -> NoReturn:
        raise self.reason

    def numbers(self, group: Group) -> NoReturn:
        raise self.reason

    def rates(self) -> NoReturn:
        raise self.reason


@short_errors
def rule_for(optimizer: OptimizerLike | Sequence[OptimizerLike], parameters: Sequence[Tensor]) -> UpdateRule:
    """The update rule of a live optimizer, or of several, for ``parameters`` (an objective's ``tensors``, in order).

    Wrappers of frameworks are taken off (:func:`~edgescope.optim.unwrap.unwrapped`). Several optimizers, or one that
    holds only some of the parameters, have a :class:`JointRule`. What an optimizer holds besides the parameters is left
    out; ``rule.others`` counts it.

    Raises :class:`NotKnownError` for an optimizer that nobody described (a subclass of a known one included, since it
    may step differently) or whose parameters are sharded, and :class:`InputError` for one that holds none of the
    parameters, or where two hold the same.
    """
    check_tensors(parameters)
    several = [optimizer] if not isinstance(optimizer, list | tuple) else list(optimizer)
    if not several:
        raise InputError("no optimizer in the list", expected="at least one")
    optimizers = [unwrapped(each) for each in several]
    if len(optimizers) == 1 and None not in owners_of(optimizers, parameters):
        return rule_of(optimizers[0], list(parameters))
    return JointRule(optimizers, parameters)


def check_tensors(parameters: Any) -> None:
    """Raise :class:`InputError` for anything but a list of tensors, at least one, each once."""
    fault, hint = None, "objective.tensors"
    if not isinstance(parameters, list | tuple):
        fault = f"parameters given as {type_of(parameters)}"
        if isinstance(parameters, Iterator):
            hint += ", or list(model.parameters())"
    elif not parameters:
        fault = "an empty list of parameters"
    else:
        strange = next((i for i, each in enumerate(parameters) if not isinstance(each, Tensor)), None)
        places: dict[int, int] = {}
        twice = next((i for i, each in enumerate(parameters) if places.setdefault(id(each), i) != i), None)
        if strange is not None:
            fault = f"parameters[{strange}] is {type_of(parameters[strange])}"
        elif twice is not None:
            fault = f"parameters[{twice}] is parameters[{places[id(parameters[twice])]}] again"
    if fault is not None:
        raise InputError(fault, expected="a list of tensors, each once", hint=hint)


def owners_of(optimizers: Sequence[torch.optim.Optimizer], tensors: Sequence[Tensor]) -> list[int | None]:
    """Which of the optimizers holds each tensor, None where none does; InputError where two do."""
    wanted = {id(tensor): i for i, tensor in enumerate(tensors)}
    owners: list[int | None] = [None] * len(tensors)
    for k, optimizer in enumerate(optimizers):
        members = [p for group in optimizer.param_groups for p in group["params"]]
        check_not_sharded(members)
        for i in (wanted[id(p)] for p in members if id(p) in wanted):
            if owners[i] is not None:
                raise InputError(
                    f"parameter {i} of the objective, of shape {tuple(tensors[i].shape)}, is in two optimizers",
                    expected="each in at most one",
                )
            owners[i] = k
    return owners


def _rule_or_reason(optimizer: torch.optim.Optimizer, tensors: list[Tensor]) -> UpdateRule:
    try:
        rule = rule_of(optimizer, tensors)
    except NotKnownError as error:
        return UnknownRule(optimizer, tensors, error)
    if rule.gradients == 1:
        return rule
    what = f"the update rule of {rule.name} is not known where it does not hold all parameters of the objective"
    return UnknownRule(optimizer, tensors, NotKnownError(what, hint="one optimizer for all of them"))


def _flat(pieces: Iterable[Tensor]) -> Tensor:
    return torch.cat([piece.reshape(-1) for piece in pieces])


def _kept_by(rule: UpdateRule) -> tuple[str, ...]:
    """The names of all that the state of one rule has."""
    return *rule.counts(), *rule.vectors()
