"""The linear map of one step of live optimizers, whatever they keep, and the curvature at which it turns unstable."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edgescope.linalg.operator import from_matrix
from edgescope.optim import UpdateRule

SHAPES = [(3,), (2, 2), (2, 3)]
MOMENTA = ("momentum_buffer", "exp_avg", "z", "average", "momentum")
SMALL = 1e-7  # a perturbation whose square changes no preconditioner


def draw_tensors() -> list[Tensor]:
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES]


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def give(tensors: list[Tensor], gradient: Tensor) -> None:
    for t, g in zip(tensors, gradient.split([t.numel() for t in tensors]), strict=True):
        t.grad = g.view(t.shape).clone().to(t.dtype)


def train(tensors: list[Tensor], optimizers: list[Any], steps: int, seed: int) -> None:
    """Steps on random gradients, so that all state is what the optimizers made of it."""
    draws = torch.Generator().manual_seed(seed)
    size = sum(t.numel() for t in tensors)
    for _ in range(steps):
        give(tensors, torch.randn(size, dtype=torch.float64, generator=draws))
        for optimizer in optimizers:
            optimizer.step()


def settle(tensors: list[Tensor], optimizers: list[Any]) -> None:
    """Parameters and momenta to 0, where the gradient of w^T H w / 2 is 0; all other state stays."""
    with torch.no_grad():
        for t in tensors:
            t.zero_()
        for buffer in momenta(optimizers):
            buffer.zero_()


def momenta(optimizers: list[Any]) -> list[Tensor]:
    held = [(o, p) for o in optimizers for group in o.param_groups for p in group["params"]]
    states = [o.state.get(p, {}) for o, p in held]
    return [s[name] for s in states for name in MOMENTA if isinstance(s.get(name), Tensor)]


def snapshot(optimizers: list[Any]) -> Callable[[], None]:
    """A function that puts state and options back as they are now."""
    kept = [
        (o, {p: copy.deepcopy(dict(s)) for p, s in o.state.items()}, [dict(g) for g in o.param_groups])
        for o in optimizers
    ]

    def restore() -> None:
        for optimizer, states, groups in kept:
            for p, state in states.items():
                optimizer.state[p] = copy.deepcopy(state)
            for group, values in zip(optimizer.param_groups, groups, strict=True):
                group.clear()
                group.update(values)

    return restore


def step_matrix(
    tensors: list[Tensor],
    optimizers: list[Any],
    H: Tensor,
    drift: Tensor | None = None,
    still: int = 0,
    before_step: Callable[[], None] = lambda: None,
    moving: Tensor | None = None,
) -> Tensor:
    """The map of parameters and momenta in one step on w^T H w / 2 + drift . w, by differences at the present point.

    The last ``still`` parameters are left out: they only drift. So are all that are not ``moving``.
    """
    restore, start = snapshot(optimizers), flat(tensors)
    size = len(start)
    kept = [i for i in range(size + sum(b.numel() for b in momenta(optimizers))) if not size - still <= i < size]
    if moving is not None:
        kept = [i for i in kept if i >= size or bool(moving[i])]

    def after(place: int | None) -> Tensor:
        restore()
        with torch.no_grad():
            for t, values in zip(tensors, start.split([t.numel() for t in tensors]), strict=True):
                t.copy_(values.view(t.shape))
            spots = [*tensors, *momenta(optimizers)]
            if place is not None:
                for spot in spots:
                    if place < spot.numel():
                        spot[torch.unravel_index(torch.tensor(place), spot.shape)] += SMALL
                        break
                    place -= spot.numel()
        give(tensors, H @ flat(tensors) + (0 if drift is None else drift))
        before_step()
        for optimizer in optimizers:
            optimizer.step()
        return flat([*tensors, *momenta(optimizers)])

    rest = after(None)
    columns = [(after(place) - rest)[kept] / SMALL for place in kept]
    restore()
    with torch.no_grad():
        for t, values in zip(tensors, start.split([t.numel() for t in tensors]), strict=True):
            t.copy_(values.view(t.shape))
    return torch.stack(columns, dim=1)


def radius(matrix: Tensor) -> float:
    return float(torch.linalg.eigvals(matrix).abs().max())


def edge_of(size: Callable[[float], float]) -> float:
    """The smallest argument at which this reaches 1, by bisection."""
    low, high = 0.0, 1e-6
    while size(high) < 1:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) < 1 else (low, middle)
    return high


def positive(size: int, seed: int) -> Tensor:
    A = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return A @ A.T / size + 0.1 * torch.eye(size, dtype=torch.float64)


def critical_scale(tensors: list[Tensor], optimizers: list[Any], H: Tensor, **how: Any) -> float:
    """The factor of H at which the next step of the optimizers has an eigenvalue on the unit circle."""
    start = step_matrix(tensors, optimizers, 0 * H, **how)
    slope = step_matrix(tensors, optimizers, H, **how) - start
    return edge_of(lambda scale: radius(start + scale * slope))


def ratio(rule: UpdateRule, H: Tensor, gradient: Tensor | None = None, gradient_scale: float = 1.0) -> float:
    """Largest eigenvalue of the effective Hessian over the threshold, in the metric of the next step."""
    identity = torch.eye(len(H), dtype=torch.float64)
    effective = rule.effective(from_matrix(H), gradient_scale) @ identity
    metric = rule.metric(torch.zeros(len(H), dtype=torch.float64) if gradient is None else gradient)
    if metric is not None:
        effective = metric.inverse_root(metric.inverse_root(effective).T)
    return float(torch.linalg.eigvalsh(effective)[-1]) / rule.threshold().scaled(gradient_scale).value


def two_groups(kind: Any, tensors: list[Tensor], options: dict[str, Any], other: dict[str, Any]) -> Any:
    return kind([{"params": [tensors[0], tensors[2]]}, {"params": [tensors[1]], **other}], **options)


def choose(seed: int, *values: Any) -> Any:
    return random.Random(seed).choice(values)
