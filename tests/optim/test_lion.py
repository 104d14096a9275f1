"""Lion: its steps as the paper writes them, its state, its rule, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgescope.errors import InputError, NotKnownError
from edgescope.optim import Lion, rule_for


def tensors() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 2), (4,))]


def test_steps_are_those_of_the_paper() -> None:
    (w, b), draws = tensors(), torch.Generator().manual_seed(1)
    optimizer = Lion([{"params": [w], "lr": 0.1}, {"params": [b], "betas": (0.5, 0.8)}], lr=0.2, weight_decay=0.3)
    expected = {w: (w.detach().clone(), 0.1, 0.9, 0.99), b: (b.detach().clone(), 0.2, 0.5, 0.8)}
    averages = {p: torch.zeros_like(p) for p in expected}
    for _ in range(5):
        for p in expected:
            p.grad = torch.randn(p.shape, dtype=torch.float64, generator=draws)
        optimizer.step()
        for p, (value, lr, b1, b2) in expected.items():
            step = torch.sign(b1 * averages[p] + (1 - b1) * p.grad)
            averages[p] = b2 * averages[p] + (1 - b2) * p.grad
            expected[p] = value - lr * (step + 0.3 * value), lr, b1, b2
    for p, (value, *_) in expected.items():
        torch.testing.assert_close(p.detach(), value)
        torch.testing.assert_close(optimizer.state[p]["exp_avg"], averages[p])


def test_an_entry_without_gradients_is_only_decayed_and_a_tensor_without_one_stays() -> None:
    w, b = tensors()
    before = w.detach().clone(), b.detach().clone()
    optimizer = Lion([w, b], lr=0.1, weight_decay=0.5)
    w.grad = torch.zeros_like(w)
    optimizer.step()
    torch.testing.assert_close(w.detach(), 0.95 * before[0])
    assert torch.equal(b, before[1])


def test_its_rule_is_that_of_lion_and_has_no_threshold() -> None:
    own, draws = tensors(), torch.Generator().manual_seed(2)
    optimizer = Lion(own, lr=0.1, weight_decay=0.2)
    for _ in range(3):
        for p in own:
            p.grad = torch.randn(p.shape, dtype=torch.float64, generator=draws)
        rule = rule_for(optimizer, own)
        w, gradient = (
            torch.cat([x.flatten() for x in xs]) for xs in ([p.detach() for p in own], [p.grad for p in own])
        )
        expected, state = rule.update(w, rule.state(), gradient)
        optimizer.step()
        torch.testing.assert_close(torch.cat([p.detach().flatten() for p in own]), expected)
        torch.testing.assert_close(rule.state()["exp_avg"], state["exp_avg"])
    with pytest.raises(NotKnownError, match="threshold of Lion is not known"):
        rule_for(optimizer, own).threshold()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": -1.0}, "Lion with lr=-1"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"betas": (0.9,)}, "betas"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
    ],
)
def test_options_that_mean_nothing_are_refused_in_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Lion(tensors(), **options)
    assert "\n" not in str(caught.value)


def test_the_closure_computes_the_loss_before_the_step() -> None:
    w, _ = tensors()
    optimizer = Lion([w], lr=0.1)

    def closure() -> torch.Tensor:
        loss = w.square().sum()
        loss.backward()
        return loss

    before = w.square().sum().item()
    assert optimizer.step(closure).item() == before
    assert w.square().sum().item() != before
