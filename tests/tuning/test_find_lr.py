"""The learning rate finder: what it suggests on quadratics, what it leaves untouched, and what it refuses."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from problems import CURVATURE, Bowl, bowl_loss, network, ones, samples
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import edgescope as es
from edgescope.errors import InputError
from edgescope.tuning import LearningRateSuggestion
from edgescope.tuning.training_copy import TrainingCopy

FEW: Any = {"seconds": None, "seeds": 1, "batches": 3, "warm_up": 5, "steps": 20}


def numbers(found: Any) -> list[float]:
    if isinstance(found, dict):
        return [x for value in found.values() for x in numbers(value)]
    if isinstance(found, list | tuple):
        return [x for value in found for x in numbers(value)]
    return [found] if isinstance(found, int | float) else []


@pytest.mark.parametrize(("optimizer", "unstable"), [("sgd", 2 / CURVATURE), ("sgd:momentum=0.9", 3.8 / CURVATURE)])
def test_on_a_quadratic_the_suggestion_is_below_the_critical_rate(optimizer: str, unstable: float) -> None:
    found = es.find_lr(Bowl(), bowl_loss, ones(), optimizer=optimizer, **FEW)
    assert found.at_start.median == pytest.approx(unstable, rel=1e-5)
    assert found.after_warm_up.low == pytest.approx(unstable, rel=1e-4)
    assert found.low <= found.suggested <= found.high
    assert found.suggested < unstable
    assert found.suggested <= found.stable_up_to < found.unstable_from
    assert found.stable_up_to < unstable
    assert found.trained
    assert not found.warm_up_needed
    assert (found.limiting_block, found.share) == ("w", pytest.approx(1.0))
    assert f"{found.suggested:.2g}" in str(found)


def test_warm_up_is_needed_where_only_the_start_is_steep() -> None:
    class Steep(nn.Module):
        """A fourth power, whose curvature falls from 12 to nearly 0 on the way to the minimum."""

        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        assert isinstance(model, Steep)
        return model.w[0] ** 4 * batch.mean() + 0.01 * model.w[1] ** 2

    found = es.find_lr(Steep(), loss, ones(), **FEW | {"warm_up": 40, "steps": 40})
    assert found.suggested > found.at_start.low
    assert found.warm_up_needed
    assert any(not trial.warm_up and trial.diverged for trial in found.trials)
    assert "Warm-up is needed" in found.summary()


@pytest.mark.parametrize("training", [True, False])
def test_model_optimizer_loader_and_random_numbers_are_untouched(training: bool) -> None:
    model = network().train(training)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loader = DataLoader(
        TensorDataset(*samples()), batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(5)
    )
    F.mse_loss(model(samples()[0]), samples()[1]).backward()
    optimizer.step()
    gradients = [p.grad for p in model.parameters()]
    values = [None if g is None else g.clone() for g in gradients]
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    states = torch.get_rng_state(), loader.generator.get_state(), random.getstate(), np.random.get_state()[1]  # noqa: NPY002
    with torch.no_grad():
        found = es.find_lr(model, F.mse_loss, loader, optimizer=optimizer, **FEW)
    assert found.optimizer == "Adam"
    assert model.training is training
    assert ("the model is in evaluation mode, and is trained so" in found.notes) is not training
    after = model.state_dict(), optimizer.state_dict()
    for one, other in zip(before, after, strict=True):
        assert str(one) == str(other)
    assert all(torch.equal(a, b) for a, b in zip(before[0].values(), after[0].values(), strict=True))
    for gradient, value, parameter in zip(gradients, values, model.parameters(), strict=True):
        assert parameter.grad is gradient
        assert value is not None
        assert gradient is not None
        assert torch.equal(gradient, value)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(loader.generator.get_state(), states[1])
    assert random.getstate() == states[2]
    assert np.array_equal(np.random.get_state()[1], states[3])  # noqa: NPY002


def test_the_same_seeds_give_the_same_result() -> None:
    def double(seed: int) -> nn.Module:
        return network(seed).double()

    x, y = (part.double() for part in samples())
    found = [
        es.find_lr(double, es.supervised(F.mse_loss), (x, y), batch=16, optimizer="adam", **FEW | {"seeds": 2})
        for _ in range(2)
    ]
    first, second = (dataclasses.replace(one, seconds=0.0) for one in found)
    # Up to rounding, which training amplifies: sums of kernels depend on where their operands lie in memory.
    assert numbers(first.as_dict()) == pytest.approx(numbers(second.as_dict()), rel=1e-8)
    assert (first.limiting_block, first.notes) == (second.limiting_block, second.notes)
    assert found[0].at_start.batches == 6
    assert {trial.seed for trial in found[0].trials} == {0, 1}
    # What a run sees does not depend on its rate: all of one seed begin with the same loss.
    assert len({trial.start for trial in found[0].trials if trial.seed == 0}) == 1


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_numbers_are_finite_also_where_nothing_trains(schedule: Any) -> None:
    def narrow(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        """A minimum very near, and very steep."""
        assert isinstance(model, Bowl)
        return (1e16 * (model.w - 1 + 1e-9).square()).sum() * batch.mean()

    for loss in (bowl_loss, narrow):
        found = es.find_lr(Bowl(), loss, ones(), schedule=schedule, optimizer="sgd", **FEW)
        as_text = json.dumps(found.as_dict(), allow_nan=False)
        assert all(math.isfinite(x) for x in numbers(json.loads(as_text)))
        assert None not in [value for name, value in found.as_dict().items() if name != "mode"]


def test_where_no_rate_trains_the_result_says_so() -> None:
    trial = es.find_lr(Bowl(), bowl_loss, ones(), **FEW).trials[0]
    found = es.find_lr(Bowl(), bowl_loss, ones(), **FEW)
    assert trial.lowered
    failed = dataclasses.replace(found, trained=False, trials=(dataclasses.replace(trial, loss=math.inf),))
    assert "No learning rate that was tried lowers the loss" in failed.summary()
    assert failed.as_dict()["trials"][0]["loss"] == "Infinity"


def test_little_time_cuts_numbers_and_says_so() -> None:
    found = es.find_lr(Bowl(), bowl_loss, ones(), seeds=1, seconds=1e-4)
    assert found.after_warm_up.batches == 3
    assert "for the time given" in found.summary()


def test_parameter_groups_keep_the_ratios_of_their_rates() -> None:
    model = network()
    first, second = model[0], model[4]
    optimizer = torch.optim.SGD(
        [{"params": first.parameters()}, {"params": second.parameters(), "lr": 0.02}], lr=0.1, momentum=0.5
    )
    training = TrainingCopy(model, es.supervised(F.mse_loss), optimizer)
    training.set_rate(1.0)
    assert [group["lr"] for group in training.optimizer.param_groups] == [1.0, pytest.approx(0.2)]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.02]
    assert not {id(p) for p in training.model.parameters()} & {id(p) for p in model.parameters()}
    held = {id(p) for group in training.optimizer.param_groups for p in group["params"]}
    assert held < {id(p) for p in training.model.parameters()}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schedule": "cosin"}, "unknown schedule 'cosin'.*try.*cosine"),
        ({"optimizer": "adamm"}, "unknown optimizer 'adamm'"),
        ({"optimizer": torch.optim.LBFGS}, "the class LBFGS as an optimizer"),
        ({"optimizer": lambda parameters: torch.optim.LBFGS(parameters)}, "the learning rate of LBFGS"),
        ({"model": nn.Linear}, "the class Linear as model"),
        ({"optimizer": "gradient-flow"}, "the learning rate of gradient-flow, which has none"),
        ({"optimizer": lambda parameters: 3}, "returned a int; expected a torch.optim.Optimizer"),
        ({"batch": 5}, "batch=5; expected at most 4, the number of samples"),
        ({"steps": 1}, "steps=1"),
        ({"data": iter([ones()])}, "one-shot iterator"),
        ({"data": [(ones(),)], "batch": 2}, "batch=2 with data that come in batches already"),
        ({"model": lambda seed: "net"}, "a model of type str"),
        ({"model": nn.Identity()}, "no trainable parameter"),
        ({"loss_fn": lambda model, batch: torch.tensor(1.0)}, "does not depend on the model"),
        ({"loss_fn": lambda model, batch: model.w.sum() * math.nan}, "the loss is nan"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(options: dict[str, Any], words: str) -> None:
    given = {"model": Bowl(), "loss_fn": bowl_loss, "data": ones()} | FEW | options
    with pytest.raises(InputError, match=words) as error:
        es.find_lr(given.pop("model"), given.pop("loss_fn"), given.pop("data"), **given)
    assert "\n" not in str(error.value)


def test_the_picture_is_written(tmp_path: Any) -> None:
    found = es.find_lr(Bowl(), bowl_loss, ones(), **FEW)
    assert isinstance(found, LearningRateSuggestion)
    paths = found.figure().save(tmp_path)
    text = paths["svg"].read_text()
    assert "learning rate" in text
    assert "suggested" in text
