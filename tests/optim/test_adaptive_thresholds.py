"""Thresholds of torch's optimizers: the curvature at which their own next step turns unstable, from their own state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from one_step import critical_scale, draw_tensors, positive, ratio, settle, train, two_groups
from torch import optim

from edgescope.optim import rule_for

CASES: list[tuple[type[torch.optim.Optimizer], dict[str, Any], dict[str, Any]]] = [
    # optimizer, its options, and what the second parameter group has instead
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "maximize": True}, {"nesterov": True}),
    (optim.Adam, {"lr": 0.02, "amsgrad": True, "weight_decay": 0.3}, {"amsgrad": False, "betas": (0.5, 0.9)}),
    (optim.Adam, {"lr": 0.02, "maximize": True, "weight_decay": 0.1}, {"lr": 0.05}),
    (optim.AdamW, {"lr": 0.02, "amsgrad": True, "weight_decay": 0.5, "maximize": True}, {"lr": 0.1}),
    (optim.NAdam, {"lr": 0.02}, {"betas": (0.5, 0.99)}),
    (optim.NAdam, {"lr": 0.02, "weight_decay": 0.3, "momentum_decay": 0.5}, {"betas": (0.0, 0.9), "lr": 0.1}),
    (optim.NAdam, {"lr": 0.05, "weight_decay": 0.9, "decoupled_weight_decay": True}, {"maximize": False}),
    (optim.RAdam, {"lr": 0.02}, {"betas": (0.5, 0.9)}),
    (optim.RAdam, {"lr": 0.02, "weight_decay": 0.3, "betas": (0.9, 0.8)}, {"lr": 0.1}),
    (optim.RAdam, {"lr": 0.02, "weight_decay": 0.8, "decoupled_weight_decay": True}, {"lr": 0.1}),
    (optim.Adamax, {"lr": 0.02}, {"betas": (0.5, 0.9)}),
    (optim.Adamax, {"lr": 0.02, "weight_decay": 0.3, "eps": 1e-2}, {"lr": 0.2, "betas": (0.0, 0.9)}),
    (optim.Adagrad, {"lr": 0.1}, {"lr": 0.3}),
    (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.3, "weight_decay": 0.2, "initial_accumulator_value": 0.5}, {"eps": 0.1}),
    (optim.Adadelta, {"lr": 1.0, "eps": 1e-3}, {"rho": 0.5}),
    (optim.Adadelta, {"lr": 0.5, "eps": 1e-2, "weight_decay": 0.2}, {"lr": 1.5}),
    (optim.Adafactor, {"lr": 0.02}, {"lr": 0.1}),
    (optim.Adafactor, {"lr": 0.9, "weight_decay": 0.7, "beta2_decay": -0.5}, {"eps": (1e-3, 0.1)}),
    (optim.RMSprop, {"lr": 0.02, "momentum": 0.9}, {"momentum": 0.0, "alpha": 0.9}),
    (optim.RMSprop, {"lr": 0.02, "momentum": 0.6, "weight_decay": 0.3, "maximize": True}, {"eps": 0.1}),
    (optim.ASGD, {"lr": 0.1, "lambd": 0.5}, {"lr": 0.3, "t0": 2}),
    (optim.ASGD, {"lr": 0.1, "lambd": 2.0, "alpha": 0.3, "weight_decay": 0.2}, {"maximize": False}),
]  # fmt: skip


def deviation(kind: Any, options: dict[str, Any], other: dict[str, Any], seed: int, steps: int) -> float:
    """Of the effective sharpness over the threshold from 1, where the optimizer's own step has the eigenvalue -1."""
    torch.manual_seed(seed)
    tensors = draw_tensors()
    optimizer = two_groups(kind, tensors, options, other)
    train(tensors, [optimizer], steps, seed)
    settle(tensors, [optimizer])
    H = positive(13, seed) * (-1 if options.get("maximize") else 1)
    critical = critical_scale(tensors, [optimizer], H)
    return ratio(rule_for(optimizer, tensors), critical * H) - 1


@pytest.mark.parametrize(("kind", "options", "other"), CASES)
@pytest.mark.parametrize(("seed", "steps"), [(0, 1), (1, 7), (2, 40)])
def test_the_next_step_turns_unstable_where_the_ratio_is_one(
    kind: Any, options: dict[str, Any], other: dict[str, Any], seed: int, steps: int
) -> None:
    other = other | ({"maximize": True} if options.get("maximize") else {})
    assert abs(deviation(kind, options, other, seed, steps)) < 1e-6
