"""Optimizers by name."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from edgescope.errors import InputError, NotKnownError
from edgescope.optim import OPTIMIZERS, GradientFlow, rule_for


@pytest.mark.parametrize(
    ("spec", "kind", "options"),
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "dampening": 0.0}),
        (
            "sgd:momentum=0.9,nesterov=true,weight-decay=0.1",
            torch.optim.SGD,
            {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        ),
        ("sgd:0.9,dampening=0.5", torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
        (
            "rmsprop:alpha=0.9,centered=true,eps=1e-7",
            torch.optim.RMSprop,
            {"alpha": 0.9, "centered": True, "eps": 1e-7},
        ),
        (
            "adam:betas=0.5x0.9",
            torch.optim.Adam,
            {"betas": (0.5, 0.9), "weight_decay": 0.0, "decoupled_weight_decay": False},
        ),
        ("adamw", torch.optim.AdamW, {"weight_decay": 0.01, "decoupled_weight_decay": True}),
        ("nadam:momentum_decay=0.01", torch.optim.NAdam, {"momentum_decay": 0.01, "betas": (0.9, 0.999)}),
        ("radam:betas=0.8x0.99", torch.optim.RAdam, {"betas": (0.8, 0.99), "decoupled_weight_decay": False}),
        ("adamax", torch.optim.Adamax, {"eps": 1e-8}),
        ("adagrad:lr_decay=0.1", torch.optim.Adagrad, {"lr_decay": 0.1, "eps": 1e-10}),
        ("adafactor:d=2", torch.optim.Adafactor, {"d": 2.0, "beta2_decay": -0.8}),
        (
            "muon:momentum=0.5,adjust_lr_fn=match_rms_adamw",
            torch.optim.Muon,
            {"momentum": 0.5, "adjust_lr_fn": "match_rms_adamw"},
        ),
    ],
)
def test_built_as_torch_would(spec: str, kind: type, options: dict[str, Any]) -> None:
    p = torch.ones(2, 2, requires_grad=True)
    optimizer = OPTIMIZERS.build(spec).build(iter([p]), lr=0.25)
    assert type(optimizer) is kind
    assert {name: optimizer.param_groups[0][name] for name in options} == options
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert rule_for(optimizer, [p]).threshold().value > 0


def test_gradient_flow_ignores_the_rate() -> None:
    p = torch.ones(3, requires_grad=True)
    flow = OPTIMIZERS.build("gradient-flow:max_step=0.5,rtol=1e-4").build([p], lr=math.nan)
    assert isinstance(flow, GradientFlow)
    assert (flow.param_groups[0]["max_step"], flow.param_groups[0]["rtol"]) == (0.5, 1e-4)
    with pytest.raises(NotKnownError, match="GradientFlow"):
        rule_for(flow, [p])


@pytest.mark.parametrize(
    ("spec", "lr", "names"),
    [
        ("sgd", 0.0, "SGD with lr=0;"),
        ("adam", -1.0, "Adam with lr=-1"),
        ("muon", math.inf, "Muon with lr=inf"),
        ("rmsprop", math.nan, "RMSprop with lr=nan"),
        ("sgdd", 0.1, "'sgd'"),
        ("sgd:momentun=0.9", 0.1, "'momentum='"),
        ("adam:betas=1.5x0.9", 0.1, "beta"),
        ("adam:betas=0.9", 0.1, "betas"),
        ("sgd:nesterov=true", 0.1, "SGD with nesterov, momentum=0"),
        ("gradient-flow:safety=7", 0.1, "safety=7"),
    ],
)
def test_bad_input_is_one_line(spec: str, lr: float, names: str) -> None:
    with pytest.raises(InputError) as caught:
        OPTIMIZERS.build(spec).build([torch.ones(2, 2, requires_grad=True)], lr)
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)


def test_muon_takes_matrices_only() -> None:
    with pytest.raises(InputError, match="2D"):
        OPTIMIZERS.build("muon").build([torch.ones(3, requires_grad=True)], 0.1)
