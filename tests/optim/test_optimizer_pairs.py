"""One optimizer or two by name: which parameters each has, at which learning rate, and what is refused."""

from __future__ import annotations

import pytest
import torch

from edgescope.errors import InputError
from edgescope.optim import JointRule, Lion, plan_optimizers, rule_for


def parameters(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    return [torch.ones(shape, requires_grad=True) for shape in shapes or ((2, 3), (2,), (4, 2), (1, 1, 2, 2))]


def test_one_optimizer_has_everything() -> None:
    own = parameters()
    (lion,) = plan_optimizers("lion:betas=0.5x0.6").build(own, lr=0.1)
    assert type(lion) is Lion
    assert lion.param_groups[0]["params"] == own
    assert (lion.param_groups[0]["lr"], lion.param_groups[0]["betas"]) == (0.1, (0.5, 0.6))


def test_the_first_of_two_has_the_matrices_and_the_second_the_rest() -> None:
    own = parameters()
    muon, adamw = plan_optimizers("muon+adamw").build(iter(own), lr=0.1)
    assert (type(muon), type(adamw)) == (torch.optim.Muon, torch.optim.AdamW)
    assert [id(p) for p in muon.param_groups[0]["params"]] == [id(own[0]), id(own[2])]
    assert [id(p) for p in adamw.param_groups[0]["params"]] == [id(own[1]), id(own[3])]
    assert muon.param_groups[0]["lr"] == adamw.param_groups[0]["lr"] == 0.1
    assert isinstance(rule_for([muon, adamw], own), JointRule)


@pytest.mark.parametrize(
    ("spec", "rates"),
    [
        ("sgd:momentum=0.9+adamw:lr=0.02", (0.1, 0.02)),
        ("sgd:lr=0.3,momentum=0.9+adamw:weight_decay=0.5,lr=2e-2", (0.3, 0.02)),
        ("sgd:momentum=0.9,lr=3e+0 + adamw", (3.0, 0.1)),
    ],
)
def test_each_of_two_may_have_a_learning_rate_of_its_own(spec: str, rates: tuple[float, float]) -> None:
    sgd, adamw = plan_optimizers(spec).build(parameters(), lr=0.1)
    assert (sgd.param_groups[0]["lr"], adamw.param_groups[0]["lr"]) == rates
    assert sgd.param_groups[0]["momentum"] == 0.9
    assert adamw.param_groups[0]["weight_decay"] == (0.5 if "decay" in spec else 0.01)


def test_gradients_a_step() -> None:
    assert plan_optimizers("sam").gradients_per_step == 2
    assert plan_optimizers("muon+adamw").gradients_per_step == 1


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("muon+adam+sgd", "3 optimizers in 'muon"),
        ("muon+adamv", "try 'adam"),
        ("muon+sam", "'sam' beside another optimizer"),
        ("gradient-flow+adamw", "'gradient-flow' beside another optimizer"),
        ("muon+adamw:lr=0", "optimizer 'adamw' with lr=0"),
        ("muon+adamw:lr=fast", "optimizer 'adamw' with lr="),
        ("muon:momentun=0.9+adamw", "try 'momentum='"),
        ("sgd:lr=0.1", "no option 'lr'"),
    ],
)
def test_what_cannot_be_used_is_one_line(spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        plan_optimizers(spec).build(parameters(), lr=0.1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [(((2, 2), (3, 2)), "AdamW has nothing to train"), (((2,), (3,)), "Muon has nothing to train")],
)
def test_a_model_without_parameters_for_one_of_two_is_one_line(shapes: tuple[tuple[int, ...], ...], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        plan_optimizers("muon+adamw").build(parameters(*shapes), lr=0.1)
    assert "\n" not in str(caught.value)
