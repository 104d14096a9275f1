"""Means over samples are taken for what they are, whatever the network, its data and its batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from objective_problems import relative
from torch import Tensor, nn

from edgescope.objective import Objective

LossFunction = Callable[[nn.Module, Any], Tensor]


def ce(**options: Any) -> LossFunction:
    return lambda m, b: F.cross_entropy(m(b[0]), b[1], **options)


PLAIN: dict[str, LossFunction] = {
    "cross-entropy": ce(),
    "smoothed": ce(label_smoothing=0.1),
    "probabilities": lambda m, b: F.cross_entropy(m(b[0]), F.one_hot(b[1], 3).to(b[0].dtype)),
    "squared": lambda m, b: F.mse_loss(m(b[0]), F.one_hot(b[1], 3).to(b[0].dtype)),
    "absolute": lambda m, b: F.l1_loss(m(b[0]), F.one_hot(b[1], 3).to(b[0].dtype)),
    "binary": lambda m, b: F.binary_cross_entropy_with_logits(m(b[0]), F.one_hot(b[1], 3).to(b[0].dtype)),
}


@given(
    seed=st.integers(0, 10**6),
    loss=st.sampled_from(sorted(PLAIN)),
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    width=st.sampled_from([2, 8, 64]),
    scale=st.sampled_from([1e-2, 1.0, 20.0]),
    kinds=st.sampled_from([(torch.float32, None), (torch.float32, torch.float64), (torch.float64, None)]),
    in_order=st.booleans(),
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
def test_plain_losses_of_random_networks_are_never_suspected(
    seed: int, loss: str, sizes: list[int], width: int, scale: float, kinds: Any, in_order: bool
) -> None:
    torch.manual_seed(seed)
    kind, measured = kinds
    model = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3)).to(kind)
    x, y = scale * torch.randn(sum(sizes), 4, dtype=kind), torch.randint(3, (sum(sizes),))
    whole = (x, y.sort().values) if in_order else (x, y)
    objective = Objective(
        model,
        PLAIN[loss],
        list(zip(*(leaf.split(sizes) for leaf in whole), strict=True)),
        dtype=measured,
        path="rebuilt",
        threads=1,
    )
    assert list(objective.notices) == []
    with torch.no_grad():
        assert relative(objective.loss(), PLAIN[loss](model, whole)) < (1e-9 if kind == torch.float64 else 2e-5)
