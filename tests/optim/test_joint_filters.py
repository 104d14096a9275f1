"""Forty random coupled systems with every momentum filter that the joint threshold covers, and a filter it does not."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from one_step import critical_scale, edge_of, flat, positive, radius, ratio, settle, train
from torch import Tensor, optim

from edgescope.errors import NotKnownError
from edgescope.optim import JointRule, SteepestDescent, UpdateRule, rule_for
from edgescope.optim import muon as muon_file
from edgescope.optim.known import RULES
from edgescope.optim.momentum import Momentum


class QHM(optim.Optimizer):
    """Quasi-hyperbolic momentum (Ma and Yarats 2019)."""

    def __init__(self, params: Any, lr: float, beta: float = 0.9, nu: float = 0.7) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "nu": nu})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for w in group["params"]:
                buffer = self.state[w].setdefault("average", torch.zeros_like(w))
                buffer.lerp_(w.grad, 1 - group["beta"])
                w -= group["lr"] * ((1 - group["nu"]) * w.grad + group["nu"] * buffer)


class QHMRule(UpdateRule):
    kinds = (QHM,)

    def vectors(self) -> tuple[str, ...]:
        return ("average",)

    def advance(self, group: Any, w: Tensor, state: Any, gradient: Tensor) -> Any:
        average = group["beta"] * state["average"] + (1 - group["beta"]) * gradient
        return w - group["lr"] * ((1 - group["nu"]) * gradient + group["nu"] * average), {"average": average}

    def momentum_of(self, group: Any) -> Momentum:
        return Momentum(group["beta"], gain=1 - group["beta"], direct=1 - group["nu"], through=group["nu"])


@pytest.fixture
def qhm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, QHM, QHMRule)


@pytest.fixture
def linear_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Muon with a fixed matrix in place of the orthogonalisation, in torch and in the rule."""
    inverse = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)

    def turn(u: Tensor) -> Tensor:
        return inverse @ u if u.shape[0] == 2 else u @ inverse

    monkeypatch.setattr(optim._muon, "_zeropower_via_newtonschulz", lambda u, *_: turn(u))
    monkeypatch.setattr(muon_file, "newton_schulz", lambda group, u: turn(u))

    def preconditioner(self: Any, group: Any, state: Any, gradient: Tensor | None = None) -> Tensor:
        return torch.linalg.inv(inverse) / muon_file._rate_factor(group, state["momentum_buffer"])

    monkeypatch.setattr(muon_file.MuonRule, "preconditioner", preconditioner)


def filters(rng: random.Random) -> dict[str, tuple[Any, dict[str, Any]]]:
    """One optimizer of each filter, with random options."""
    beta, decay = rng.choice([0.3, 0.6, 0.9]), rng.choice([0.0, rng.uniform(0.05, 0.8)])
    lr = {"lr": 10 ** rng.uniform(-2, -0.5)}
    plain = rng.choice(
        [(optim.SGD, {}), (optim.Adagrad, {}), (optim.Adadelta, {"eps": 1e-2}), (optim.ASGD, {"lambd": decay})]
    )
    ema = rng.choice([(optim.Adam, {}), (optim.AdamW, {}), (optim.RAdam, {}), (optim.Adamax, {})])
    polyak = rng.choice([(optim.SGD, {"dampening": 0.3}), (optim.RMSprop, {}), (SteepestDescent, {})])
    return {
        "none": (plain[0], lr | plain[1] | ({} if plain[0] is optim.ASGD else {"weight_decay": decay})),
        "Polyak": (polyak[0], lr | polyak[1] | {"momentum": beta, "weight_decay": decay}),
        "Nesterov": (optim.SGD, lr | {"momentum": beta, "nesterov": True, "weight_decay": decay}),
        "EMA": (ema[0], lr | ema[1] | {"betas": (beta, 0.99), "weight_decay": decay}),
        "NAdam": (optim.NAdam, lr | {"betas": (beta, 0.99), "momentum_decay": rng.choice([0.004, 1])}),
        "QHM": (QHM, lr | {"beta": beta, "nu": rng.uniform(0, 1)}),
        "Muon": (optim.Muon, lr | {"momentum": beta, "weight_decay": decay, "nesterov": rng.choice([True, False])}),
    }  # fmt: skip


def draw(seed: int) -> tuple[list[Tensor], list[Any]]:
    """Two to four of the filters, each an optimizer with two groups; tensors at rate 0 and ones that none holds."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    every = list(filters(rng))
    chosen = [every[seed % 7], *rng.sample(every, rng.choice([1, 2, 3]))]
    tensors: list[Tensor] = []
    optimizers = []
    for name in chosen:
        kind, options = filters(rng)[name]
        shapes = [(2, 3), (3, 2)] if name == "Muon" else [(2,), (2, 2)]
        own = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
        second = {"lr": 0.0 if rng.random() < 0.2 else options["lr"] / 3}
        tensors += own
        optimizers.append(kind([{"params": own[:1]}, {"params": own[1:], **second}], **options))
    if rng.random() < 0.4:
        tensors.insert(1, torch.randn(2, dtype=torch.float64, requires_grad=True))
    return tensors, optimizers


@pytest.mark.usefixtures("qhm", "linear_muon")
@pytest.mark.parametrize("seed", range(40))
def test_the_steps_turn_unstable_where_the_joint_ratio_is_one(seed: int) -> None:
    tensors, optimizers = draw(seed)
    train(tensors, optimizers, 1 + seed % 9, seed)
    settle(tensors, optimizers)
    H = positive(len(flat(tensors)), seed)
    moving = torch.cat([torch.full((t.numel(),), alive(t, optimizers)) for t in tensors])
    H[~moving], H[:, ~moving] = 0, 0  # what never moves would be an eigenvalue 1 of the step
    critical = critical_scale(tensors, optimizers, H, moving=moving)
    rule = rule_for(optimizers, tensors)
    assert isinstance(rule, JointRule)
    full = positive(len(flat(tensors)), seed)  # with the couplings to constants, which leave the operator
    assert ratio(rule, critical * full) == pytest.approx(1, abs=1e-6)


def alive(tensor: Tensor, optimizers: list[Any]) -> bool:
    groups = [group for o in optimizers for group in o.param_groups if any(p is tensor for p in group["params"])]
    return bool(groups) and groups[0]["lr"] > 0


def test_a_filter_behind_another_leaves_elsewhere_and_is_refused() -> None:
    """Grokfast: gradients plus an average of them, averaged again by Adam. The first to leave is a complex pair."""
    memory, weight, beta, eta = 0.9, 2.0, 0.9, 1.0

    def companion(h: float) -> Tensor:
        """Of (w, m, v): m' = memory m + (1 - memory) h w, v' = beta v + (1 - beta)(h w + weight m'), w' = w - v'."""
        m = torch.tensor([(1 - memory) * h, memory, 0.0], dtype=torch.float64)
        v = torch.tensor([0.0, 0.0, beta], dtype=torch.float64)
        v = v + (1 - beta) * (torch.tensor([h, 0.0, 0.0], dtype=torch.float64) + weight * m)
        return torch.stack([torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64) - eta * v, m, v])

    through_minus_one = 2 / (eta * (1 - beta) / (1 + beta) * (1 + weight * (1 - memory) / (1 + memory)))
    critical = edge_of(lambda h: radius(companion(h)))
    assert critical < 0.01 * through_minus_one
    outermost = torch.linalg.eigvals(companion(critical))
    outermost = outermost[outermost.abs() > 1 - 1e-9]
    assert bool((outermost.imag.abs() > 0.01).all())
    kind: Any = type("GrokFastAdamW", (optim.Optimizer,), {})
    p = torch.ones(2, requires_grad=True)
    with pytest.raises(NotKnownError, match="filters gradients twice") as caught:
        rule_for(kind([p], {}), [p])
    assert "headroom" in str(caught.value)


def test_a_group_that_maximizes_beside_one_that_minimizes_is_refused() -> None:
    a, b = (torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for optimizers in (
        [optim.SGD([a], lr=0.1), optim.Adam([b], maximize=True)],
        optim.SGD([{"params": [a]}, {"params": [b], "maximize": True}], lr=0.1),
    ):
        rule = rule_for(optimizers, [a, b])
        for ask in (rule.threshold, lambda rule=rule: rule.metric(torch.ones(4, dtype=torch.float64))):
            with pytest.raises(NotKnownError, match="maximizes over some parameters and minimizes over others"):
                ask()
