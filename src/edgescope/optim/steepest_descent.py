"""Steepest descent in any geometry, and its stability threshold, which is one of generalized sharpness."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope import linalg
from edgescope.errors import InputError, NotKnownError
from edgescope.geometry import Diagonal, Euclidean, Geometry, Part, Product, Scaled, as_geometry
from edgescope.optim.held_state import Group
from edgescope.optim.hyperparameters import SHARED, check_group, kept_if_valid, loss_of
from edgescope.optim.momentum import COMPANION, Momentum
from edgescope.optim.rule import UpdateRule
from edgescope.optim.sgd import GRADIENT_DESCENT
from edgescope.optim.threshold import Threshold

ISLAMOV = "Islamov et al. 2026, arXiv 2603.05002"


class SteepestDescent(torch.optim.Optimizer):
    """w' = w - lr ||g||_* s, or w' = w - lr s with ``normalized``: s is the steepest direction, ||g||_* the dual norm.

    Both are those of all parameters together: groups with equal geometries are one vector in it, groups with different
    ones make a :class:`Product` (the largest of their norms; the dual norms add up). ``geometry`` is a
    :class:`Geometry` or its name, such as ``"spectral:polar=polar-express"``. With ``momentum`` beta, b' = beta b + g
    takes the place of g. ``weight_decay`` is decoupled: w is also shrunk by lr * weight_decay. Euclidean steepest
    descent is ``torch.optim.SGD``, normalized Linf steepest descent signSGD.

    Learning rates that differ between groups belong to the norm, so that every step is one of steepest descent: the
    step is that of rate 1 in the variables w_i / sqrt(lr_i), normalized in the variables w_i / lr_i. Euclidean groups
    then move by lr_i g_i, and normalized Linf, Spectral or product groups by lr_i s_i.

    Parameters without a gradient count as zero in the norm and stay as they are; frozen ones have no part in it. A zero
    gradient moves nothing. A geometry given as an object is not in the ``state_dict``: it stays as constructed.

    Raises :class:`InputError` for hyper-parameters out of range, ``normalized`` that differs between groups, and, at
    the step, a geometry that does not fit the parameters, or sparse gradients. Source: Islamov et al. 2026, arXiv
    2603.05002. Cost: that of one steepest direction, and some three vectors of length P of memory.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        geometry: Geometry | str = "euclidean",
        normalized: bool = False,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "geometry": geometry,
            "normalized": normalized,
            "momentum": momentum,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """One more group of parameters; refused in one line, and left out, where its options cannot be used."""
        super().add_param_group(param_group)
        with kept_if_valid(self.param_groups) as group:
            _check_group(group, self.param_groups[0])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; the closure, where there is one, computes loss and gradients, and its loss is returned."""
        loss = loss_of(closure)
        members = [(p, group) for group in self.param_groups for p in group["params"] if p.requires_grad]
        if all(p.grad is None for p, _ in members):
            return loss
        tensors, groups = [p for p, _ in members], [group for _, group in members]
        driving = [self._driving(p, group) for p, group in members]
        moves = descent_step(joint_geometry(self.param_groups, tensors), groups, driving)
        for p, group, move in zip(tensors, groups, moves, strict=True):
            if p.grad is not None:
                p.mul_(1 - float(group["lr"]) * group["weight_decay"]).sub_(move)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state, without geometries that were given as objects."""
        state = super().state_dict()
        for group in state["param_groups"]:
            if not isinstance(group["geometry"], str):
                group["geometry"] = None
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a ``state_dict``; a geometry that was saved as an object is the one of this optimizer."""
        own = [group["geometry"] for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, geometry in zip(self.param_groups, own, strict=True):
            if group["geometry"] is None:
                group["geometry"] = geometry

    def _driving(self, p: Tensor, group: Group) -> Tensor:
        """What the direction is taken from: the gradient, or its momentum buffer, brought up to date."""
        if p.grad is None:
            return torch.zeros_like(p)
        if p.grad.is_sparse:
            raise InputError("steepest descent with sparse gradients", expected="dense ones", hint="sparse=False")
        if not group["momentum"]:
            return p.grad
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)
        buffer: Tensor = state["momentum_buffer"]
        return buffer.mul_(group["momentum"]).add_(p.grad)


class SteepestDescentRule(UpdateRule):
    """b' = beta b + g, w' = (1 - eta lambda) w - eta ||b'||_* (b')^*, or without the dual norm where normalized.

    **Threshold** on the generalized sharpness S = max of d^T H d over ||d|| = 1: on a quadratic, start on the line of
    the maximiser v of S. There g = t H v, of dual norm |t| S and steepest direction sign(t) v, so the iteration stays
    on the line and is that of one mode of curvature S: (2 - eta lambda)(1 + beta)/eta, as in :class:`Momentum`. Above
    it steepest descent diverges from this line, not from every start. Normalized steepest descent without momentum
    alternates on that line where S/||g||_* is (2 - eta lambda)/eta; with momentum its cycles have many lengths, and
    none is known.

    For the Euclidean and the diagonal norm S is the largest eigenvalue in ``metric()``, as for other optimizers; when
    normalized the metric holds ||g||_*, and is known for a given gradient. No other norm has a metric.
    """

    kinds = (SteepestDescent,)

    def vectors(self) -> tuple[str, ...]:
        return ("momentum_buffer",) if any(group["momentum"] for group in self.groups()) else ()

    def keeps(self, group: Group, name: str) -> bool:
        return bool(group["momentum"])

    def decoupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"])

    def momentum_of(self, group: Group) -> Momentum:
        beta = float(group["momentum"])
        return Momentum(beta, source=COMPANION if beta else GRADIENT_DESCENT)

    def geometry(self) -> Geometry:
        """The norm of all parameters together, learning rates left out, bound to the shapes of this rule's tensors.

        Raises :class:`NotKnownError` where the optimizer's norm has further parameters in it, which are not the rule's.
        """
        geometry = joint_geometry(self.optimizer.param_groups, self.tensors)
        if self.others and (self.option("normalized") or not isinstance(geometry, Euclidean)):
            raise NotKnownError(
                f"the norm of {self.name} has {self.others} parameters in it that are not in the objective",
                hint="an optimizer for the parameters of the objective alone",
            )
        return geometry

    def check_linear(self) -> None:
        geometry = self.geometry()
        if not isinstance(geometry, Euclidean | Diagonal):
            raise NotKnownError(
                f"steepest descent in the geometry {type(geometry).__name__} has no preconditioner, so stability"
                " is not decided by an eigenvalue",
                hint="the generalized sharpness in this geometry",
            )
        if self.option("normalized"):
            raise NotKnownError(
                "the threshold of normalized steepest descent depends on the gradient, so no eigenvalue decides"
            )

    def update(
        self, w: Float[Tensor, " P"], state: dict[str, Tensor], gradient: Float[Tensor, " P"]
    ) -> tuple[Float[Tensor, " P"], dict[str, Tensor]]:
        groups = self.groups()
        driving, after = self.split(gradient), {"step": state["step"] + 1}
        if "momentum_buffer" in state:
            kept = self.split(state["momentum_buffer"])
            driving = [group["momentum"] * b + g for group, b, g in zip(groups, kept, driving, strict=True)]
            buffers = [d if group["momentum"] else b for group, b, d in zip(groups, kept, driving, strict=True)]
            after["momentum_buffer"] = torch.cat([buffer.reshape(-1) for buffer in buffers])
        moves = descent_step(self.geometry(), groups, driving)
        shrunk = [
            (1 - float(group["lr"]) * self.decoupled_decay(group)) * piece
            for group, piece in zip(groups, self.split(w), strict=True)
        ]
        return torch.cat([(kept - move).reshape(-1) for kept, move in zip(shrunk, moves, strict=True)]), after

    def metric(self, gradient: Float[Tensor, " P"] | None = None) -> linalg.Metric | None:
        geometry = self.geometry()
        if not self.option("normalized") or not isinstance(geometry, Euclidean | Diagonal):
            return super().metric(gradient)
        if gradient is None or self.scales() is not None:
            raise NotKnownError(
                "the metric of normalized steepest descent is not known without the gradient or where learning rates"
                " differ"
            )
        return self.assemble([float(geometry.dual_norm(gradient))] * len(self.tensors), self._entries(geometry))

    def scaled_metric(
        self, scales: list[float] | None, gradient: Float[Tensor, " P"] | None = None
    ) -> linalg.Metric | None:
        self.check_linear()
        geometry = self.geometry()
        if scales is None and not isinstance(geometry, Diagonal):
            return None
        return self.assemble(scales or [1.0] * len(self.tensors), self._entries(geometry))

    def threshold(self) -> Threshold:
        geometry, normalized = self.geometry(), bool(self.option("normalized"))
        if isinstance(geometry, Euclidean | Diagonal) and not normalized:
            return replace(super().threshold(), geometry=self._geometry_of(self.metric()))
        momentum = self.momentum()
        if normalized and momentum.memory:
            raise NotKnownError("no threshold is known for normalized steepest descent with momentum")
        rates, note = self.rates(), ", of sharpness over dual gradient norm" if normalized else ""
        if self.scales() is None:
            value, formula = momentum.threshold(*rates[0])
        else:
            if any(lr == 0 for lr, _ in rates):
                raise NotKnownError(
                    f"no threshold is known in the geometry {type(geometry).__name__} where some learning rates are 0",
                    hint="an optimizer without these parameters",
                )
            shrinking = [lr * decay for lr, decay in rates]
            if max(shrinking) > min(shrinking):
                raise NotKnownError(
                    f"no threshold is known where learning rate times weight decay differs ({shrinking[0]:g} ...)"
                )
            value, formula = momentum.threshold(None, shrinking[0])
            factors = tuple(lr if normalized else math.sqrt(lr) for lr, _ in rates)
            geometry = Scaled(geometry, factors).bind(self._shapes())
            note = f", learning rates absorbed in the geometry{note}"
        return Threshold(value, formula + note, ISLAMOV, geometry, normalized)

    def _geometry_of(self, metric: linalg.Metric | None) -> Geometry | None:
        """The geometry whose sharpness is the largest eigenvalue in ``metric``; None where that has constants in it."""
        if not isinstance(metric, linalg.DiagonalMetric):
            return Euclidean().bind(self._shapes())
        return Diagonal(metric.entries).bind(self._shapes()) if bool(metric.entries.isfinite().all()) else None

    def _entries(self, geometry: Geometry) -> list[Tensor | None]:
        """The preconditioner of each tensor, None where it is the identity."""
        if isinstance(geometry, Diagonal):
            return list(self.split(geometry.metric().entries))
        return [None] * len(self.tensors)

    def _shapes(self) -> list[tuple[int, ...]]:
        return [tuple(tensor.shape) for tensor in self.tensors]


def joint_geometry(groups: list[Group], tensors: list[Tensor]) -> Geometry:
    """The norm of all ``tensors`` together, in this order: the geometry of their groups, or the product of several.

    Groups with equal geometries share it, with their tensors in the order of the groups.
    """
    place = {id(tensor): i for i, tensor in enumerate(tensors)}
    parts: list[tuple[Geometry, list[int]]] = []
    for group in groups:
        geometry = as_geometry(group["geometry"])
        own = [place[id(p)] for p in group["params"] if id(p) in place]
        shared = next((members for known, members in parts if known == geometry), None)
        if shared is not None:
            shared += own
        elif own:
            parts.append((geometry, own))
    shapes = [tuple(tensor.shape) for tensor in tensors]
    geometry, members = parts[0]
    if len(parts) == 1 and (geometry.any_order or members == sorted(members)):
        return geometry.bind(shapes)
    return Product(tuple(Part(geometry, tuple(members)) for geometry, members in parts)).bind(shapes)


def descent_step(geometry: Geometry, groups: list[Group], driving: list[Tensor]) -> list[Tensor]:
    """What is subtracted from each tensor: ``driving`` are their gradients or momentum buffers, in their shapes."""
    rates = [float(group["lr"]) for group in groups]
    normalized = groups[0]["normalized"]
    largest = max(rates)
    if largest == 0:
        return [torch.zeros_like(piece) for piece in driving]
    factors = [(rate / largest) ** (1.0 if normalized else 0.5) for rate in rates]
    flat = torch.cat([factor * piece.reshape(-1) for factor, piece in zip(factors, driving, strict=True)])
    moved = geometry.steepest(flat) if normalized else geometry.descent(flat)
    pieces = moved.split([piece.numel() for piece in driving])
    return [largest * f * m.view(d.shape) for f, m, d in zip(factors, pieces, driving, strict=True)]


def _check_group(group: Group, first: Group) -> None:
    check_group("optimizer SteepestDescent", group, (*SHARED, "normalized"))
    if group["normalized"] != first["normalized"]:
        raise InputError(
            "steepest descent with parameter groups of which only some are normalized", expected="all or none"
        )
    as_geometry(group["geometry"])
