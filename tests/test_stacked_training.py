"""A stack of networks trained together is, number for number, those networks trained one by one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from edgescope.errors import EdgescopeError
from edgescope.losses import LOSSES, supervised
from edgescope.models import MODELS
from edgescope.training import Member, Stack
from edgescope.training.gradients import FromBatches

MEMBERS = (
    Member(lr=0.3, seed=5),
    Member(lr=0.05, seed=1, momentum=0.9),
    Member(lr=0.1, seed=2, momentum=0.5, weight_decay=0.01),
    Member(lr=0.2, seed=5, weight_decay=0.1),
)


def data(samples: int = 22) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(samples, 1, 3, 4, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(5, (samples,), generator=generator)


def networks(spec: str, count: int = len(MEMBERS)) -> list[nn.Module]:
    return [MODELS.build(spec).build((1, 3, 4), 5, seed).double() for seed in range(count)]


def vectors(models: list[nn.Module]) -> torch.Tensor:
    return torch.stack([nn.utils.parameters_to_vector(model.parameters()).detach() for model in models])


CASES = {
    "mlp-relu": ("mlp:widths=7x6,activation=relu,bias=false", "cross-entropy", 8),
    "mlp-gelu": ("mlp:widths=6,activation=gelu", "mse", None),
    "cnn": ("cnn:channels=3", "cross-entropy", 22),
}


@pytest.mark.parametrize(("spec", "loss", "batch"), CASES.values(), ids=CASES)
def test_a_stack_trains_as_its_members_alone(spec: str, loss: str, batch: int | None) -> None:
    loss_fn = supervised(LOSSES.build(loss))
    alone = networks(spec)
    stack = Stack([copy.deepcopy(model) for model in alone], loss_fn, data(), MEMBERS, batch)
    theirs = []
    for model, member in zip(alone, MEMBERS, strict=True):
        gradients = FromBatches(model, loss_fn, data(), batch, member.seed)
        optimizer = torch.optim.SGD(
            model.parameters(), member.lr, momentum=member.momentum, weight_decay=member.weight_decay
        )
        losses = []
        for step in range(60):
            losses.append(gradients.compute(step))
            optimizer.step()
        theirs.append(torch.stack(losses))
    ours = torch.stack([stack.step() for _ in range(60)], 1)
    torch.testing.assert_close(ours, torch.stack(theirs), rtol=1e-10, atol=1e-10)
    flat = vectors(alone)
    assert (flat - vectors(networks(spec))).norm(dim=1).min() > 0.1
    assert (
        flat - torch.stack([nn.utils.parameters_to_vector(m.parameters()).detach() for m in networks(spec)])
    ).abs().max() > 0.1
    torch.testing.assert_close(stack.flat(), flat, rtol=1e-10, atol=1e-10)
    inputs, _ = data()
    with torch.no_grad():
        torch.testing.assert_close(stack.outputs(inputs), torch.stack([model(inputs) for model in alone]))
        torch.testing.assert_close(stack.losses(data()), torch.stack([loss_fn(model, data()) for model in alone]))
    into = networks(spec, 1)[0]
    stack.model(2, into)
    torch.testing.assert_close(
        nn.utils.parameters_to_vector(into.parameters()).detach(), flat[2], rtol=1e-10, atol=1e-10
    )


def test_a_member_has_learning_rates_by_parameter() -> None:
    loss_fn = supervised(LOSSES.build("cross-entropy"))
    spec = "mlp:widths=7"
    (model,) = networks(spec, 1)
    (name, _), *_ = model.named_parameters()
    stack = Stack(networks(spec, 1) * 3, loss_fn, data(), (Member(0.3), Member(0.3, factors={name: 0.2}), Member(0.1)))
    stack.keep([2, 1])
    gradients = FromBatches(model, loss_fn, data(), None, 0)
    groups = [{"params": [p], "lr": 0.06 if n == name else 0.3} for n, p in model.named_parameters()]
    optimizer = torch.optim.SGD(groups, lr=0.3)
    for step in range(10):
        stack.step()
        gradients.compute(step)
        optimizer.step()
    torch.testing.assert_close(stack.flat()[1:], vectors([model]), rtol=1e-10, atol=1e-10)


def test_a_member_that_diverges_leaves_the_others_alone() -> None:
    loss_fn = supervised(LOSSES.build("mse"))
    spec = "mlp:widths=7,activation=relu"
    both = Stack(networks(spec, 2), loss_fn, data(), (Member(0.1), Member(1e6)))
    one = Stack(networks(spec, 1), loss_fn, data(), (Member(0.1),))
    for _ in range(30):
        together, alone = both.step(), one.step()
    assert not torch.isfinite(together[1])
    torch.testing.assert_close(together[:1], alone, rtol=1e-12, atol=0)


def test_a_stack_continues_bit_for_bit_from_its_state() -> None:
    loss_fn = supervised(LOSSES.build("cross-entropy"))

    def fresh() -> Stack:
        return Stack(networks("mlp:widths=7"), loss_fn, data(), MEMBERS, batch=8)

    whole, first, second = fresh(), fresh(), fresh()
    for _ in range(25):
        whole.step()
    for _ in range(10):
        first.step()
    second.load_state(copy.deepcopy(first.state()))
    for _ in range(15):
        second.step()
    assert second.steps == 25
    assert torch.equal(second.flat(), whole.flat())


def test_the_models_given_are_left_as_they_were() -> None:
    models = networks("mlp:widths=7")
    before = vectors(models)
    stack = Stack(models, supervised(LOSSES.build("mse")), data(), MEMBERS)
    stack.step()
    assert torch.equal(vectors(models), before)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda loss: Stack(networks("mlp:widths=7"), loss, data(), MEMBERS[:2]), "4 models for 2 members"),
        (lambda loss: Stack([], loss, data(), []), "0 models"),
        (lambda loss: Stack(networks("mlp:widths=7"), loss, data(), MEMBERS, batch=23), "batch = 23"),
        (
            lambda loss: Stack([*networks("mlp:widths=7", 3), *networks("mlp:widths=8", 1)], loss, data(), MEMBERS),
            "parameters of model 3 differ",
        ),
        (
            lambda loss: Stack(
                [nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 5))] * 4, loss, data(), MEMBERS
            ),
            "dropout|Dropout",
        ),
        (
            lambda loss: Stack(
                [nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 5))] * 4, loss, data(), MEMBERS
            ),
            "batch statistics",
        ),
        (lambda loss: Member(lr=float("nan")), "lr=nan"),
        (lambda loss: Member(lr=0.1, momentum=-1), "momentum=-1"),
    ],
    ids=["counts", "none", "batch", "architecture", "dropout", "statistics", "lr", "momentum"],
)
def test_what_cannot_be_stacked_is_one_line(make, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EdgescopeError, match=words) as caught:
        make(supervised(LOSSES.build("cross-entropy")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batch", [8, None])
def test_a_stack_goes_on_with_the_members_that_are_kept(batch: int | None) -> None:
    loss_fn = supervised(LOSSES.build("mse"))
    whole, fewer = (Stack(networks("mlp:widths=6"), loss_fn, data(), MEMBERS, batch) for _ in range(2))
    for stack in (whole, fewer):
        for _ in range(5):
            stack.step()
    fewer.keep([3, 1])
    assert fewer.members == (MEMBERS[3], MEMBERS[1])
    for _ in range(5):
        losses, theirs = fewer.step(), whole.step()
        torch.testing.assert_close(losses, theirs[[3, 1]], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fewer.flat(), whole.flat()[[3, 1]], rtol=1e-10, atol=1e-10)
    resumed = Stack(networks("mlp:widths=6"), loss_fn, data(), MEMBERS, batch)
    resumed.keep([3, 1])
    resumed.load_state(copy.deepcopy(fewer.state()))
    assert torch.equal(resumed.step(), fewer.step())
    for wrong in ([], [4], [-1]):
        with pytest.raises(EdgescopeError, match="members"):
            fewer.keep(wrong)
