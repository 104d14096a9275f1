"""An optimizer as an update rule: what it does to parameters and state, its preconditioner, its stability threshold."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.geometry.geometry import Geometry
from edgescope.linalg.metric import Diagonal, Metric
from edgescope.linalg.operator import Operator
from edgescope.optim.momentum import Momentum

Group = dict[str, Any]


@dataclass(frozen=True)
class Threshold:
    """The value of the effective sharpness at which an optimizer with these hyper-parameters turns unstable.

    Where ``geometry`` is None, ``value`` is compared with the largest eigenvalue of the *effective* Hessian, which is
    the Hessian (plus what coupled weight decay adds to it) in the optimizer's own ``metric`` (None: the plain Hessian).
    Otherwise it is compared with the generalized sharpness of the Hessian in that geometry, and with the directional
    smoothness of a step in it; for a ``normalized`` optimizer with these over the dual norm of the gradient.
    ``formula`` names the value in symbols, ``source`` says where it comes from.
    """

    value: float
    formula: str
    source: str
    geometry: Geometry | None = None
    normalized: bool = False

    def at(self, gradient: Float[Tensor, " P"]) -> float:
        """The threshold of the sharpness itself where the gradient is this: for a normalized one value * ||g||_*."""
        if not self.normalized:
            return self.value
        assert self.geometry is not None
        return self.value * float(self.geometry.dual_norm(gradient))


class UpdateRule(ABC):
    """The rule of a live ``torch.optim`` object, read from its ``param_groups`` and ``state`` at every call.

    All vectors are flat, of length P, in the order of ``parameters``, the list of tensors the rule was made for
    (an objective's trainable tensors). ``state`` holds the optimizer's state as flat vectors under torch's own names,
    and ``"step"``, of length T, how many steps each of the T tensors has taken (0 or 1 where torch keeps no count).

    A rule for one more optimizer is a file with a class that names its ``kinds`` (exact types: a subclass may override
    ``step``), says what state it keeps, what one step does to one tensor, and how its momentum works; ``add_rule``
    makes it known.
    """

    kinds: ClassVar[tuple[type[torch.optim.Optimizer], ...]]

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        self.optimizer = optimizer
        self.tensors = list(parameters)
        _check_members(optimizer, self.tensors)
        for option in ("maximize", "differentiable"):
            if any(group.get(option) for group in self.groups()):
                raise NotKnownError(f"the update rule of {type(optimizer).__name__} with {option}=True is not known")

    # What a rule must say.

    @abstractmethod
    def vectors(self) -> tuple[str, ...]:
        """The names of the state vectors that the optimizer keeps with its present options."""

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of one tensor, in the tensor's own shape: its new value and new state vectors.

        ``state`` also has ``"step"``, the number of steps before this one (0-dim). Pure torch operations. A rule whose
        tensors do not step each for itself says ``update`` instead.
        """
        raise NotImplementedError(f"{type(self).__name__} says neither advance nor update")

    @abstractmethod
    def momentum(self) -> Momentum:
        """How gradients of the past enter a step."""

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor | None:
        """The preconditioner of one tensor, for ``state`` after a step; None where it is the identity.

        A number for each of its entries, unless the rule says otherwise in ``assemble``. ``gradient`` is the one of
        that step, where it is known.
        """
        return None

    def coupled_decay(self, group: Group) -> float:
        """The weight decay that is added to the gradient (an L2 term of the loss)."""
        return 0.0

    def decoupled_decay(self, group: Group) -> float:
        """The weight decay that shrinks the weights by lr * decay at every step, past momentum and preconditioner."""
        return 0.0

    # What follows from it.

    def groups(self) -> list[Group]:
        """The parameter group of each tensor, live."""
        by_id = {id(p): group for group in self.optimizer.param_groups for p in group["params"]}
        return [by_id[id(tensor)] for tensor in self.tensors]

    def option(self, name: str) -> Any:
        """An option on which all parameter groups agree; NotKnownError where they do not."""
        values = [group[name] for group in self.groups()]
        if any(value != values[0] for value in values):
            distinct = ", ".join(dict.fromkeys(map(str, values)))
            raise NotKnownError(
                f"{type(self.optimizer).__name__} has parameter groups with different {name} ({distinct})",
                expected="one value, since no threshold is known for a mixture",
            )
        return values[0]

    def state(self) -> dict[str, Tensor]:
        """The optimizer's state now, as copies: flat vectors (P,), and ``"step"`` (T,); zeros before the first step."""
        flat: dict[str, Tensor] = {}
        for name in self.vectors():
            found = [self._kept(tensor).get(name) for tensor in self.tensors]
            flat[name] = torch.cat(
                [
                    torch.zeros_like(t).flatten() if value is None else value.detach().to(t.dtype).flatten()
                    for t, value in zip(self.tensors, found, strict=True)
                ]
            )
        counts = [self._kept(t).get("step", float(bool(self._kept(t)))) for t in self.tensors]
        device = self.tensors[0].device if self.tensors else None
        flat["step"] = torch.tensor([float(count) for count in counts], dtype=torch.float64, device=device)
        return flat

    def update(
        self, w: Float[Tensor, " P"], state: dict[str, Tensor], gradient: Float[Tensor, " P"]
    ) -> tuple[Float[Tensor, " P"], dict[str, Tensor]]:
        """Parameters and state after one step: pure, differentiable torch operations, nothing in place."""
        moved: list[Tensor] = []
        kept: dict[str, list[Tensor]] = {name: [] for name in state if name != "step"}
        for group, piece, gradient_piece, state_piece in zip(
            self.groups(), self.split(w), self.split(gradient), self._split_state(state), strict=True
        ):
            new, new_state = self.advance(group, piece, state_piece, gradient_piece)
            moved.append(new.reshape(-1))
            for name, pieces in kept.items():
                pieces.append(new_state[name].reshape(-1))
        after = {name: torch.cat(pieces) for name, pieces in kept.items()}
        return torch.cat(moved), after | {"step": state["step"] + 1}

    def metric(self, gradient: Float[Tensor, " P"] | None = None) -> Metric | None:
        """The preconditioner as a metric on parameter space, frozen; None where it is the identity.

        Without ``gradient`` it is the preconditioner of the step just taken, and raises :class:`NotKnownError` before
        the first; given the gradient at the present point, it is the one that the next step is going to use.

        Where learning rates or decoupled decays lambda differ between parameter groups, each group's
        (1 - lr lambda / 2) / lr is absorbed here, and the threshold has no learning rate in it.
        """
        state = self.state()
        if gradient is not None:
            state = self.update(torch.cat([t.detach().flatten() for t in self.tensors]), state, gradient)[1]
        gradients = [None] * len(self.tensors) if gradient is None else self.split(gradient)
        pieces = [
            self.preconditioner(*each) for each in zip(self.groups(), self._split_state(state), gradients, strict=True)
        ]
        known = [piece for piece in pieces if piece is not None]
        if known and not bool((state["step"] > 0).all()):
            raise NotKnownError(
                f"the preconditioner of {type(self.optimizer).__name__} is not known before its first step",
                hint="measuring after a step, or giving the gradient at the present point",
            )
        scales = self.scales()
        return self.assemble(scales or [1.0] * len(self.tensors), known) if known or scales else None

    def scales(self) -> list[float] | None:
        """What learning rate and decoupled decay add to the preconditioner of each tensor; None where they agree."""
        rates = self.rates()
        if all(rate == rates[0] for rate in rates):
            return None
        return [(1 - lr * decay / 2) / lr for lr, decay in rates]

    def assemble(self, scales: list[float], pieces: list[Tensor]) -> Metric:
        """The metric made of the preconditioners of the tensors (none: identities), each times its scale."""
        pieces = pieces or [torch.ones_like(tensor) for tensor in self.tensors]
        return Diagonal(torch.cat([s * piece.detach().flatten() for s, piece in zip(scales, pieces, strict=True)]))

    def shift(self) -> Float[Tensor, " P"] | None:
        """What coupled weight decay adds to the diagonal of the Hessian; None where there is no such decay.

        A decay lambda that is added to the gradient, g + lambda w, is the gradient of the loss plus lambda/2 ||w||^2:
        one mode of curvature h moves exactly as one of curvature h + lambda without decay, so the threshold stays.
        """
        decays = [self.coupled_decay(group) for group in self.groups()]
        if not any(decays):
            return None
        return torch.cat([torch.full_like(t, d).detach().flatten() for t, d in zip(self.tensors, decays, strict=True)])

    def effective(self, operator: Operator) -> Operator:
        """The operator whose largest eigenvalue, in ``metric()``, is to be compared with the threshold: H + shift."""
        shift = self.shift()
        if shift is None:
            return operator
        diagonal = shift[:, None]
        return Operator(
            operator.size,
            lambda block: operator @ block + diagonal.to(block) * block,
            dtype=operator.dtype,
            device=operator.device,
            shapes=operator.shapes,
        )

    def threshold(self) -> Threshold:
        """The stability threshold for the effective Hessian.

        Raises :class:`NotKnownError` where none is known (parameter groups with different momentum), and
        :class:`InputError` for a learning rate that is zero, negative or infinite. Derivation: :class:`Momentum`.
        """
        momentum, rates = self.momentum(), self.rates()
        if all(rate == rates[0] for rate in rates):
            return Threshold(*momentum.threshold(*rates[0]), momentum.source)
        value, formula = momentum.threshold(None)
        return Threshold(value, f"{formula}, learning rates absorbed in the metric", momentum.source)

    def split(self, flat: Float[Tensor, " P"]) -> list[Tensor]:
        """A flat vector as one piece a tensor, each in the tensor's shape."""
        pieces = flat.split([t.numel() for t in self.tensors])
        return [piece.view(t.shape) for piece, t in zip(pieces, self.tensors, strict=True)]

    def rates(self) -> list[tuple[float, float]]:
        """Learning rate and decoupled decay of each tensor, checked."""
        rates = []
        for group in self.groups():
            lr, decay = float(group["lr"]), self.decoupled_decay(group)
            if not (math.isfinite(lr) and lr > 0):
                raise InputError(f"a learning rate of {lr:g}", expected="a positive finite number")
            if lr * decay >= 2:
                raise InputError(
                    f"learning rate times weight decay is {lr * decay:g}",
                    expected="less than 2, since nothing is stable there",
                )
            rates.append((lr, decay))
        return rates

    def _split_state(self, state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        columns = {name: list(v.unbind()) if name == "step" else self.split(v) for name, v in state.items()}
        return [{name: column[i] for name, column in columns.items()} for i in range(len(self.tensors))]

    def _kept(self, tensor: Tensor) -> dict[str, Any]:
        # Not optimizer.state[tensor]: that would create an entry, and a measurement leaves everything as it was.
        return {name: value for name, value in self.optimizer.state.get(tensor, {}).items() if value is not None}


RuleType = TypeVar("RuleType", bound=type[UpdateRule])
RULES: dict[type[torch.optim.Optimizer], type[UpdateRule]] = {}


def add_rule(rule: RuleType) -> RuleType:
    """Make an update rule known for the exact optimizer types that it names in ``kinds``; the last one wins."""
    RULES.update(dict.fromkeys(rule.kinds, rule))
    return rule


def rule_for(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> UpdateRule:
    """The update rule of a live optimizer, for ``parameters`` (an objective's ``tensors``, in its order).

    Raises :class:`NotKnownError` for an optimizer that nobody described (a subclass of a known one included, since it
    may step differently) and :class:`InputError` where optimizer and parameters are not about the same tensors.
    """
    rule = RULES.get(type(optimizer))
    if rule is None:
        raise NotKnownError(
            f"no update rule is known for the optimizer {type(optimizer).__name__}",
            expected=f"exactly one of {', '.join(sorted(kind.__name__ for kind in RULES))}",
            hint="edgescope.optim.add_rule with a rule of your own",
        )
    return rule(optimizer, parameters)


def root(square: Tensor) -> Tensor:
    """Square root with derivative zero at zero, so that a weight that never had a gradient gives no NaN."""
    zero = square == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())


def _check_members(optimizer: torch.optim.Optimizer, tensors: list[Tensor]) -> None:
    held = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    for i, tensor in enumerate(tensors):
        if id(tensor) not in held:
            raise InputError(
                f"parameter {i} of the objective, of shape {tuple(tensor.shape)}, is not in the optimizer",
                expected="an optimizer made for all trainable parameters of this model",
            )
    wanted = {id(tensor) for tensor in tensors}
    for p in held.values():
        if p.requires_grad and id(p) not in wanted:
            raise InputError(
                f"the optimizer holds a parameter of shape {tuple(p.shape)} that is not in the objective",
                expected="an optimizer made for the parameters of this objective's model only",
            )
