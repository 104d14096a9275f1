"""Optimizers that are known by the names of their classes: their steps, thresholds, state, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import other_packages as other
import pytest
import torch
from one_step import critical_scale, draw_tensors, flat, give, positive, ratio, settle, train, two_groups
from other_packages import of_package
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.optim import rule_for

SGDScheduleFree = of_package(other.ScheduleFree, "schedulefree.sgd_schedulefree", "SGDScheduleFree")
AdamWScheduleFree = of_package(other.ScheduleFreeAdamW, "schedulefree.adamw_schedulefree", "AdamWScheduleFree")
SuccessiveShampoo = of_package(other.Shampoo, "torch_optimizer.shampoo")
PlainShampoo = of_package(other.Shampoo, "pytorch_optimizer.optimizer.shampoo")
Adam8bit = of_package(other.Adam8bit, "bitsandbytes.optim.adam")
AdamLowBit = of_package(other.AdamLowBit, "torchao.optim.adam", "Adam8bit")

LINEAR: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    (SGDScheduleFree, {"lr": 0.3}, {"lr": 0.1}),
    (SGDScheduleFree, {"lr": 0.3, "momentum": 0.7, "weight_decay": 0.2, "warmup_steps": 20, "r": 1.0}, {}),
    (AdamWScheduleFree, {"lr": 0.05}, {"betas": (0.5, 0.9)}),
    (AdamWScheduleFree, {"lr": 0.05, "weight_decay": 0.3, "warmup_steps": 12, "r": 0.5}, {"lr": 0.2}),
    (other.SOAP, {"lr": 0.02}, {"betas": (0.5, 0.9)}),
    (other.SOAP, {"lr": 0.1, "weight_decay": 2.0, "correct_bias": False}, {"precondition_1d": True}),
    (other.SOAP, {"lr": 0.1, "max_precond_dim": 2}, {"lr": 0.02}),
    (SuccessiveShampoo, {"lr": 0.3, "epsilon": 0.1, "update_freq": 1, "weight_decay": 0.1}, {"lr": 0.1}),
    (PlainShampoo, {"lr": 0.3, "matrix_eps": 0.1, "weight_decouple": False, "fixed_decay": False}, {"lr": 0.1}),
]


@pytest.mark.parametrize(("kind", "options", "second"), LINEAR)
@pytest.mark.parametrize(("seed", "steps"), [(0, 2), (1, 7), (2, 30)])
def test_the_next_step_turns_unstable_where_the_ratio_is_one(
    kind: Any, options: dict[str, Any], second: dict[str, Any], seed: int, steps: int
) -> None:
    torch.manual_seed(seed)
    tensors = draw_tensors()
    optimizer = two_groups(kind, tensors, options, second)
    train(tensors, [optimizer], steps, seed)
    settle(tensors, [optimizer])
    H = positive(13, seed)
    critical = critical_scale(tensors, [optimizer], H)
    assert ratio(rule_for(optimizer, tensors), critical * H) == pytest.approx(1, abs=1e-6)


STEPPED = [
    *LINEAR,
    (other.Lion, {"lr": 0.1, "weight_decay": 0.1}, {"betas": (0.5, 0.6)}),
    (other.Signum, {"lr": 0.1, "weight_decay": 0.1}, {"momentum": 0.0}),
    (Adam8bit, {"lr": 0.1, "weight_decay": 0.1}, {"betas": (0.5, 0.6)}),
    (AdamLowBit, {"lr": 0.1, "weight_decay": 0.1}, {"lr": 0.3}),
    (AdamLowBit, {"lr": 0.1, "weight_decay": 0.1, "is_adamw": True}, {"lr": 0.3}),
]


@pytest.mark.parametrize(("kind", "options", "second"), STEPPED)
def test_update_is_what_they_do(kind: Any, options: dict[str, Any], second: dict[str, Any]) -> None:
    torch.manual_seed(0)
    tensors = draw_tensors()
    optimizer = two_groups(kind, tensors, options, second)
    for _ in range(12):
        gradient, rule = torch.randn(13, dtype=torch.float64), rule_for(optimizer, tensors)
        give(tensors, gradient)
        expected = rule.update(flat(tensors), rule.state(), gradient)[0]
        optimizer.step()
        torch.testing.assert_close(flat(tensors), expected, rtol=0, atol=1e-11)


def test_blocks_of_quantized_state_have_scales_of_their_own() -> None:
    torch.manual_seed(0)
    big = torch.randn(30, 20, dtype=torch.float64, requires_grad=True)  # three blocks, the last one shorter
    optimizer = Adam8bit([big], lr=0.1)
    for step in range(3):
        big.grad = torch.randn_like(big) * torch.logspace(0, step, 600).view(30, 20)
        optimizer.step()
    state = rule_for(optimizer, [big]).state()
    for name, number in (("exp_avg", 1), ("exp_avg_sq", 2)):
        torch.testing.assert_close(state[name], optimizer.kept(optimizer.state[big], number, big).detach().flatten())
    assert rule_for(optimizer, [big]).threshold().value == pytest.approx(380)
    optimizer.state[big]["absmax1"] = torch.ones(7)
    with pytest.raises(NotKnownError, match="quantized in 7 blocks of an unknown size"):
        rule_for(optimizer, [big]).state()


@pytest.mark.parametrize(("seed", "steps"), [(0, 1), (1, 7), (2, 30)])
def test_sophia_where_it_does_not_clip(seed: int, steps: int) -> None:
    torch.manual_seed(seed)
    tensors = draw_tensors()
    optimizer = two_groups(other.SophiaG, tensors, {"lr": 0.02, "weight_decay": 0.2}, {"betas": (0.5, 0.9)})
    for _ in range(steps):
        give(tensors, torch.randn(13, dtype=torch.float64))
        optimizer.update_hessian()
        optimizer.step()
    with pytest.raises(NotKnownError, match=r"given to step\(bs=...\) and kept nowhere.*param_groups"):
        rule_for(optimizer, tensors)
    for group in optimizer.param_groups:
        group["bs"] = 5.0
    rule, gradient = rule_for(optimizer, tensors), torch.randn(13, dtype=torch.float64)
    before, expected = flat(tensors), rule.update(flat(tensors), rule.state(), gradient)[0]
    give(tensors, gradient)
    optimizer.step()
    torch.testing.assert_close(flat(tensors), expected, rtol=0, atol=1e-12)
    assert bool(((flat(tensors) - before).abs() > 0.019).any())  # some entries are clipped to the learning rate
    settle(tensors, [optimizer])
    H = positive(13, seed)
    critical = critical_scale(tensors, [optimizer], H)
    assert ratio(rule, critical * H) == pytest.approx(1, abs=1e-6)
    assert "clipped" in rule.threshold().caveat


def test_signs_have_no_eigenvalue_threshold() -> None:
    p = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    for optimizer in (other.Lion([p], lr=0.1), other.Signum([p], lr=0.1)):
        rule = rule_for(optimizer, [p])
        for ask in (rule.threshold, rule.metric):
            with pytest.raises(
                NotKnownError, match="so that no eigenvalue decides on stability; try the measure headroom"
            ):
                ask()
    threshold = rule_for(other.Signum([p], lr=0.1, momentum=0.0, weight_decay=2.0), [p]).threshold()
    assert (threshold.value, threshold.normalized) == (pytest.approx(18), True)
    assert threshold.at(torch.tensor([1.0, -2.0, 0.0, 0.5], dtype=torch.float64)) == pytest.approx(18 * 3.5)
    mixed = two_groups(other.Signum, draw_tensors(), {"lr": 0.1, "momentum": 0.0}, {"lr": 0.2})
    with pytest.raises(NotKnownError, match="where learning rates differ"):
        rule_for(mixed, [*mixed.param_groups[0]["params"], *mixed.param_groups[1]["params"]]).threshold()


@pytest.mark.parametrize("beta", [0.5, 0.9])
@pytest.mark.parametrize("k", [0, 1, 5, 10**6])
def test_schedule_free_in_closed_form(beta: float, k: int) -> None:
    p = torch.ones(2, requires_grad=True)
    optimizer = SGDScheduleFree([p], lr=0.1, momentum=beta)
    optimizer.param_groups[0].update(k=k, weight_sum=k * 0.01, lr_max=0.1)
    c, threshold = 1 / (k + 1), rule_for(optimizer, [p]).threshold()
    assert threshold.value == pytest.approx(2 * (2 - c) / (0.1 * ((1 - beta) * (2 - c) + beta * c)))
    if k > 10:
        assert threshold.value == pytest.approx(2 / (0.1 * (1 - beta)), rel=1e-4)


def evaluated(p: Tensor) -> Any:
    optimizer = SGDScheduleFree([p], lr=0.1)
    optimizer.param_groups[0]["train_mode"] = False
    return optimizer


REFUSED: list[tuple[Callable[[Tensor], Any], str]] = [
    (evaluated, "hold the average of SGDScheduleFree.*try measuring after optimizer.train"),
    (lambda p: SGDScheduleFree([p], lr=0.1, polyak=True), "SGDScheduleFree with the option polyak is not known"),
    (lambda p: of_package(other.ScheduleFree, "elsewhere", "SGDScheduleFree")([p], lr=0.1), "no update rule is known"),
    (lambda p: other.SOAP([p], lr=0.1, merge_dims=True), "SOAP with merge_dims=True"),
    (lambda p: other.SOAP([p], lr=0.1, normalize_grads=True), "SOAP with normalize_grads=True"),
    (lambda p: other.SOAP([p], lr=0.1, whiten=True), "SOAP with the option whiten is not known"),
    (lambda p: SuccessiveShampoo([p], lr=0.1, momentum=0.9, epsilon=1.0), "Shampoo with momentum"),
    (
        lambda p: PlainShampoo([p], lr=0.1, weight_decay=0.1, weight_decouple=True),
        "Shampoo with decoupled weight decay",
    ),
    (lambda p: other.Shampoo([p], lr=0.1), "no update rule is known for the optimizer Shampoo"),
    (lambda p: of_package(other.Lion, "x", "Signum")([p], lr=0.1), "this Signum, which has no option momentum"),
    (lambda p: other.Lion([p], lr=0.1, cautious=True), "Lion with the option cautious is not known"),
    (lambda p: of_package(other.Lion, "x", "DistributedShampoo")([p], lr=0.1), "are grafted onto those of another"),
]


@pytest.mark.parametrize(("make", "names"), REFUSED)
def test_what_is_not_known_says_why_in_one_line(make: Any, names: str) -> None:
    p = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(NotKnownError, match=names) as caught:
        rule_for(make(p), [p]).threshold()
    assert "\n" not in str(caught.value)


def test_before_the_first_step_nothing_is_known_of_a_kronecker_preconditioner() -> None:
    p = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    for optimizer in (other.SOAP([p], lr=0.1), PlainShampoo([p], lr=0.1, matrix_eps=0.1)):
        with pytest.raises(NotKnownError, match="before its first step"):
            rule_for(optimizer, [p]).metric()
