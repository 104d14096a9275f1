"""The rule of steepest descent against its own steps, and its threshold on quadratics."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from flat_objective import Quadratic, tanh_network
from steepest_tensors import GEOMETRIES, SHAPES, draw, flat, give_gradients
from torch import Tensor
from torch.func import grad, jacrev

from edgescope.errors import NotKnownError
from edgescope.geometry import Diagonal, Euclidean, Linf, Scaled, as_geometry
from edgescope.linalg import from_matrix
from edgescope.optim import SteepestDescent, Threshold, rule_for, update_jacobian

# torch's own forward mode uses a part of torch that it has deprecated, once, on import
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

# The rule.

CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"geometry": "euclidean", "momentum": 0.9}, {"lr": 0.02, "momentum": 0.0}),
    ({"geometry": "linf", "weight_decay": 0.3}, {"weight_decay": 0.0}),
    ({"geometry": "blocks", "normalized": True, "momentum": 0.5}, {"lr": 0.01}),
    ({"geometry": "spectral", "momentum": 0.5}, {"geometry": "linf"}),
    ({"geometry": "spectral:polar=polar-express", "normalized": True}, {"lr": 0.5}),
    ({"geometry": Diagonal(torch.linspace(0.5, 3, 30))}, {}),
]


@pytest.mark.parametrize(("options", "other"), CASES)
def test_the_rule_is_what_the_optimizer_does(options: dict[str, Any], other: dict[str, Any]) -> None:
    tensors = draw()
    # the groups lie in another order than the tensors of the rule
    optimizer = SteepestDescent(
        [{"params": [tensors[3], tensors[0]]}, {"params": tensors[1:3], **other}], lr=0.1, **options
    )
    rule = rule_for(optimizer, tensors)
    w, state = flat(tensors), rule.state()
    for seed in range(4):
        g = give_gradients(tensors, seed)
        w, state = rule.update(w, state, g)
        optimizer.step()
        torch.testing.assert_close(w, flat(tensors), rtol=1e-11, atol=1e-12)
        live = rule.state()
        assert set(live) == set(state)
        if "momentum_buffer" in live:
            torch.testing.assert_close(state["momentum_buffer"], live["momentum_buffer"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("normalized", [False, True])
def test_the_jacobian_of_a_step(name: str, normalized: bool) -> None:
    objective = tanh_network(0)
    optimizer = SteepestDescent(objective.tensors, lr=0.1, geometry=name, normalized=normalized, momentum=0.5)
    objective.write_gradients()
    optimizer.step()
    rule = rule_for(optimizer, objective.tensors)
    jacobian, state = update_jacobian(rule, objective), rule.state()

    def step(z: Tensor) -> Tensor:
        given = {"momentum_buffer": z[20:], "step": state["step"]}
        new, after = rule.update(z[:20], given, grad(objective.loss_of)(z[:20]))
        return torch.cat([new, after["momentum_buffer"]])

    dense = jacrev(step)(torch.cat([objective.parameters(), state["momentum_buffer"]]))
    torch.testing.assert_close(jacobian @ torch.eye(40, dtype=torch.float64), dense, rtol=1e-7, atol=1e-8)


# The threshold.

LINE = [(2, 2), (3,)]


def positive(seed: int, size: int = 7) -> Tensor:
    A = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return A @ A.T / size


@cache
def maximiser(seed: int, name: str) -> Tensor:
    """Of d^T H d on the unit sphere, for H = positive(seed): the best fixpoint of d -> steepest(H d)."""
    H, geometry = positive(seed), as_geometry(name).bind(LINE)
    d = geometry.to_sphere(torch.randn(7, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    for _ in range(200):
        d = geometry.steepest(H @ d)
    return d[:, (d * (H @ d)).sum(0).argmax()]


@pytest.mark.parametrize("name", ["euclidean", "linf", "blocks", "spectral", "diagonal:log-uniform", "mixed"])
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.5, 2.0)])
@pytest.mark.parametrize("seed", [0, 1])
def test_below_the_threshold_the_maximisers_line_contracts_and_above_it_expands(
    name: str, momentum: float, decay: float, seed: int
) -> None:
    H, v = positive(seed), maximiser(seed, name)
    S = float(v @ H @ v)
    for factor, grows in ((0.9, False), (1.1, True)):
        tensors = draw(LINE)
        optimizer = SteepestDescent(tensors, lr=0.1, geometry=name, momentum=momentum, weight_decay=decay)
        threshold = rule_for(optimizer, tensors).threshold()
        assert threshold.value == pytest.approx((2 - 0.1 * decay) * (1 + momentum) / 0.1)
        assert not threshold.normalized
        assert threshold.at(torch.ones(7)) == threshold.value
        assert threshold.geometry == as_geometry(name).bind(LINE) or name.startswith("diagonal")
        objective = Quadratic(H * (factor * threshold.value / S), tensors)
        with torch.no_grad():
            for t, piece in zip(tensors, v.split([4, 3]), strict=True):
                t.copy_(piece.view(t.shape))
        for _ in range(80):
            objective.write_gradients()
            optimizer.step()
        assert (float(objective.loss()) > S) == grows


@pytest.mark.parametrize("name", ["linf", "spectral", "blocks", "euclidean"])
@pytest.mark.parametrize("decay", [0.0, 2.0])
def test_normalized_descent_alternates_at_its_threshold(name: str, decay: float) -> None:
    H, v = positive(2), maximiser(2, name)
    tensors = draw(LINE)
    optimizer = SteepestDescent(tensors, lr=0.1, geometry=name, normalized=True, weight_decay=decay)
    threshold = rule_for(optimizer, tensors).threshold()
    assert threshold.normalized
    objective = Quadratic(H, tensors)
    with torch.no_grad():
        for t, piece in zip(tensors, (v * 0.1 / (2 - 0.1 * decay)).split([4, 3]), strict=True):
            t.copy_(piece.view(t.shape))
    before, g = objective.parameters(), objective.gradient()
    assert threshold.at(g) == pytest.approx(float(v @ H @ v), rel=1e-9)
    objective.write_gradients()
    optimizer.step()
    torch.testing.assert_close(objective.parameters(), -before, rtol=1e-6, atol=1e-9)


def test_formulas_and_sources() -> None:
    def said(**options: Any) -> tuple[str, str]:
        tensors = draw()
        t = rule_for(SteepestDescent(tensors, lr=0.1, **options), tensors).threshold()
        return t.formula, t.source[:14]

    assert said() == ("2/η", "Cohen et al. 2")
    assert said(geometry="linf") == ("2/η", "Islamov et al.")
    assert said(geometry="spectral", momentum=0.9) == ("(2+2β)/η", "Islamov et al.")
    assert said(geometry="blocks", normalized=True) == (
        "2/η, of sharpness over dual gradient norm",
        "Islamov et al.",
    )
    assert said(geometry="linf", weight_decay=0.1) == ("(2-ηλ)/η", "Islamov et al.")


@pytest.mark.parametrize("name", ["euclidean", "diagonal:log-uniform"])
def test_where_sharpness_is_an_eigenvalue_both_ways_agree(name: str) -> None:
    """Rates that differ, too: the largest eigenvalue in metric() is the sharpness in the geometry of the threshold."""
    tensors, H = draw(), positive(3, 30)
    for groups in ([{"params": tensors}], [{"params": tensors[:2], "lr": 0.3}, {"params": tensors[2:]}]):
        rule = rule_for(SteepestDescent(groups, lr=0.1, geometry=name), tensors)
        threshold, metric = rule.threshold(), rule.metric()
        assert threshold.geometry is not None
        effective = H if metric is None else metric.inverse_root(metric.inverse_root(H).T)
        d = torch.ones(30, dtype=torch.float64)
        for _ in range(3000):
            d = threshold.geometry.steepest(H @ d)
        assert float(d @ H @ d) == pytest.approx(float(torch.linalg.eigvalsh(effective)[-1]), rel=1e-9)
        assert threshold.value == pytest.approx(20 if len(groups) == 1 else 1)
        assert isinstance(threshold.geometry, Diagonal | Euclidean)
        assert rule.effective(from_matrix(H)).size == 30


def test_normalized_euclidean_has_a_metric_for_a_gradient() -> None:
    tensors = draw()
    rule = rule_for(SteepestDescent(tensors, lr=0.1, normalized=True), tensors)
    metric = rule.metric(torch.full((30,), 2.0, dtype=torch.float64))
    assert metric is not None
    torch.testing.assert_close(metric.root(metric.root(torch.ones(30, 1))), torch.full((30, 1), 2 * 30**0.5))
    with pytest.raises(NotKnownError, match="without the gradient"):
        rule.metric()


def test_rates_that_differ_are_absorbed_in_the_geometry() -> None:
    tensors = draw()

    def threshold_of(normalized: bool) -> Threshold:
        groups = [{"params": tensors[:1], "lr": 0.4}, {"params": tensors[1:]}]
        optimizer = SteepestDescent(groups, lr=0.1, geometry="linf", normalized=normalized)
        return rule_for(optimizer, tensors).threshold()

    threshold = threshold_of(normalized=False)
    assert threshold.value == 2
    assert threshold.geometry == Scaled(Linf(), (math.sqrt(0.4), *[math.sqrt(0.1)] * 3)).bind(SHAPES)
    assert threshold.formula == "2, learning rates absorbed in the geometry"
    assert threshold_of(normalized=True).geometry == Scaled(Linf(), (0.4, 0.1, 0.1, 0.1)).bind(SHAPES)


@pytest.mark.parametrize(
    ("options", "ask", "names"),
    [
        (
            {"geometry": "linf", "normalized": True, "momentum": 0.9},
            "threshold",
            "normalized steepest descent with momentum",
        ),
        ({"geometry": "linf"}, "metric", "generalized sharpness"),
        ({"geometry": "mixed"}, "metric", "Mixed has no preconditioner"),
    ],
)
def test_what_is_not_known(options: dict[str, Any], ask: str, names: str) -> None:
    tensors = draw()
    with pytest.raises(NotKnownError) as caught:
        getattr(rule_for(SteepestDescent(tensors, lr=0.1, **options), tensors), ask)()
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)


def test_decays_that_differ_have_no_threshold() -> None:
    tensors = draw()
    groups = [{"params": tensors[:1], "weight_decay": 0.4}, {"params": tensors[1:]}]
    with pytest.raises(NotKnownError, match="weight decay differs"):
        rule_for(SteepestDescent(groups, lr=0.1, geometry="linf"), tensors).threshold()
