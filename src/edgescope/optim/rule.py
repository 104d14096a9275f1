"""An optimizer as an update rule: what it does to parameters and state, its preconditioner, its stability threshold."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.linalg.metric import DiagonalMetric, Metric
from edgescope.linalg.operator import Operator
from edgescope.optim.held_state import Group, HeldState
from edgescope.optim.momentum import NO_STEP, Momentum
from edgescope.optim.threshold import Threshold, check_gradient_scale, joint_threshold
from edgescope.optim.unknown_options import check_options
from edgescope.shards import filled_like, whole

AVERAGED = "SGD, RMSprop without momentum and not centered, or ScalarRMSProp"
"""The optimizers whose averaged dynamics is known."""


class UpdateRule(HeldState):
    """The rule of a live ``torch.optim`` object, read from its ``param_groups`` and ``state`` at every call.

    All vectors are flat, of length P, in the order of ``parameters``, the list of tensors the rule was made for
    (trainable tensors of an objective). ``state`` holds the optimizer's state as flat vectors under torch's own names,
    and ``"step"``, of length T, how many steps each of the T tensors has taken (0 or 1 where torch keeps no count),
    with further ``numbers``. With ``maximize=True`` steps follow the negative gradient, and -H takes the place of H.

    The optimizer holds all of these tensors; it may hold further ones, such as those of another model. Several
    optimizers, or tensors that no optimizer holds, are for :class:`~edgescope.optim.joint.JointRule`.

    A rule for another optimizer is a file with a class that lists its ``kinds`` (exact types: a subclass may override
    ``step``), the state it keeps, one step of one tensor, and its momentum; ``add_rule`` registers it. Where the
    optimizer's package may not be installed, ``names`` has the types as text, "package.Class", or "Class" for files
    that are copied into projects. ``options`` are the constructor's options that the rule accounts for: an optimizer
    that was made with others has no known rule. ``by_entry`` says that each entry of a tensor steps by itself, so that
    shards of it step as the whole does. ``gradients`` is the number of gradients that a step takes. ``caveat`` says
    why crossing its threshold need not mean instability, where that is so.
    """

    kinds: ClassVar[tuple[type[torch.optim.Optimizer], ...]] = ()
    names: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[frozenset[str]] = frozenset()
    by_entry: ClassVar[bool] = False
    gradients: ClassVar[int] = 1
    caveat: str = ""

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        self.optimizer = optimizer
        self.tensors = list(parameters)
        if any(group.get("differentiable") for group in self.groups()):  # which checks that it holds the tensors
            raise NotKnownError(f"the update rule of {type(optimizer).__name__} with differentiable=True is not known")
        if self.options:
            check_options(optimizer, self.options)

    # What a rule must define.

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of one tensor, in the tensor's own shape: its new value and new state vectors.

        ``state`` also has ``"step"``, the number of steps before this one, and the ``numbers`` (0-dim). ``gradient`` is
        negated where the optimizer maximizes. Pure torch operations. A rule whose tensors do not step independently
        defines ``update`` instead.
        """
        raise NotImplementedError(f"{type(self).__name__} defines neither advance nor update")

    @abstractmethod
    def momentum_of(self, group: Group) -> Momentum:
        """How gradients of the past enter a step of the tensors in this parameter group."""

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor | None:
        """The preconditioner of one tensor, for ``state`` after a step; None where it is the identity.

        A number for each of its entries, unless the rule overrides ``assemble``. ``gradient`` is the one of that step,
        with coupled decay and negated where the optimizer maximizes, where it is known.
        """
        return None

    def coupled_decay(self, group: Group) -> float:
        """The weight decay that is added to the gradient (an L2 term of the loss)."""
        return 0.0

    def decoupled_decay(self, group: Group) -> float:
        """The weight decay that shrinks the weights by lr * decay at every step, past momentum and preconditioner."""
        return 0.0

    def rounding(self, state: dict[str, Tensor], gradient: Float[Tensor, " P"]) -> float:
        """By what share of its length the optimizer's own arithmetic may move the step from ``state`` on ``gradient``.

        0 where it steps in the precision of the parameters, whose rounding is not meant here. Weight decay is left out.
        """
        return 0.0

    def state_rate(self, state: dict[str, Tensor], mean_square: Float[Tensor, " P"]) -> dict[str, Tensor]:
        """How fast the state that changes slowly moves, per step, where squared gradients have this mean.

        ``state`` and the result have the vectors and numbers that the preconditioner depends on, in the shapes of
        ``state()``; none where it is constant. ``mean_square`` is that of the gradient with coupled decay, averaged
        over the oscillation of the iterates. Raises :class:`NotKnownError` where the averaged dynamics of the optimizer
        is not known, which is that of a central flow (Cohen, Damian et al., arXiv 2410.24206).
        """
        raise NotKnownError(
            f"the averaged dynamics of {self.name}, with these options, is not known",
            expected=AVERAGED,
        )

    def experimental_state_rate(self, state: dict[str, Tensor], mean_square: Float[Tensor, " P"]) -> dict[str, Tensor]:
        """``state_rate``, or where that is not known a proposal for it, for flows with ``experimental=True`` alone."""
        return self.state_rate(state, mean_square)

    def check_linear(self) -> None:
        """Raise NotKnownError, saying why, where no eigenvalue decides on the stability of this optimizer."""

    # What follows from it.

    @property
    def rules(self) -> list[UpdateRule]:
        """One rule for each optimizer, over the tensors that it holds: here this one alone."""
        return [self]

    @property
    def held(self) -> list[bool]:
        """Which tensors are held by an optimizer; the others are constants of the training. Here all are held."""
        return [True] * len(self.tensors)

    def ascends(self, group: Group) -> bool:
        """Whether the steps of this parameter group follow the negative gradient."""
        return bool(group.get("maximize") or getattr(self.optimizer, "maximize", False))

    def sign(self) -> float:
        """-1 where the optimizer maximizes, else 1; NotKnownError where it does both.

        There one step is I - eta D P^-1 H with signs D, whose eigenvalues may be complex.
        """
        signs = {self.ascends(group) for group, held in zip(self.groups(), self.held, strict=True) if held}
        if len(signs) > 1:
            raise NotKnownError(
                f"{self.name} maximizes over some parameters and minimizes over others, so no eigenvalue decides",
                hint="the measure headroom",
            )
        return -1.0 if True in signs else 1.0

    def layout(self) -> dict[str, list[bool]]:
        """Which tensors have a part in the ``"parameters"`` that move and in each of the state vectors."""
        kept = {name: [self.keeps(group, name) for group in self.groups()] for name in self.vectors()}
        return {"parameters": self.held} | kept

    def momentum(self) -> Momentum:
        """The momentum on which all parameter groups agree; NotKnownError where they do not."""
        values = [self.momentum_of(group) for group, held in zip(self.groups(), self.held, strict=True) if held]
        if any(value != values[0] for value in values):
            raise NotKnownError(f"{self.name} has parameter groups with different momenta", expected="one momentum")
        return values[0]

    def update(
        self, w: Float[Tensor, " P"], state: dict[str, Tensor], gradient: Float[Tensor, " P"]
    ) -> tuple[Float[Tensor, " P"], dict[str, Tensor]]:
        """Parameters and state after one step: pure, differentiable torch operations, nothing in place."""
        moved: list[Tensor] = []
        kept: dict[str, list[Tensor]] = {name: [] for name in state if name != "step"}
        for group, piece, gradient_piece, state_piece in zip(
            self.groups(), self.split(w), self.split(gradient), self._split_state(state), strict=True
        ):
            driving = -gradient_piece if self.ascends(group) else gradient_piece
            new, new_state = self.advance(group, piece, state_piece, driving)
            moved.append(new.reshape(-1))
            for name, pieces in kept.items():
                value = new_state[name]  # a tensor stays where it is
                value = value if isinstance(value, Tensor) else torch.as_tensor(value, device=piece.device)
                pieces.append(value.reshape(-1))
        after = {name: torch.cat(pieces) for name, pieces in kept.items()}
        return torch.cat(moved), after | {"step": state["step"] + 1}

    def metric(self, gradient: Float[Tensor, " P"] | None = None) -> Metric | None:
        """The preconditioner P as a metric on parameter space, frozen; None where it is the identity.

        Without ``gradient`` it is the preconditioner of the step just taken, and raises :class:`NotKnownError` before
        the first; given the gradient at the present point, as the optimizer receives it, it is the one that the next
        step is going to use.

        Where learning rate eta, decoupled decay lambda or momentum differ between parameter groups, the metric is
        P (2 - eta lambda)/(eta Gamma), Gamma the ``gauge`` of a group's :class:`Momentum`, and the threshold is 1.
        Groups at a learning rate of 0, where others are not, are constants: their directions leave the effective
        Hessian. So are tensors that an adaptive optimizer has never stepped, since they had no gradient.
        """
        return self.scaled_metric(self.scales(), gradient)

    def scales(self) -> list[float] | None:
        """What multiplies the preconditioner of each tensor in ``metric``, infinity for constants; None: 1 for all."""
        if not self._alike():
            return self.joint_scales()
        fixed = [lr == 0 for lr, _ in self.rates()]
        if all(fixed) or not any(fixed):
            return None
        return [math.inf if still else 1.0 for still in fixed]

    def joint_scales(self) -> list[float]:
        """(2 - eta lambda)/(eta Gamma) of each tensor, infinity at a learning rate of 0.

        In the metric that they make the threshold is 1, whatever else shares the Hessian (derivation:
        :class:`Momentum`).
        """
        return [
            math.inf if lr == 0 else (2 - lr * decay) / (lr * self.momentum_of(group).gauge)
            for group, (lr, decay) in zip(self.groups(), self.rates(), strict=True)
        ]

    def scaled_metric(self, scales: list[float] | None, gradient: Float[Tensor, " P"] | None = None) -> Metric | None:
        """The preconditioner of each tensor times its scale, as ``metric`` is for ``scales()``."""
        state, sign = self.state(), self.sign()
        driving: list[Tensor] | list[None] = [None] * len(self.tensors)
        if gradient is not None:
            w = torch.cat([whole(t).flatten() for t in self.tensors]).to(gradient)
            state, shift = self.update(w, state, gradient)[1], self.shift()
            driving = self.split(sign * gradient if shift is None else sign * gradient + shift.to(w) * w)
        pieces = [
            self.preconditioner(*each) for each in zip(self.groups(), self._split_state(state), driving, strict=True)
        ]
        unknown = [p is not None and not steps for p, steps in zip(pieces, state["step"].tolist(), strict=True)]
        if any(unknown):
            if all(unknown[i] for i, piece in enumerate(pieces) if piece is not None):
                raise NotKnownError(
                    f"the preconditioner of {self.name} is not known before its first step",
                    hint="measuring after a step, or giving the gradient at the present point",
                )
            scales = scales or [1.0] * len(self.tensors)
            scales = [math.inf if u else scale for u, scale in zip(unknown, scales, strict=True)]
        if scales is None and sign == 1 and all(piece is None for piece in pieces):
            return None
        return self.assemble(scales or [1.0] * len(self.tensors), pieces)

    def diagonal(self, state: dict[str, Tensor]) -> Float[Tensor, " P"]:
        """The preconditioner for this ``state`` as one number for each parameter, 1 where it is the identity."""
        pieces = [self.preconditioner(*each) for each in zip(self.groups(), self._split_state(state), strict=True)]
        return torch.cat(
            [
                (filled_like(t, 1.0) if piece is None else piece).expand(t.shape).reshape(-1)
                for t, piece in zip(self.tensors, pieces, strict=True)
            ]
        )

    def steady_diagonal(self, state: dict[str, Tensor]) -> Float[Tensor, " P"]:
        """``diagonal`` as gradients that stay the same meet it: without what corrects the bias of their average."""
        return self.diagonal(state)

    def assemble(self, scales: list[float], pieces: list[Tensor | None]) -> Metric:
        """The metric made of the preconditioners of the tensors (None: the identity), each times its scale.

        An infinite scale makes a tensor a constant, whatever its preconditioner.
        """
        finite = [1.0 if scale == math.inf else scale for scale in scales]
        entries = [
            scale * (filled_like(tensor, 1.0) if piece is None else piece).detach().flatten()
            for tensor, scale, piece in zip(self.tensors, finite, pieces, strict=True)
        ]
        if finite == scales:
            return DiagonalMetric(torch.cat(entries))
        constant = [
            torch.full_like(e, scale == math.inf, dtype=torch.bool) for e, scale in zip(entries, scales, strict=True)
        ]
        return DiagonalMetric(torch.cat(entries), torch.cat(constant))

    def shift(self) -> Float[Tensor, " P"] | None:
        """What coupled weight decay adds to the diagonal of the Hessian; None where there is no such decay.

        A decay lambda that is added to the gradient, g + lambda w, is the gradient of the loss plus lambda/2 ||w||^2:
        one mode of curvature h moves exactly as one of curvature h + lambda without decay, so the threshold stays.
        """
        decays = [self.coupled_decay(group) for group in self.groups()]
        if not any(decays):
            return None
        return torch.cat([filled_like(t, d).flatten() for t, d in zip(self.tensors, decays, strict=True)])

    def effective(
        self, operator: Operator, gradient_scale: float = 1.0, gradient: Float[Tensor, " P"] | None = None
    ) -> Operator:
        """The operator whose largest eigenvalue, in ``metric()``, is to be compared with the threshold: H + shift.

        It is -H + shift where the optimizer maximizes. ``metric()`` is never None there.

        Where training multiplies its gradients by ``gradient_scale`` (clipping, loss scaling) while ``operator`` is the
        Hessian of the loss itself, it is H + shift/gradient_scale, to be compared with
        ``threshold().scaled(gradient_scale)``: the decay is added to the gradient after it was scaled. ``gradient``,
        that of the loss here, is needed where steps take two gradients (SAM).
        """
        check_gradient_scale(gradient_scale)
        shift, sign = self.shift(), self.sign()
        if shift is None and sign == 1:
            return operator
        diagonal = torch.zeros((), device="cpu") if shift is None else shift[:, None] / gradient_scale
        return operator.derived(lambda block: sign * (operator @ block) + diagonal.to(block) * block, same_error=True)

    def threshold(self) -> Threshold:
        """The stability threshold for the effective Hessian; infinite where all learning rates are 0.

        Raises :class:`NotKnownError` where none is known, and :class:`InputError` for a learning rate that is negative,
        infinite or NaN. Derivation: :class:`Momentum`.
        """
        self.check_linear()
        self.sign()
        trained = self._trained()
        if not trained:
            return Threshold(math.inf, NO_STEP, self.momentum_of(self.groups()[0]).source, caveat=self.caveat)
        lr, decay, momentum = trained[0]
        if self._alike():
            return Threshold(*momentum.threshold(lr, decay), momentum.source, caveat=self.caveat)
        self.joint_scales()  # raises where none is known
        return joint_threshold([momentum.source for _, _, momentum in trained], self.caveat)

    def rates(self) -> list[tuple[float, float]]:
        """Learning rate and decoupled decay of each tensor, checked.

        Raises :class:`InputError` for a learning rate that is negative, infinite or NaN, and :class:`NotKnownError`
        where no curvature is stable, whatever the loss.
        """
        rates = []
        for group in self.groups():
            lr, decay = float(group["lr"]), self.decoupled_decay(group)
            if not (math.isfinite(lr) and lr >= 0):
                raise InputError(f"a learning rate of {lr:g}", expected="a finite number of at least 0")
            if lr * decay >= 2:
                raise NotKnownError(
                    f"no threshold where learning rate times weight decay is {lr * decay:g}: the decay alone lets the"
                    " weights grow",
                    expected="less than 2",
                )
            rates.append((lr, decay))
        return rates

    def _trained(self) -> list[tuple[float, float, Momentum]]:
        """Learning rate, decoupled decay and momentum of each tensor whose learning rate is not 0."""
        each = zip(self.groups(), self.rates(), strict=True)
        return [(lr, decay, self.momentum_of(group)) for group, (lr, decay) in each if lr > 0]

    def _alike(self) -> bool:
        trained = self._trained()
        return all(each == trained[0] for each in trained)
