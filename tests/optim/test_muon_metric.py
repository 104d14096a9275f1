"""Muon's preconditioner: exactly what the iteration does, near the polar factor's, defined at deficient rank."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgescope.errors import InputError
from edgescope.optim import rule_for
from edgescope.optim.muon import OneSided

SHAPES = [(3, 5), (6, 2), (4, 4)]


def after_steps(seed: int, **options: float) -> tuple[torch.optim.Muon, list[Tensor], Tensor]:
    torch.manual_seed(seed)
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES]
    optimizer = torch.optim.Muon(tensors, lr=1.0, weight_decay=0.0, **options)
    for _ in range(3):
        for t in tensors:
            t.grad = torch.randn_like(t)
        optimizer.step()
    return optimizer, tensors, torch.randn(sum(t.numel() for t in tensors), dtype=torch.float64)


def inverse(metric: OneSided, vector: Tensor) -> Tensor:
    return metric.inverse_root(metric.inverse_root(vector[:, None]))[:, 0]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("adjust", [None, "match_rms_adamw"])
def test_inverse_metric_times_the_blend_is_the_step(seed: int, adjust: str | None) -> None:
    optimizer, tensors, gradient = after_steps(seed, momentum=0.9, adjust_lr_fn=adjust)
    rule = rule_for(optimizer, tensors)
    w = torch.cat([t.detach().flatten() for t in tensors])
    moved, state = rule.update(w, rule.state(), gradient)
    blend = 0.1 * gradient + 0.9 * state["momentum_buffer"]
    torch.testing.assert_close(w - moved, inverse(rule.metric(gradient), blend), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_near_the_preconditioner_of_the_polar_factor(seed: int) -> None:
    """Without a gradient the buffer stands for the blend; (B B^T)^(1/2) within what five iterations do to 1."""
    optimizer, tensors, _ = after_steps(seed, momentum=0.5, nesterov=False)
    metric = rule_for(optimizer, tensors).metric()
    blocks = [t.numel() for t in tensors]
    dense = metric.root(metric.root(torch.eye(metric.size, dtype=torch.float64)))
    start = 0
    for t, numel in zip(tensors, blocks, strict=True):
        B = optimizer.state[t]["momentum_buffer"]
        rows, columns = B.shape
        gram = B @ B.T if rows <= columns else B.T @ B
        values, Q = torch.linalg.eigh(gram)
        polar = Q @ torch.diag(values.sqrt()) @ Q.T
        eye = torch.eye(max(rows, columns), dtype=torch.float64)
        full = torch.kron(polar, eye) if rows <= columns else torch.kron(eye, polar)
        full = full / max(1, rows / columns) ** 0.5
        ours = dense[start : start + numel, start : start + numel]
        ratios = torch.linalg.eigvals(torch.linalg.solve(ours, full)).real
        assert float(ratios.min()) > 0.68
        assert float(ratios.max()) < 1.21
        start += numel
    assert float(dense[:15, 15:].abs().max()) == 0


def test_root_and_inverse_root() -> None:
    optimizer, tensors, gradient = after_steps(0)
    metric = rule_for(optimizer, tensors).metric(gradient)
    identity = torch.eye(metric.size, dtype=torch.float64)
    torch.testing.assert_close(metric.inverse_root(metric.root(identity)), identity, rtol=0, atol=1e-10)
    torch.testing.assert_close(metric.root(identity), metric.root(identity).T, rtol=0, atol=1e-12)
    assert metric.root(identity.float()).dtype == torch.float32


def test_deficient_rank_is_positive_with_the_gain_at_zero() -> None:
    t = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Muon([t], lr=1.0)
    u = torch.outer(torch.tensor([1.0, 2.0, 2.0]), torch.ones(4)).double()
    t.grad = u
    optimizer.step()
    metric = rule_for(optimizer, [t]).metric()
    dense = metric.root(metric.root(torch.eye(12, dtype=torch.float64)))
    values = torch.linalg.eigvalsh(dense)
    norm = 0.05 * float(u.norm())  # the buffer is (1 - mu) u
    torch.testing.assert_close(values[:8], torch.full((8,), norm / 3.4445**5, dtype=torch.float64), rtol=1e-9, atol=0)
    assert float(values[8]) > 100 * float(values[7])


def test_a_zero_buffer_is_positive() -> None:
    t = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Muon([t], lr=1.0)
    t.grad = torch.zeros_like(t)
    optimizer.step()
    dense = rule_for(optimizer, [t]).metric().root(torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(dense, torch.eye(4).double() * (1e-7 / 3.4445**5) ** 0.5)


def test_sides_that_are_not_positive_are_refused() -> None:
    with pytest.raises(InputError, match="not positive definite"):
        OneSided([torch.diag(torch.tensor([1.0, 0.0]))], [torch.Size((2, 3))])


def test_a_group_at_learning_rate_zero_is_constant() -> None:
    optimizer, tensors, gradient = after_steps(0)
    optimizer.param_groups[0]["params"] = [tensors[0], tensors[2]]
    optimizer.add_param_group({"params": [tensors[1]], "lr": 0.0})
    rule = rule_for(optimizer, tensors)
    metric, block = rule.metric(gradient), torch.ones(43, 2, dtype=torch.float64)
    for power in (metric.root, metric.inverse_root):
        result = power(block)
        assert float(result[15:27].abs().max()) == 0
        assert float(result[:15].abs().min()) > 0
        assert float(result[27:].abs().min()) > 0
