"""Thresholds: torch's own optimizers, and the Jacobian of the update, a thousandth below and a thousandth above."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from flat_objective import Quadratic
from frozen import freeze, without_squares
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.linalg import from_matrix
from edgescope.optim import SteepestDescent, rule_for
from edgescope.optim.jacobian import update_jacobian
from edgescope.optim.momentum import Momentum
from edgescope.optim.rule import UpdateRule

SGD, RMSprop, Adam, AdamW, Muon = (
    torch.optim.SGD,
    torch.optim.RMSprop,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Muon,
)
LR = 0.03

# torch's own forward mode uses a part of torch that it has deprecated, once, on import
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def polyak(beta: float) -> float:
    return (2 + 2 * beta) / LR


FORMULAS: list[tuple[type, dict[str, Any], float, str]] = [
    (SGD, {}, 2 / LR, "2/η"),
    (SGD, {"momentum": 0.3}, polyak(0.3), "(2+2β)/η"),
    (SGD, {"momentum": 0.9}, polyak(0.9), "(2+2β)/η"),
    (SGD, {"momentum": 0.9, "dampening": 0.75}, polyak(0.9) / 0.25, "(2+2β)/((1-τ)η)"),
    (SGD, {"momentum": 0.3, "nesterov": True}, polyak(0.3) / 1.6, "(2+2β)/((1+2β)η)"),
    (SGD, {"momentum": 0.9, "nesterov": True}, polyak(0.9) / 2.8, "(2+2β)/((1+2β)η)"),
    (SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 4.0}, polyak(0.9) / 2.8, "(2+2β)/((1+2β)η)"),
    (RMSprop, {}, 2 / LR, "2/η"),
    (RMSprop, {"momentum": 0.9, "weight_decay": 2.0}, polyak(0.9), "(2+2μ)/η"),
    (Adam, {"betas": (0.9, 0.99)}, 38 / LR, "(2+2β₁)/((1-β₁)η)"),
    (Adam, {"betas": (0.3, 0.99), "weight_decay": 2.0}, polyak(0.3) / 0.7, "(2+2β₁)/((1-β₁)η)"),
    (Adam, {"betas": (0.0, 0.99)}, 2 / LR, "2/η"),
    (AdamW, {"betas": (0.9, 0.99), "weight_decay": 10.0}, 1.7 * 19 / LR, "(2-ηλ)(1+β₁)/((1-β₁)η)"),
    (AdamW, {"betas": (0.0, 0.99), "weight_decay": 10.0}, 1.7 / LR, "(2-ηλ)/η"),
    (Muon, {"momentum": 0.9, "weight_decay": 0.0}, 38 / (2.8 * LR), "(2+2μ)/((1-μ)(1+2μ)η)"),
    (Muon, {"momentum": 0.3, "weight_decay": 10.0}, 1.7 * 1.3 / (0.7 * 1.6 * LR), "(2-ηλ)(1+μ)/((1-μ)(1+2μ)η)"),
    (Muon, {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0}, 38 / LR, "(2+2μ)/((1-μ)η)"),
    (Muon, {"momentum": 0.0, "weight_decay": 0.0}, 2 / LR, "2/η"),
]


@pytest.mark.parametrize(("kind", "options", "value", "formula"), FORMULAS)
def test_value_and_formula(kind: type, options: dict[str, Any], value: float, formula: str) -> None:
    p = torch.ones(2, 2, requires_grad=True)
    threshold = rule_for(kind([p], lr=LR, **options), [p]).threshold()
    assert threshold.value == pytest.approx(value, rel=1e-12)
    assert threshold.formula == formula
    assert threshold.source


GAUGES: list[tuple[type, dict[str, Any], float]] = [
    (SGD, {}, 1.0),
    (SGD, {"momentum": 0.9}, 1 / 1.9),
    (SGD, {"momentum": 0.9, "dampening": 0.75}, 0.25 / 1.9),
    (SGD, {"momentum": 0.9, "nesterov": True}, 2.8 / 1.9),
    (Adam, {"betas": (0.9, 0.99)}, 0.1 / 1.9),
    (Muon, {"momentum": 0.9}, 0.1 * 2.8 / 1.9),
]


@pytest.mark.parametrize(("kind", "options", "gauge"), GAUGES)
def test_the_gauge_is_the_gain_for_gradients_that_alternate(kind: type, options: dict[str, Any], gauge: float) -> None:
    """Closed form, and the momentum fed with 1, -1, 1, ... for long."""
    p = torch.ones(2, 2, requires_grad=True)
    momentum = rule_for(kind([p], lr=LR, **options), [p]).momentum()
    assert momentum.gauge == pytest.approx(gauge, rel=1e-14)
    buffer = 0.0
    for step in range(1000):
        gradient = (-1.0) ** step
        buffer = momentum.memory * buffer + momentum.gain * gradient
        entered = momentum.direct * gradient + momentum.through * buffer
    assert entered / gradient == pytest.approx(gauge, rel=1e-12)


@pytest.mark.parametrize("options", [{"direct": -0.1}, {"through": -0.5, "direct": 2.0}, {"gain": -1.0, "direct": 2.0}])
def test_a_momentum_that_subtracts_gradients_is_not_known(options: dict[str, float]) -> None:
    with pytest.raises(NotKnownError, match="no threshold is known"):
        Momentum(0.5, **options).gauge  # noqa: B018


def test_a_threshold_where_training_scales_its_gradients() -> None:
    p = torch.ones(2, 2, requires_grad=True)
    threshold = rule_for(SGD([p], lr=0.1), [p]).threshold()
    assert threshold.scaled(1.0) is threshold
    clipped = threshold.scaled(0.25)
    assert clipped.value == pytest.approx(80)
    assert clipped.formula == "2/η, divided by the scale of the gradient, 0.25"
    assert rule_for(SGD([p], lr=0.0), [p]).threshold().scaled(0.25).value == math.inf
    normalized = rule_for(SteepestDescent([p], lr=0.1, geometry="linf", normalized=True), [p]).threshold()
    assert normalized.scaled(0.25) is normalized
    for scale in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="gradient scale"):
            threshold.scaled(scale)
        with pytest.raises(InputError, match="gradient scale"):
            rule_for(SGD([p], lr=0.1), [p]).effective(from_matrix(torch.eye(4)), scale)


# Muon is not linear in its mode whatever its state; it is left to the Jacobian below.
LINEAR = [case[:2] for case in FORMULAS if case[0] is not Muon]


@pytest.mark.parametrize(("kind", "options"), LINEAR)
@pytest.mark.parametrize(("share", "grows"), [(0.999, False), (1.001, True)])
def test_torch_itself_turns_unstable_there(kind: type, options: dict[str, Any], share: float, grows: bool) -> None:
    """One quadratic mode under the real optimizer, its preconditioner frozen by a memory of 1 - 1e-15."""
    p = torch.full((1,), 1e-9, dtype=torch.float64, requires_grad=True)
    optimizer = kind([p], lr=LR, **options)
    group, v = optimizer.param_groups[0], torch.full_like(p.detach(), 0.49)
    if kind is RMSprop:
        group["alpha"] = 1 - 1e-15
        optimizer.state[p] = {"step": torch.tensor(9.0), "square_avg": v, "momentum_buffer": 0 * v}
    elif kind in (Adam, AdamW):
        group["betas"] = (group["betas"][0], 1 - 1e-15)
        optimizer.state[p] = {"step": torch.tensor(1e18, dtype=torch.float64), "exp_avg_sq": v, "exp_avg": 0 * v}
    rule = rule_for(optimizer, [p])
    metric, shift = rule.metric(), rule.shift()
    scale = 1.0 if metric is None else float(metric.root(torch.ones(1, 1).double()) ** 2)
    assert scale == pytest.approx(1.0 if kind is SGD else 0.7, rel=1e-6)
    h = share * rule.threshold().value * scale - (0.0 if shift is None else float(shift))
    size = []
    for _ in range(400):
        p.grad = h * p.detach()
        optimizer.step()
        size.append(abs(p.item()))
    assert (size[-1] > size[-200]) is grows


def settled(kind: type, options: dict[str, Any], other: dict[str, Any]) -> tuple[UpdateRule, list[Tensor], Tensor]:
    """An optimizer with two groups after a few steps on random gradients; every tensor in a group of its own."""
    torch.manual_seed(3)
    shapes = [(3, 2), (2, 4)] if kind is Muon else [(5,), (2, 3)]
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    optimizer = kind([{"params": [tensors[0]]}, {"params": [tensors[1]], **other}], lr=LR, **options)
    for _ in range(4):
        for t in tensors:
            t.grad = torch.randn_like(t)
        optimizer.step()
    gradient = torch.randn(sum(t.numel() for t in tensors), dtype=torch.float64)
    return rule_for(optimizer, tensors), tensors, gradient


GROUPS: list[tuple[type, dict[str, Any], dict[str, Any]]] = [
    *((kind, options, {}) for kind, options, *_ in FORMULAS),
    (SGD, {}, {"lr": 0.3}),
    (SGD, {"momentum": 0.9, "nesterov": True}, {"lr": 0.3, "weight_decay": 1.0}),
    (RMSprop, {"momentum": 0.3, "centered": True}, {"lr": 0.3, "alpha": 0.5}),
    (Adam, {"weight_decay": 1.0}, {"lr": 0.003, "weight_decay": 0.0}),
    (Adam, {"amsgrad": True}, {"eps": 0.1}),
    (AdamW, {"betas": (0.9, 0.95), "weight_decay": 20.0}, {"lr": 0.01, "weight_decay": 0.0}),
    (AdamW, {"betas": (0.3, 0.95), "weight_decay": 20.0}, {"weight_decay": 1.0}),
    (Muon, {"momentum": 0.9}, {"lr": 0.1, "adjust_lr_fn": "match_rms_adamw"}),
    (Muon, {"momentum": 0.9, "weight_decay": 20.0}, {"weight_decay": 0.0, "ns_steps": 3}),
    (SGD, {}, {"momentum": 0.9}),
    (SGD, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.5, "nesterov": False, "dampening": 0.2, "lr": 0.3}),
    (RMSprop, {}, {"momentum": 0.9}),
    (Adam, {"betas": (0.9, 0.95)}, {"betas": (0.5, 0.9), "weight_decay": 1.0}),
    (AdamW, {"betas": (0.9, 0.95), "weight_decay": 20.0}, {"betas": (0.0, 0.9), "lr": 0.3, "weight_decay": 1.0}),
    (Muon, {"momentum": 0.9, "weight_decay": 0.0}, {"nesterov": False, "momentum": 0.5, "weight_decay": 10.0}),
]


@pytest.mark.parametrize(("kind", "options", "other"), GROUPS)
@pytest.mark.parametrize("share", [0.999, 1, 1.001])
def test_spectral_radius_of_the_update(
    kind: type,
    options: dict[str, Any],
    other: dict[str, Any],
    share: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A dense random quadratic, scaled so that its effective sharpness is that share of the threshold."""
    rule, tensors, gradient = settled(kind, options, other)
    n = gradient.numel()
    metric, shift = rule.metric(gradient), rule.shift()
    identity = torch.eye(n, dtype=torch.float64)
    root = identity if metric is None else metric.root(identity)
    A = torch.randn(n, n, dtype=torch.float64)
    effective = A @ A.T + identity
    effective *= share * rule.threshold().value / float(torch.linalg.eigvalsh(effective)[-1])
    H = root @ effective @ root - (0 if shift is None else torch.diag(shift))
    freeze(rule, gradient, monkeypatch)
    jacobian = update_jacobian(rule, Quadratic(H, tensors))
    eigenvalues = torch.linalg.eigvals(without_squares(jacobian, rule))
    radius = float(eigenvalues.abs().max())
    if share == 1:
        assert radius == pytest.approx(1, abs=1e-8)
        assert float((eigenvalues + 1).abs().min()) < 1e-8  # it leaves through -1
    else:
        assert (radius < 1) is (share < 1)
