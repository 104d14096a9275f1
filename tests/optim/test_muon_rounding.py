"""How far torch's bfloat16 moves a step of Muon: the share that the rule states, beside steps that torch takes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgescope.optim import rule_for

DTYPES = [torch.float32, torch.float64]


def matrix(shape: tuple[int, int], rank: int, decades: float, seed: int) -> Tensor:
    """A random matrix of this rank, whose singular values fall by so many decades."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(shape[0], rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, shape[1], generator=generator, dtype=torch.float64)
    return left * 10 ** torch.linspace(0, -decades, rank, dtype=torch.float64) @ right


def deviation(optimizer: torch.optim.Muon, tensors: list[Tensor], gradients: list[Tensor]) -> tuple[float, float]:
    """The share that the rule states of a step on these gradients, and by what share torch's own step was off."""
    rule = rule_for(optimizer, tensors)
    state, flat = rule.state(), torch.cat([g.flatten() for g in gradients])
    before = torch.cat([t.detach().double().flatten() for t in tensors])
    stated = rule.rounding(state, flat)
    exact = rule.update(before, {name: value.double() for name, value in state.items()}, flat)[0] - before
    for tensor, gradient in zip(tensors, gradients, strict=True):
        tensor.grad = gradient.to(tensor.dtype)
    optimizer.step()
    taken = torch.cat([t.detach().double().flatten() for t in tensors]) - before
    return stated, float((taken - exact).norm() / exact.norm())


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3),
    ranks=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    decades=st.floats(0, 4),
    steps=st.integers(0, 3),
    nesterov=st.booleans(),
    adjust=st.sampled_from(["original", "match_rms_adamw"]),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 10_000),
)
def test_the_share_is_what_the_step_of_torch_is_off_by(
    shapes: list[tuple[int, int]],
    ranks: list[int],
    decades: float,
    steps: int,
    nesterov: bool,
    adjust: str,
    dtype: torch.dtype,
    seed: int,
) -> None:
    tensors = [torch.zeros(shape, dtype=dtype, requires_grad=True) for shape in shapes]
    groups = [{"params": [t], "lr": 0.5 + i} for i, t in enumerate(tensors)]
    optimizer = torch.optim.Muon(groups, weight_decay=0.0, nesterov=nesterov, adjust_lr_fn=adjust)
    for step in range(steps + 1):
        gradients = [
            matrix(shape, min(rank, *shape), decades, seed + 100 * step + i).to(dtype).double()
            for i, (shape, rank) in enumerate(zip(shapes, ranks, strict=False))
        ]
        with torch.no_grad():
            for t in tensors:
                t.zero_()  # so that what is measured is the step, not the rounding of the parameters
        stated, off = deviation(optimizer, tensors, gradients)
        assert off == pytest.approx(stated, rel=0.02, abs=2e-3)


@pytest.mark.parametrize(("rank", "least", "most"), [(1, 0.3, 1.8), (2, 0.1, 1.0)])
def test_steps_of_low_rank_have_a_large_share(rank: int, least: float, most: float) -> None:
    """Of a step at cosine 0.98 it is 0.2."""
    for seed in range(10):
        assert least < share_of(matrix((6, 40), rank, 0.0, seed)) < most


def test_steps_with_singular_values_of_one_size_have_a_small_share() -> None:
    """None is below 6^(-1/2), so that five roundings of 2^-9 grow by no more than the iteration's slope there."""
    for seed in range(10):
        assert 1e-3 < share_of(torch.linalg.qr(matrix((40, 6), 6, 0.0, seed)).Q.T) < 0.04


def share_of(gradient: Tensor) -> float:
    t = torch.zeros(gradient.shape, requires_grad=True)
    rule = rule_for(torch.optim.Muon([t], lr=1.0), [t])
    return rule.rounding(rule.state(), gradient.flatten())


def test_only_the_optimizer_with_such_arithmetic_has_a_share() -> None:
    """Of several the largest; a gradient of zero, and a schedule that has come to a learning rate of 0, included."""
    first, second, third = (torch.zeros(4, 6, requires_grad=True) for _ in range(3))
    muon = torch.optim.Muon([first, third], lr=0.1)
    adam = torch.optim.Adam([second], lr=0.1)
    gradient = torch.cat([matrix((4, 6), 1, 0.0, seed).flatten() for seed in (0, 1, 2)])
    alone, both = rule_for(muon, [first, third]), rule_for([adam, muon], [first, second, third])
    own = alone.rounding(alone.state(), torch.cat([gradient[:24], gradient[48:]]))
    assert own > 0.1
    assert both.rounding(both.state(), gradient) == pytest.approx(own, rel=1e-9)
    other = rule_for(adam, [second])
    assert other.rounding(other.state(), gradient[24:48]) == 0
    assert alone.rounding(alone.state(), torch.zeros(48)) == 0
    muon.param_groups[0]["lr"] = 0.0
    assert alone.rounding(alone.state(), torch.cat([gradient[:24], gradient[48:]])) == pytest.approx(own, rel=1e-9)
