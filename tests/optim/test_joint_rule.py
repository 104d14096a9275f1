"""Several optimizers as one rule: its steps, state, metric and Jacobian, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from five_tensors import draw, flat, give_gradients
from flat_objective import Quadratic, tanh_network
from frozen import freeze, without_squares
from torch import Tensor
from torch.func import grad, jacrev

from edgescope.errors import InputError, NotKnownError
from edgescope.optim import JointRule, SteepestDescent, rule_for, update_jacobian

SGD, RMSprop, Adam, AdamW, Muon = (
    torch.optim.SGD,
    torch.optim.RMSprop,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Muon,
)
# torch's own forward mode uses a part of torch that it has deprecated, once, on import
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def muon_and_adamw(t: list[Tensor]) -> list[torch.optim.Optimizer]:
    matrices, vectors = [{"params": [t[2]]}, {"params": [t[0]]}], [{"params": [t[i]]} for i in (1, 4, 3)]
    return [Muon(matrices, lr=0.1), AdamW(vectors, lr=0.02, weight_decay=0.3)]


MIXES: list[Any] = [
    muon_and_adamw,
    lambda t: [AdamW(t[1:2], lr=0.02), Muon([t[0]], lr=0.1)],  # the rest is held by none
    lambda t: [SGD([t[4], t[1]], momentum=0.9, weight_decay=0.2), Adam([t[0], t[3]], amsgrad=True), RMSprop(t[2:3])],
    lambda t: [SGD(t[:3], lr=0.1), SGD(t[3:], lr=0.3, momentum=0.5, nesterov=True)],
    lambda t: [SteepestDescent(t[:2], lr=0.1, geometry="linf", momentum=0.5), Adam([t[2], t[4]])],
    lambda t: [Adam([t[4], t[0]], lr=0.1)],
]  # fmt: skip


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.usefixtures("exact_muon")
def test_update_is_what_the_optimizers_do(mix: Any, seed: int) -> None:
    tensors = draw(seed)
    optimizers = mix(tensors)
    rule = rule_for(optimizers, tensors)
    w, state = flat(tensors), rule.state()
    for step in range(8):
        w, state = rule.update(w, state, give_gradients(tensors, step))
        for optimizer in optimizers:
            optimizer.step()
        torch.testing.assert_close(w, flat(tensors), rtol=0, atol=1e-12)
        live = rule.state()
        assert set(live) == set(state)
        for name in set(live) - {"step"}:
            torch.testing.assert_close(state[name], live[name], rtol=1e-13, atol=1e-13)
        held = torch.tensor(rule.held)
        torch.testing.assert_close(state["step"][~held], torch.zeros(int((~held).sum()), dtype=torch.float64))
        w, state = flat(tensors), live


def stepped(mix: Any, seed: int = 0, steps: int = 3) -> tuple[JointRule, list[Tensor], list[torch.optim.Optimizer]]:
    tensors = draw(seed)
    optimizers = mix(tensors)
    for step in range(steps):
        give_gradients(tensors, step)
        for optimizer in optimizers:
            optimizer.step()
    rule = rule_for(optimizers, tensors)
    assert isinstance(rule, JointRule)
    return rule, tensors, optimizers


@pytest.mark.parametrize("with_gradient", [False, True])
def test_the_metric_is_that_of_each_optimizer_with_its_rates(with_gradient: bool) -> None:
    rule, tensors, _ = stepped(muon_and_adamw)
    gradient = torch.randn(30, dtype=torch.float64) if with_gradient else None
    identity = torch.eye(30, dtype=torch.float64)
    metric = rule.metric(gradient)
    dense, inverse = metric.root(metric.root(identity)), metric.inverse_root(metric.inverse_root(identity))
    torch.testing.assert_close(dense @ inverse, identity, rtol=0, atol=1e-9)
    assert metric.inverse_root(identity.float()).dtype == torch.float32
    places, start = [], 0
    for t in tensors:
        places.append(torch.arange(start, start + t.numel()))
        start += t.numel()
    # Muon: beta .95, Nesterov, decay .1; AdamW: beta .9
    gauges = (0.05 + 0.05 * 0.95 / 1.95, 0.1 / 1.9)
    for own, factor, members in zip(
        rule.rules, ((2 - 0.1 * 0.1) / 0.1, (2 - 0.02 * 0.3) / 0.02), ([0, 2], [1, 3, 4]), strict=True
    ):
        rows = torch.cat([places[i] for i in members])
        block = own.metric(None if gradient is None else gradient[rows])
        unit = torch.eye(len(rows), dtype=torch.float64)
        expected = block.root(block.root(unit)) * factor / gauges[members[0]]
        torch.testing.assert_close(dense[rows][:, rows], expected, rtol=1e-12, atol=1e-12)
        others = torch.tensor([j for j in range(30) if j not in rows.tolist()])
        assert float(dense[rows][:, others].abs().max()) == 0
    assert rule.threshold().value == 1
    assert "a heuristic" in rule.threshold().caveat
    assert rule.threshold().caveat in rule.threshold().formula


@pytest.mark.parametrize("share", [0.999, 1, 1.001])
def test_muon_and_adamw_with_their_preconditioners_frozen(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, tensors, _ = stepped(muon_and_adamw)
    gradient = torch.randn(30, dtype=torch.float64)
    metric, identity = rule.metric(gradient), torch.eye(30, dtype=torch.float64)
    A = torch.randn(30, 30, dtype=torch.float64)
    effective = A @ A.T + identity
    effective *= share / float(torch.linalg.eigvalsh(effective)[-1])
    H = metric.root(metric.root(effective).T)
    pieces = rule.split(gradient)
    for own, members in zip(rule.rules, ([0, 2], [1, 3, 4]), strict=True):
        freeze(own, flat([pieces[i] for i in members]), monkeypatch)
    eigenvalues = torch.linalg.eigvals(without_squares(update_jacobian(rule, Quadratic(H, tensors)), rule))
    if share == 1:
        assert float(eigenvalues.abs().max()) == pytest.approx(1, abs=1e-8)
        assert float((eigenvalues + 1).abs().min()) < 1e-8
    else:
        assert (float(eigenvalues.abs().max()) < 1) is (share < 1)


# The Jacobian.


def test_the_jacobian_has_only_what_moves() -> None:
    """Against jacrev of the whole update, with the rows and columns of what does not exist left out."""
    objective = tanh_network(0)
    first, second = objective.tensors
    optimizers = [SGD([second], lr=0.1, momentum=0.9), Adam([first], lr=0.01)]
    for _ in range(3):
        objective.write_gradients()
        for optimizer in optimizers:
            optimizer.step()
    rule = rule_for(optimizers, objective.tensors)
    jacobian, state = update_jacobian(rule, objective), rule.state()
    names = ("parameters", "momentum_buffer", "exp_avg", "exp_avg_sq")
    assert set(jacobian.names) == set(names)
    assert jacobian.size == 20 + 8 + 12 + 12

    def step(z: Tensor) -> Tensor:
        w, *pieces = z.split(20)
        given = dict(zip(jacobian.names[1:], pieces, strict=True)) | {"step": state["step"]}
        new, after = rule.update(w, given, grad(objective.loss_of)(w))
        return torch.cat([new, *(after[name] for name in jacobian.names[1:])])

    here = torch.cat([objective.parameters(), *(state[name] for name in jacobian.names[1:])])
    dense = jacrev(step)(here)
    of = {"parameters": range(20), "momentum_buffer": range(12, 20)}
    kept = torch.tensor([20 * k + i for k, name in enumerate(jacobian.names) for i in of.get(name, range(12))])
    ours = jacobian @ torch.eye(jacobian.size, dtype=torch.float64)
    torch.testing.assert_close(ours, dense[kept][:, kept], rtol=1e-9, atol=1e-10)
    vector = torch.randn(jacobian.size, dtype=torch.float64)
    torch.testing.assert_close(jacobian @ vector, ours @ vector, rtol=1e-9, atol=1e-9)


def test_constants_are_no_directions_of_the_dynamics() -> None:
    objective = tanh_network(1)
    rule = rule_for(SGD([objective.tensors[1]], lr=0.1, momentum=0.9), objective.tensors)
    jacobian = update_jacobian(rule, objective)
    assert jacobian.size == 16
    block = objective.hvp(torch.eye(20, dtype=torch.float64))[12:, 12:]
    dense = jacobian @ torch.eye(16, dtype=torch.float64)
    torch.testing.assert_close(dense[:8, :8], torch.eye(8, dtype=torch.float64) - 0.1 * block)


# What is not known, and what is wrong.


class Unheard(torch.optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {})


@pytest.mark.parametrize(
    ("second", "names"),
    [
        (Unheard, "optimizer 2 of 2, Unheard: no update rule is known"),
        (
            lambda t: SteepestDescent(t, lr=0.1, geometry="linf"),
            "optimizer 2 of 2, SteepestDescent: steepest descent in the geo",
        ),
        (
            lambda t: SteepestDescent(t, lr=0.1, normalized=True),
            "optimizer 2 of 2, SteepestDescent: the threshold of n",
        ),
        (
            lambda t: SGD(t, lr=0.1, momentum=0.5, dampening=1.0),
            "optimizer 2 of 2, SGD: no threshold is known where da",
        ),
        (lambda t: Adam(t, differentiable=True), "optimizer 2 of 2, Adam: the update rule of Adam with differentiable"),
        (torch.optim.Rprop, "optimizer 2 of 2, Rprop: the threshold of Rprop is not known"),
    ],
)
def test_an_optimizer_without_an_eigenvalue_is_named_and_the_others_serve(second: Any, names: str) -> None:
    tensors = draw(0)
    rule = rule_for([SGD(tensors[:2], lr=0.1), second(tensors[2:])], tensors)
    for ask in (rule.threshold, rule.metric):
        with pytest.raises(NotKnownError) as caught:
            ask()
        assert names in str(caught.value)
        assert "\n" not in str(caught.value)
    assert rule.rules[0].threshold().value == pytest.approx(20)
    assert [id(t) for t in rule.rules[0].tensors] == [id(t) for t in tensors[:2]]


def test_an_unknown_one_leaves_no_step_either() -> None:
    tensors = draw(0)
    rule = rule_for([SGD(tensors[:2], lr=0.1), Unheard(tensors[2:])], tensors)
    for ask in (rule.state, rule.shift, rule.layout):
        with pytest.raises(NotKnownError, match="Unheard"):
            ask()
    with pytest.raises(NotKnownError, match="Unheard"):
        rule_for([Unheard(tensors[:2]), Unheard(tensors[2:])], tensors)


def test_before_the_first_step_the_optimizer_is_named() -> None:
    tensors = draw(0)
    rule = rule_for([SGD(tensors[:2], lr=0.1), Adam(tensors[2:])], tensors)
    assert rule.threshold().value == 1
    with pytest.raises(NotKnownError, match=r"optimizer 2 of 2, Adam: .* before its first step"):
        rule.metric()
    assert rule.metric(torch.ones(30, dtype=torch.float64)) is not None


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (
            lambda t, p: [SGD(t[:3]), Adam(t[2:])],
            r"parameter 2 of the objective, of shape \(4, 2\), is in two optimizers",
        ),
        (lambda t, p: [SGD(t), Adam([p])], "Adam holds no parameter of the objective"),
        (lambda t, p: Adam([p]), "Adam holds no parameter of the objective"),
        (lambda t, p: [], "no optimizer in the list"),
        (lambda t, p: [SGD(t[:1]), "adam"], "an optimizer of type str"),
        (lambda t, p: [SGD(t[:2], lr=0.1), live(t[2:], -0.1)], "optimizer 2 of 2, SGD: a learning rate of -0.1"),
        (lambda t, p: [SGD(t[:2], lr=0.1), live(t[2:], math.nan)], "optimizer 2 of 2, SGD: a learning rate of nan"),
    ],
)
def test_bad_input_is_one_line(make: Any, names: str) -> None:
    tensors = draw(0)
    with pytest.raises(InputError, match=names) as caught:
        rule_for(make(tensors, torch.ones(2, requires_grad=True)), tensors).threshold()
    assert "\n" not in str(caught.value)


def live(tensors: list[Tensor], lr: float) -> torch.optim.Optimizer:
    optimizer = SGD(tensors, lr=0.1)
    optimizer.param_groups[0]["lr"] = lr
    return optimizer


def test_one_in_a_list_is_the_one() -> None:
    tensors = draw(0)
    optimizer = SGD(tensors, lr=0.1)
    rule = rule_for([optimizer], tensors)
    assert type(rule) is type(rule_for(optimizer, tensors))
    assert rule.rules == [rule]


def test_options_and_momenta_on_which_all_agree() -> None:
    tensors = draw(0)
    rule = rule_for([SGD(tensors[:2], lr=0.1), Adam(tensors[2:3], lr=0.1)], tensors)
    assert rule.option("lr") == 0.1
    with pytest.raises(NotKnownError, match=r"SGD \+ Adam has parameter groups with different momenta"):
        rule.momentum()
    assert rule.name == "SGD + Adam"
