"""On a plateau of the training loss the headroom is 1, whatever the optimizer and whatever is done to its steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from edge_net import digits, full_batch_steps, network, objective_of
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

import edgescope as es
from edgescope.optim import SAM

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

Make = Callable[[nn.Module], Sequence[torch.optim.Optimizer]]


def muon_and_adamw(model: nn.Module) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    return [
        torch.optim.Muon(matrices, lr=0.02),
        torch.optim.AdamW([p for p in model.parameters() if p.ndim < 2], lr=0.01),
    ]


OPTIMIZERS: dict[str, tuple[Make, float | None]] = {
    # at rates at which there is a plateau, and the norm that gradients are clipped to
    "SGD": (lambda model: [torch.optim.SGD(model.parameters(), lr=0.8)], None),
    "Adam": (lambda model: [torch.optim.Adam(model.parameters(), lr=0.05)], None),
    "AdamW": (lambda model: [torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)], None),
    "RMSprop": (lambda model: [torch.optim.RMSprop(model.parameters(), lr=0.005)], None),
    "NAdam": (lambda model: [torch.optim.NAdam(model.parameters(), lr=0.01)], None),
    "SAM": (lambda model: [SAM(model.parameters(), torch.optim.SGD, lr=0.5, rho=0.05)], None),
    "clipped SGD": (lambda model: [torch.optim.SGD(model.parameters(), lr=2.0)], 0.05),
    "Muon and AdamW": (muon_and_adamw, None),
}


@pytest.mark.parametrize(
    "name", [name if name == "SGD" else pytest.param(name, marks=pytest.mark.slow) for name in OPTIMIZERS]
)
def test_headroom_is_1_on_a_plateau(name: str) -> None:
    make, clip = OPTIMIZERS[name]
    model, data = network(), digits()
    objective, optimizers = objective_of(model, data), make(model)

    def step(closure: Callable[[], Tensor]) -> None:
        if clip is not None:
            clip_grad_norm_(model.parameters(), clip)
        for optimizer in optimizers:
            optimizer.step(*([closure] if isinstance(optimizer, SAM) else []))

    values: list[float] = []
    passes: list[int] = []
    last: float | None = None
    for number, before, gradient in full_batch_steps(model, data, step, 1200):
        if number < 600 or number % 25 > 1:
            continue
        known: dict[str, Any] = {"gradient_w": gradient, "loss_w": objective.loss(before)}
        found = es.headroom(objective, before, objective.parameters() - before, start=last, **known)
        values.append(found.value)
        passes.append(found.cost.losses)
        last = found.value if math.isfinite(found.value) else last
    assert not np.isnan(values).any()
    assert np.median(values) == pytest.approx(1, abs=0.06)
    assert np.mean(passes) <= 3.2  # the loss at the end of the step included
