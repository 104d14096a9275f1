"""``update`` and ``state`` of every rule against torch.optim itself; what is not known, and what is wrong."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import (
    ASGD,
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Muon,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
)

from edgescope.errors import EdgescopeError, InputError, NotKnownError
from edgescope.linalg.operator import from_matrix
from edgescope.optim import rule_for
from edgescope.optim.sgd import SGDRule

CASES: list[tuple[type[torch.optim.Optimizer], dict[str, Any], dict[str, Any]]] = [
    # optimizer, its options, and what the second parameter group has instead
    (SGD, {"lr": 0.1}, {"lr": 0.02}),
    (SGD, {"lr": 0.1, "weight_decay": 0.3}, {"weight_decay": 0.0}),
    (SGD, {"lr": 0.1, "momentum": 0.9}, {"momentum": 0.0}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.2}, {"dampening": 0.0}),
    (SGD, {"lr": 0.1, "momentum": 0.3, "nesterov": True}, {"lr": 0.02, "momentum": 0.9}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, {"nesterov": False}),
    (RMSprop, {"lr": 0.01}, {"lr": 0.1, "alpha": 0.5}),
    (RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.9}, {"centered": False}),
    (RMSprop, {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-2, "momentum": 0.5}, {"momentum": 0}),
    (Adam, {"lr": 0.01}, {"lr": 0.1, "betas": (0.5, 0.7)}),
    (Adam, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.2}, {"amsgrad": False}),
    (Adam, {"lr": 0.01, "betas": (0.0, 0.9), "eps": 1e-2}, {"eps": 1e-8}),
    (AdamW, {"lr": 0.01, "weight_decay": 0.5}, {"weight_decay": 0.0}),
    (AdamW, {"lr": torch.tensor(0.01, dtype=torch.float64), "amsgrad": True, "betas": (0.3, 0.9)}, {"lr": 0.1}),
    (Muon, {"lr": 0.02}, {"lr": 0.1, "weight_decay": 0.0}),
    (Muon, {"lr": 0.02, "nesterov": False, "momentum": 0.5}, {"nesterov": True, "ns_steps": 3}),
    (Muon, {"lr": 0.02, "adjust_lr_fn": "match_rms_adamw"}, {"adjust_lr_fn": "original"}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2, "maximize": True}, {"momentum": 0.0}),
    (RMSprop, {"lr": 0.01, "centered": True, "maximize": True}, {"maximize": False}),
    (Adam, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.2, "maximize": True}, {"amsgrad": False}),
    (NAdam, {"lr": 0.01}, {"lr": 0.1, "betas": (0.5, 0.7)}),
    (NAdam, {"lr": 0.01, "weight_decay": 0.2, "momentum_decay": 0.3, "eps": 1e-2}, {"maximize": True}),
    (NAdam, {"lr": 0.01, "weight_decay": 0.5, "decoupled_weight_decay": True}, {"weight_decay": 0.0}),
    (RAdam, {"lr": 0.01}, {"lr": 0.1, "betas": (0.5, 0.7)}),
    (RAdam, {"lr": 0.01, "weight_decay": 0.2, "eps": 1e-2}, {"decoupled_weight_decay": True, "maximize": True}),
    (Adamax, {"lr": 0.01}, {"lr": 0.1, "betas": (0.5, 0.7)}),
    (Adamax, {"lr": 0.01, "weight_decay": 0.2, "eps": 1e-2, "maximize": True}, {"maximize": False}),
    (Adagrad, {"lr": 0.1}, {"lr_decay": 0.3}),
    (Adagrad, {"lr": 0.1, "weight_decay": 0.2, "initial_accumulator_value": 0.5, "maximize": True}, {"eps": 0.1}),
    (Adadelta, {"lr": 1.0}, {"rho": 0.5, "eps": 1e-3}),
    (Adadelta, {"lr": 0.5, "weight_decay": 0.2, "maximize": True}, {"rho": 0.0}),
    (Adafactor, {"lr": 0.02}, {"lr": 0.3, "d": 2.0}),
    (Adafactor, {"lr": 0.5, "weight_decay": 0.3, "eps": (1e-2, 0.5), "maximize": True}, {"beta2_decay": -0.5}),
    (ASGD, {"lr": 0.1}, {"lr": 0.3, "lambd": 0.2, "alpha": 0.5}),
    (ASGD, {"lr": 0.1, "t0": 5, "weight_decay": 0.1, "maximize": True}, {"t0": 20.0}),
    (Rprop, {"lr": 0.1}, {"lr": 0.01, "etas": (0.3, 2.0)}),
    (Rprop, {"lr": 0.1, "step_sizes": (1e-2, 0.3), "maximize": True}, {"maximize": False}),
]
CAPTURABLE = [case for case in CASES if case[0] in (Adam, AdamW, NAdam, RAdam, Adamax, Adadelta, ASGD, RMSprop, Rprop)]


def make(kind: type, options: dict[str, Any], other: dict[str, Any]) -> tuple[torch.optim.Optimizer, list[Tensor]]:
    shapes = [(3, 4), (5, 2), (4, 1)] if kind is Muon else [(3, 4), (5,), (2, 3, 2)]
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    return kind([{"params": [tensors[0], tensors[2]]}, {"params": [tensors[1]], **other}], **options), tensors


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


@pytest.fixture
def exact_numbers() -> Iterator[None]:
    """torch keeps numbers such as NAdam's product of momenta in its default precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("kind", "options", "other"), CASES)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.usefixtures("exact_muon", "exact_numbers")
def test_update_is_what_torch_does(kind: type, options: dict[str, Any], other: dict[str, Any], seed: int) -> None:
    torch.manual_seed(seed)
    compare_with_torch(*make(kind, options, other))


FUSED = [case for case in CASES if case[0] in (SGD, Adam, AdamW, Adagrad)]
VARIANTS = [
    *(({"foreach": True}, *case) for case in CASES if case[0] is not Muon),
    *(({"fused": True}, *case) for case in FUSED if not isinstance(case[1]["lr"], Tensor)),
    *(({"capturable": True}, *case) for case in CAPTURABLE if not isinstance(case[1]["lr"], Tensor)),
]


@pytest.mark.parametrize(("variant", "kind", "options", "other"), VARIANTS)
@pytest.mark.usefixtures("exact_numbers")
def test_variants_of_an_implementation_step_alike(
    variant: dict[str, bool],
    kind: type,
    options: dict[str, Any],
    other: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch's capturable code, which is for accelerators, is told here that the CPU is one."""
    module = importlib.import_module("torch.optim.adam" if kind is AdamW else kind.__module__)
    if "capturable" in variant:
        monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda *_, **__: ["cpu"])
    if "foreach" in variant and isinstance(options["lr"], Tensor):
        options = options | {"lr": float(options["lr"])}
    torch.manual_seed(0)
    compare_with_torch(*make(kind, options | variant, other))


def compare_with_torch(optimizer: torch.optim.Optimizer, tensors: list[Tensor]) -> None:
    rule = rule_for(optimizer, tensors)
    w, state = flat(tensors), rule.state()
    for step in range(25):
        for tensor in tensors:
            tensor.grad = torch.randn_like(tensor) * 10.0 ** (step % 3 - 1)
        if step == 12:  # a scheduler changes the live rate
            optimizer.param_groups[0]["lr"] = 0.5 * float(optimizer.param_groups[0]["lr"])
        w, state = rule.update(w, state, flat([t.grad for t in tensors]))
        optimizer.step()
        torch.testing.assert_close(w, flat(tensors), rtol=0, atol=1e-12)
        live = rule.state()
        assert set(live) == set(state)
        for name in set(live) - {"step", "rate"}:  # SGD counts no steps, Adafactor keeps no rate
            torch.testing.assert_close(state[name], live[name], rtol=1e-13, atol=1e-13)
        w, state = flat(tensors), live  # what was read is enough to go on from


def test_muon_agrees_with_torchs_bfloat16() -> None:
    torch.manual_seed(0)
    optimizer, tensors = make(Muon, {"lr": 1.0, "weight_decay": 0.0}, {})
    rule = rule_for(optimizer, tensors)
    before = flat(tensors)
    for tensor in tensors:
        tensor.grad = torch.randn_like(tensor)
    ours = rule.update(before, rule.state(), flat([t.grad for t in tensors]))[0] - before
    optimizer.step()
    theirs = flat(tensors) - before
    assert float((ours - theirs).norm()) < 2e-2 * float(theirs.norm())


def test_reading_leaves_the_optimizer_as_it_was() -> None:
    torch.manual_seed(0)
    optimizer, tensors = make(Adam, {"lr": 0.1}, {})
    rule = rule_for(optimizer, tensors)
    rule.state()
    rule.metric(torch.ones(29, dtype=torch.float64))
    assert len(optimizer.state) == 0


def test_frozen_tensors_in_the_optimizer_are_no_fault() -> None:
    tensor, frozen = torch.ones(3, requires_grad=True), torch.ones(2)
    assert rule_for(SGD([tensor, frozen], lr=0.1), [tensor]).threshold().value == pytest.approx(20)


def test_coupled_decay_is_added_to_the_operator_and_nothing_else_is() -> None:
    a, b = (
        torch.ones(2, dtype=torch.float64, requires_grad=True),
        torch.ones(1, dtype=torch.float64, requires_grad=True),
    )
    H = from_matrix(torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)))
    optimizer = SGD([{"params": [b]}, {"params": [a], "weight_decay": 0.5}], lr=0.1)
    shifted = rule_for(optimizer, [a, b]).effective(H)
    torch.testing.assert_close(shifted @ torch.eye(3).double(), torch.diag(torch.tensor([1.5, 2.5, 3.0]).double()))
    assert (shifted.products, H.products) == (3, 3)
    assert rule_for(AdamW([a, b], weight_decay=0.5), [a, b]).effective(H) is H


class Unheard(torch.optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {})


class MySGD(SGD):
    def step(self, closure: Any = None) -> None:
        raise NotImplementedError


def one() -> Tensor:
    return torch.ones(2, 2, requires_grad=True)


def with_option(optimizer: torch.optim.Optimizer, name: str, value: Any) -> torch.optim.Optimizer:
    """As a later version of torch may have it: a further argument of the constructor."""
    optimizer.defaults[name] = optimizer.param_groups[0][name] = value
    return optimizer


def without_gradient(optimizer: torch.optim.Optimizer, p: Tensor) -> torch.optim.Optimizer:
    p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def test_what_users_and_schedulers_add_to_a_group_is_no_option() -> None:
    p = one()
    optimizer = NAdam([{"params": [p], "name": "head", "initial_lr": 0.1}], lr=0.1)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=5)
    optimizer.param_groups[0]["lr"] = 0.1
    assert rule_for(optimizer, [p]).threshold().value > 0
    assert rule_for(with_option(NAdam([p], lr=0.1), "cautious", False), [p]).threshold().value > 0


NOT_KNOWN = [
    (lambda p: rule_for(Unheard([p]), [p]), "Unheard"),
    (lambda p: rule_for(MySGD([p]), [p]), "MySGD"),
    (lambda p: rule_for(torch.optim.LBFGS([p]), [p]), "LBFGS: its step is found by a line search"),
    (lambda p: rule_for(torch.optim.SparseAdam([p]), [p]), "SparseAdam: it steps only the rows"),
    (
        lambda p: rule_for(Rprop([p]), [p]).threshold(),
        "the threshold of Rprop is not known: every entry has a step size",
    ),
    (lambda p: rule_for(Rprop([p]), [p]).metric(torch.ones(4)), "the threshold of Rprop is not known"),
    (lambda p: rule_for(Rprop([p]), [p]).threshold(), "try the measure headroom"),
    (lambda p: rule_for(Adafactor([p]), [p]).metric(), "before its first step"),
    (lambda p: rule_for(Adadelta([p]), [p]).metric(), "before its first step"),
    (lambda p: rule_for(without_gradient(Adafactor([p]), p), [p]).metric(), "depends on the gradient of the step"),
    (lambda p: rule_for(with_option(NAdam([p]), "cautious", True), [p]), "NAdam with the option cautious is not known"),
    (lambda p: rule_for(with_option(Adagrad([p]), "mode", "fast"), [p]), "Adagrad with the option mode is not known"),
    (lambda p: rule_for(Adam([p], differentiable=True), [p]), "differentiable"),
    (lambda p: rule_for(Adam([p]), [p]).metric(), "before its first step"),
    (lambda p: rule_for(RMSprop([p]), [p]).metric(), "before its first step"),
    (lambda p: rule_for(Muon([p]), [p]).metric(), "before its first step"),
    (lambda p: rule_for(SGD([p], momentum=0.5, dampening=1.0), [p]).threshold(), "dampening"),
    (
        lambda p: rule_for(Muon([p], ns_coefficients=(1.0, -2.0, 0.0)), [p]).metric(torch.ones(4)),
        "ns_coefficients=(1.0, -2.0, 0.0)",
    ),
]


@pytest.mark.parametrize(("ask", "names"), NOT_KNOWN)
def test_what_is_not_known_says_so(ask: Any, names: str) -> None:
    check_line(NotKnownError, ask, names)


def live_lr(lr: float, kind: type = SGD, **options: Any) -> Any:
    def ask(p: Tensor) -> None:
        optimizer = kind([p], lr=0.1, **options)
        optimizer.param_groups[0]["lr"] = lr
        rule_for(optimizer, [p]).threshold()

    return ask


@pytest.mark.parametrize(
    ("ask", "names"),
    [
        (lambda p: SGDRule(SGD([p]), [p, one()]), "parameter 1 of the rule, of shape (2, 2), is not in the optimizer"),
        (live_lr(-0.1), "learning rate of -0.1"),
        (live_lr(float("inf")), "learning rate of inf"),
        (live_lr(float("nan"), Adam), "learning rate of nan"),
        (live_lr(0.1, momentum=1.5), "momentum of 1.5"),
    ],
)
def test_bad_input_is_one_line(ask: Any, names: str) -> None:
    check_line(InputError, ask, names)


def test_a_decay_that_lets_the_weights_grow_leaves_no_threshold() -> None:
    check_line(NotKnownError, live_lr(5.0, AdamW, weight_decay=0.5), "times weight decay is 2.5")


def check_line(kind: type[EdgescopeError], ask: Any, names: str) -> None:
    with pytest.raises(kind) as caught:
        ask(one())
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)
