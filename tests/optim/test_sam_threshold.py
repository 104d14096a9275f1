"""SAM's threshold: its own steps with ||g|| held fixed by a drift, and its period-two orbits on quadratics."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from one_step import SHAPES, draw_tensors, edge_of, flat, give, positive, radius, settle, step_matrix, train
from torch import Tensor, optim

from edgescope.errors import NotKnownError
from edgescope.linalg.operator import from_matrix
from edgescope.optim import SAM, rule_for, update_jacobian

BASES: list[tuple[type[torch.optim.Optimizer], dict[str, Any]]] = [
    (optim.SGD, {"lr": 0.1}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.3}),
    (optim.RMSprop, {"lr": 0.02}),
    (optim.Adam, {"lr": 0.02}),
    (optim.AdamW, {"lr": 0.1, "weight_decay": 2.0}),
]
DRIFT = 3.0


@pytest.mark.parametrize(("base", "options"), BASES)
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_base_is_unstable_on_the_perturbed_hessian(
    base: Any, options: dict[str, Any], adaptive: bool, seed: int
) -> None:
    """A gradient of fixed length in a direction without curvature; SAM's own steps, the curvature bisected."""
    torch.manual_seed(seed)
    tensors = draw_tensors()
    groups = [{"params": tensors[:2]}, {"params": tensors[2:], "rho": 0.5, "lr": options["lr"] / 2}]
    optimizer = SAM(groups, base, rho=0.2, adaptive=adaptive, **options)
    train(tensors, [optimizer.base], 5, seed)
    settle(tensors, [optimizer.base])
    still = 2
    H = torch.zeros(13, 13, dtype=torch.float64)
    H[:-still, :-still] = positive(13 - still, seed)
    drift = torch.zeros(13, dtype=torch.float64)
    drift[-still:] = DRIFT
    if adaptive:  # around a point that is not zero, where w^2 is frozen
        at = torch.rand(13, dtype=torch.float64) + 0.5
        with torch.no_grad():
            for t, values in zip(tensors, at.split([t.numel() for t in tensors]), strict=True):
                t.copy_(values.view(t.shape))
    here = flat(tensors)

    def matrix(scale: float) -> Tensor:
        """The map of one step of SAM, two gradients of it, on scale H around this point, with the drift."""
        pull = drift - scale * H @ here

        def perturb() -> None:
            optimizer.first_step()
            give(tensors, scale * H @ flat(tensors) + pull)

        return step_matrix(tensors, [optimizer], scale * H, drift=pull, still=still, before_step=perturb)

    constant, one, two = matrix(0.0), matrix(1.0), matrix(2.0)  # a quadratic function of the scale
    square = (two - 2 * one + constant) / 2
    slope = one - constant - square
    torch.testing.assert_close(matrix(3.0), constant + 3 * slope + 9 * square, rtol=1e-5, atol=1e-5)
    critical = edge_of(lambda scale: radius(constant + scale * slope + scale**2 * square))
    rule = rule_for(optimizer, tensors)
    identity = torch.eye(13, dtype=torch.float64)
    effective = rule.effective(from_matrix(critical * H), gradient=drift) @ identity
    metric = rule.metric(drift)
    whitened = metric.inverse_root(metric.inverse_root(effective).T)
    moving = slice(0, 13 - still)
    assert float(torch.linalg.eigvalsh(whitened[moving, moving])[-1]) / rule.threshold().value == pytest.approx(
        1, abs=1e-6
    )


def sam_step(optimizer: Any, w: Tensor, h: float) -> None:
    for step in (optimizer.first_step, optimizer.step):
        w.grad = h * w.detach()
        step()


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.5}])
@pytest.mark.parametrize("rho", [0.05, 0.5])
@pytest.mark.parametrize("length", [0.01, 1.0, 30.0])
def test_at_the_threshold_there_is_an_orbit_of_period_two(options: dict[str, Any], rho: float, length: float) -> None:
    """On h w^2 / 2, h the threshold where the gradient has this length, SAM goes to and fro between w and -w."""
    start = torch.zeros(1, dtype=torch.float64)
    w = start.clone().requires_grad_()
    optimizer = SAM([w], optim.SGD, lr=0.1, rho=rho, **options)
    threshold = rule_for(optimizer, [w]).threshold()
    h = threshold.at(torch.tensor([length], dtype=torch.float64))
    assert 0 < h < threshold.value
    with torch.no_grad():
        w.fill_(length / h)
    if options:  # the buffer alternates as the gradient at the perturbed weights does
        optimizer.state[w]["momentum_buffer"] = -h * (w.detach() + rho) / (1 + options["momentum"])
    start = w.detach().clone()
    for _ in range(3):
        sam_step(optimizer, w, h)
        torch.testing.assert_close(w.detach(), -start, rtol=1e-9, atol=0)
        start = w.detach().clone()


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_without_momentum_it_settles_on_that_orbit(share: float) -> None:
    """Below 2/eta, too, where gradient descent converges."""
    w = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = SAM([w], optim.SGD, lr=0.1, rho=0.1)
    threshold = rule_for(optimizer, [w]).threshold()
    h = share * threshold.value
    for _ in range(2000):
        sam_step(optimizer, w, h)
    assert threshold.at(h * w.detach()) == pytest.approx(h, rel=1e-9)
    assert threshold.at(torch.zeros(1)) == threshold.value


def one(**options: Any) -> tuple[Any, list[Tensor]]:
    tensors = [torch.ones(shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES]
    return SAM(tensors, **options), tensors


def test_its_formula_is_that_of_the_paper() -> None:
    optimizer, tensors = one(lr=0.2, rho=0.05)
    threshold = rule_for(optimizer, tensors).threshold()
    gradient = torch.full((13,), 0.3, dtype=torch.float64)
    length, rho, eta = float(gradient.norm()), 0.05, 0.2
    expected = length / (2 * rho) * (math.sqrt(1 + 8 * rho / (eta * length)) - 1)
    assert threshold.at(gradient) == pytest.approx(expected, rel=1e-12)
    assert threshold.formula == "2/η, of H + (ρ/‖g‖)H²"


@pytest.mark.parametrize(
    ("options", "ask", "names"),
    [
        (
            {"base": optim.Adam, "lr": 0.1},
            lambda r: r.threshold().at(torch.ones(13)),
            "not one of the largest eigenvalue",
        ),
        ({"lr": 0.1, "adaptive": True}, lambda r: r.threshold().at(torch.ones(13)), "not one of the largest"),
        ({"lr": 0.1}, lambda r: r.effective(from_matrix(torch.eye(13))), "depends on the gradient"),
        ({"lr": 0.1}, lambda r: update_jacobian(r, Thirteen()), "of a step of 2 gradients"),
    ],
)
def test_what_is_not_known_says_so(options: dict[str, Any], ask: Any, names: str) -> None:
    optimizer, tensors = one(**options)
    rule = rule_for(optimizer, tensors)
    with pytest.raises(NotKnownError, match=names) as caught:
        ask(rule)
    assert "\n" not in str(caught.value)


class Thirteen:
    size = 13

    def parameters(self) -> Tensor:
        return torch.ones(13)

    gradient = parameters

    def hvp(self, V: Tensor) -> Tensor:
        return V


def test_beside_other_optimizers_it_is_not_known() -> None:
    tensors = [torch.ones(shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES]
    for optimizers in ([SAM(tensors[:2], lr=0.1), optim.SGD(tensors[2:], lr=0.1)], SAM(tensors[:2], lr=0.1)):
        with pytest.raises(NotKnownError, match="SAM is not known where it does not hold all parameters"):
            rule_for(optimizers, tensors).threshold()


class FromElsewhere(optim.Optimizer):
    """As in widely copied files: the base is ``base_optimizer``, and the groups are shared."""

    def __init__(self, params: Any, base: Any, rho: float = 0.05, adaptive: bool = False, **options: Any) -> None:
        super().__init__(params, {"rho": rho, "adaptive": adaptive, **options})
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups


def test_a_sam_from_elsewhere_is_known_by_its_name() -> None:
    tensors = [torch.ones(shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES]
    kind: Any = type("SAM", (FromElsewhere,), {})
    threshold = rule_for(kind(tensors, optim.SGD, lr=0.1, momentum=0.9), tensors).threshold()
    assert (threshold.value, threshold.radius) == (pytest.approx(38), 0.05)
