"""Coupled quadratics under real torch optimizers whose preconditioners are held fixed: the exact matrix of one step."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgescope.linalg.operator import from_matrix
from edgescope.optim import SteepestDescent, UpdateRule

FIXED = 1 - 1e-15  # a memory of squared gradients so long that they do not change
BUFFERS = ("momentum_buffer", "exp_avg")


@dataclass
class System:
    """Tensors, the optimizers that hold some of them, and which of the tensors never move."""

    tensors: list[Tensor]
    optimizers: list[torch.optim.Optimizer]
    constant: list[bool]

    @property
    def size(self) -> int:
        return sum(t.numel() for t in self.tensors)


def draw_group(rng: random.Random, kind: type) -> dict[str, Any]:
    """Options of one parameter group, with a momentum of one of the forms that ``kind`` has."""
    group: dict[str, Any] = {"lr": 10 ** rng.uniform(-2, 0)}
    beta, decay = rng.choice([0.3, 0.6, 0.9]), rng.choice([0.0, rng.uniform(0.05, 0.8)])
    if kind is torch.optim.SGD:
        forms = [{}, {"momentum": beta}, {"momentum": beta, "nesterov": True}]
        group |= rng.choice([*forms, {"momentum": beta, "dampening": rng.uniform(0.1, 0.9)}])
    elif kind is torch.optim.RMSprop:
        group |= {"momentum": rng.choice([0.0, beta]), "alpha": FIXED}
    elif kind is SteepestDescent:
        group |= {"momentum": rng.choice([0.0, beta])}
    else:
        group |= {"betas": (rng.choice([0.0, beta]), FIXED)}
    return group | {"weight_decay": decay}


def draw_system(seed: int, optimizers: int, unheld: int = 0, still: int = 0) -> System:
    """``optimizers`` of random kinds, two to three tensors in each, every tensor in a group of its own.

    ``unheld`` further tensors are in no optimizer, and ``still`` tensors in groups at learning rate 0.
    """
    rng = random.Random(seed)
    torch.manual_seed(seed)
    kinds = [torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adam, torch.optim.AdamW, SteepestDescent]
    members: list[tuple[int | None, Tensor]] = [(k, draw_tensor(rng)) for k in range(optimizers) for _ in range(2)]
    members += [(rng.randrange(optimizers), draw_tensor(rng)), *((None, draw_tensor(rng)) for _ in range(unheld))]
    rng.shuffle(members)
    frozen = rng.sample([i for i, (k, _) in enumerate(members) if k is not None], still)
    made = []
    for k in range(optimizers):
        kind, groups = rng.choice(kinds), []
        for i, (owner, tensor) in enumerate(members):
            if owner == k:
                group = draw_group(rng, kind) | ({"lr": 0.0} if i in frozen else {})
                groups.append(group | {"params": [tensor]})
        made.append(kind(groups, lr=0.1))
    for optimizer in made:
        preset(optimizer)
    constant = [owner is None or i in frozen for i, (owner, _) in enumerate(members)]
    return System([tensor for _, tensor in members], made, constant)


def draw_tensor(rng: random.Random) -> Tensor:
    shape = rng.choice([(2,), (3,), (2, 2)])
    return torch.zeros(shape, dtype=torch.float64, requires_grad=True)


def preset(optimizer: torch.optim.Optimizer) -> None:
    """State late in a run: squared gradients that stay, bias corrections of 1, momentum past its first step."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            v = torch.rand_like(p.detach()) + 0.1
            if isinstance(optimizer, torch.optim.RMSprop):
                buffer = {"momentum_buffer": 0 * v} if group["momentum"] else {}
                optimizer.state[p] = {"step": torch.tensor(9.0), "square_avg": v, **buffer}
            elif isinstance(optimizer, torch.optim.Adam):
                count = torch.tensor(1e18, dtype=torch.float64)
                optimizer.state[p] = {"step": count, "exp_avg_sq": v, "exp_avg": 0 * v}
            elif group["momentum"]:
                optimizer.state[p] = {"momentum_buffer": 0 * v}


def step_matrix(system: System, H: Tensor) -> Tensor:
    """The map of (parameters that move, their momentum buffers) in one step of the live optimizers on w^T H w / 2."""
    moving = [t for t, constant in zip(system.tensors, system.constant, strict=True) if not constant]
    held = [(o, p) for o in system.optimizers for group in o.param_groups for p in group["params"]]
    buffers = [o.state[p][name] for o, p in held for name in BUFFERS if name in o.state.get(p, {})]
    places = [*moving, *buffers]
    kept = [[value.clone() for value in o.state.get(p, {}).values()] for o, p in held]
    columns = []
    with torch.no_grad():
        for place in places:
            for j in range(place.numel()):
                for each in [*system.tensors, *buffers]:
                    each.zero_()
                place.view(-1)[j] = 1.0
                gradient = H @ torch.cat([t.flatten() for t in system.tensors])
                for t, g in zip(system.tensors, gradient.split([t.numel() for t in system.tensors]), strict=True):
                    t.grad = g.view(t.shape).clone()
                for optimizer in system.optimizers:
                    optimizer.step()
                columns.append(torch.cat([each.detach().flatten() for each in places]))
    with torch.no_grad():
        for (o, p), values in zip(held, kept, strict=True):
            for live, value in zip(o.state.get(p, {}).values(), values, strict=True):
                live.copy_(value)
    return torch.stack(columns, dim=1)


def ratio(rule: UpdateRule, H: Tensor) -> float:
    """Largest eigenvalue of the effective Hessian over the threshold, by a dense eigensolver."""
    identity = torch.eye(len(H), dtype=torch.float64)
    effective, metric = rule.effective(from_matrix(H)) @ identity, rule.metric()
    if metric is not None:
        effective = metric.inverse_root(metric.inverse_root(effective).T)
    return float(torch.linalg.eigvalsh(effective)[-1]) / rule.threshold().value
