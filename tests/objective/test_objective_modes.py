"""What the model computes while it is measured: batch statistics as in training, everything else as in evaluation."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from live_reference import agrees, notices, over_batches, refused
from objective_problems import relative
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.data import DataLoader, TensorDataset

from edgescope.errors import EdgescopeWarning, InputError, NotDeterministicError, UnknownNameError
from edgescope.losses import supervised
from edgescope.objective import Objective, in_mode, in_precision, mini_batches

LOSS = supervised(F.cross_entropy)
STATISTICS = (_NormBase,)


class Swish(nn.BatchNorm1d):
    """A layer of the user's own that derives from batch normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(super().forward(x))


def rows(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), norm, nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3)).double()


def images(norm: nn.Module) -> nn.Module:
    layers = [nn.Conv2d(1, 3, 2), norm, nn.Tanh(), nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(12, 3)]
    return nn.Sequential(*layers).double()


def lazy() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 5), nn.LazyBatchNorm1d(), nn.Tanh(), nn.Linear(5, 3)).double()
    model(torch.randn(4, 4, dtype=torch.float64))
    return model


Made = Callable[[], nn.Module]
WITH_STATISTICS: dict[str, Made] = {
    "batchnorm-1d": lambda: rows(nn.BatchNorm1d(5)),
    "batchnorm-2d": lambda: images(nn.BatchNorm2d(3)),
    "cumulative": lambda: images(nn.BatchNorm2d(3, momentum=None)),
    "no-affine": lambda: rows(nn.BatchNorm1d(5, affine=False)),
    "instancenorm": lambda: images(nn.InstanceNorm2d(3, affine=True, track_running_stats=True)),
    "synchronised": lambda: rows(nn.SyncBatchNorm(5)),
    "lazy": lazy,
    "subclass": lambda: rows(Swish(5)),
}
WITHOUT: dict[str, Made] = {
    "no-running-statistics": lambda: rows(nn.BatchNorm1d(5, track_running_stats=False)),
    "layernorm": lambda: rows(nn.LayerNorm(5)),
    "groupnorm": lambda: images(nn.GroupNorm(3, 3)),
    "instancenorm-of-instances": lambda: images(nn.InstanceNorm2d(3, affine=True)),
    "dropout-alone": lambda: rows(nn.Identity()),
}


def data(model: nn.Module, *sizes: int) -> list[tuple[Tensor, Tensor]]:
    shape = (1, 3, 3) if isinstance(model[0], nn.Conv2d) else (4,)
    return [(torch.randn(n, *shape, dtype=torch.float64), torch.randint(3, (n,))) for n in sizes]


def state(model: nn.Module) -> list[Any]:
    return [
        *(value.clone() for value in model.state_dict().values()),
        torch.tensor([part.training for part in model.modules()]),
    ]


def measured(model: nn.Module, batches: Any, **options: Any) -> Objective:
    """An objective, once everything has been measured; nothing of the model has moved."""
    before = state(model)
    objective = Objective(model, LOSS, batches, path="rebuilt", threads=1, **options)
    objective.loss(objective.parameters() + 0.1)
    objective.hvp(torch.ones(objective.size, dtype=objective.dtype))
    objective.gnvp(torch.ones(objective.size, dtype=objective.dtype))
    objective.accuracy()
    assert all(torch.equal(a, b) for a, b in zip(state(model), before, strict=True))
    return objective


@pytest.mark.parametrize("switched", ["train", "eval"])
@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_statistics_of_the_batch_are_used_where_training_uses_them(name: str, switched: str) -> None:
    torch.manual_seed(0)
    model = WITH_STATISTICS[name]()
    batches = data(model, 7, 5)
    model(batches[0][0])  # running statistics of their own
    model.train(switched == "train")
    objective = measured(model, batches)
    assert objective.mode == "batch-statistics"
    agrees(objective, over_batches(model, LOSS, batches, STATISTICS))
    assert notices(objective) == []
    assert relative(objective.loss(), over_batches(model, LOSS, batches).loss) > 1e-3  # another function


@pytest.mark.parametrize("name", WITHOUT)
def test_everything_else_is_as_in_evaluation(name: str) -> None:
    torch.manual_seed(0)
    model = WITHOUT[name]().train()
    batches = data(model, 7, 5)
    objective = measured(model, batches)
    assert objective.mode == "eval"
    agrees(objective, over_batches(model, LOSS, batches))


@pytest.mark.parametrize("mode", ["eval", "batch-statistics"])
@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_a_mode_that_is_asked_for(name: str, mode: str) -> None:
    torch.manual_seed(0)
    model = WITH_STATISTICS[name]()
    batches = data(model, 7, 5)
    model(batches[0][0])
    objective = measured(model, batches, mode=mode)
    assert objective.mode == mode
    agrees(objective, over_batches(model, LOSS, batches, STATISTICS if mode == "batch-statistics" else ()))


def test_training_mode_is_for_models_without_dropout() -> None:
    torch.manual_seed(0)
    model = rows(nn.BatchNorm1d(5))
    batches = data(model, 7, 5)
    refused(
        NotDeterministicError,
        "dropout in '3'",
        "mode='auto'",
        make=lambda: Objective(model, LOSS, batches, mode="train"),
    )
    model[3].p = 0.0
    objective = measured(model, batches, mode="train")
    assert objective.mode == "train"
    agrees(objective, over_batches(model, LOSS, batches, (nn.Module,)))


class Centred(nn.Module):
    """Normalisation by hand: the mean of the batch in training, a running one in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x - self.mean
        self.mean.lerp_(x.mean(0).detach(), 0.1)
        return x - x.mean(0)


@pytest.mark.parametrize(("mode", "training"), [("auto", ()), ("train", (nn.Module,))])
def test_normalisation_by_hand_is_measured_as_the_mode_says(mode: str, training: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), Centred(), nn.Tanh(), nn.Linear(5, 3)).double()
    model[1].mean.normal_()
    batches = data(model, 7, 5)
    if mode == "train":
        with pytest.warns(EdgescopeWarning, match="which samples stand together"):
            objective = measured(model, batches, mode=mode)
    else:
        objective = measured(model, batches, mode=mode)
    agrees(objective, over_batches(model, LOSS, batches, training))
    here, there, random = objective.loss_in_training_mode() or (0.0, 0.0, "")
    assert (here == pytest.approx(there)) == (mode == "train")
    assert random == ""


def test_what_training_mode_makes_of_a_loss_leaves_everything_as_it_was() -> None:
    """Also state that is neither a parameter nor a buffer, and layers that training keeps in evaluation."""

    class Logs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.seen, self.average = nn.Linear(4, 3), [], torch.zeros(3, dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.seen.append(len(x))
                self.average.add_(1.0)
            return self.layer(x)

    torch.manual_seed(0)
    model = nn.Sequential(rows(nn.BatchNorm1d(5))[:2], nn.Linear(5, 4), Logs()).double()
    model.train()
    model[0][1].eval()
    objective = measured(model, [(torch.randn(6, 4, dtype=torch.float64), torch.randint(3, (6,)))])
    here, there, random = objective.loss_in_training_mode() or (0.0, 1.0, "")
    assert here == there
    assert random == ""
    assert model[2].seen == []
    assert not model[2].average.any()


def test_layers_that_are_kept_in_evaluation_are_measured_so() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).double()
    model[0].running_mean.normal_()
    batches = data(model, 7, 5)
    model.train()
    model[0].eval()
    objective = measured(model, batches)
    assert objective.mode == "batch-statistics"
    inside = copy.deepcopy(model)
    half = [LOSS(inside, batch) for batch in batches]  # as it trains
    assert relative(objective.loss(), (7 * half[0] + 5 * half[1]) / 12) < 1e-12
    before = objective.loss()
    model.eval()  # for an evaluation of the user's; the layer was seen to be kept
    assert torch.equal(objective.loss(), before)
    model.train()
    assert relative(objective.loss(), over_batches(model, LOSS, batches, STATISTICS).loss) < 1e-12  # thawed by train()


def test_layers_that_are_kept_in_evaluation_later_are_followed() -> None:
    torch.manual_seed(0)
    model = rows(nn.BatchNorm1d(5)).train()
    batches = data(model, 7, 5)
    objective = measured(model, batches)
    model[1].eval()
    agrees(objective, over_batches(model, LOSS, batches))
    model[1].train()
    agrees(objective, over_batches(model, LOSS, batches, STATISTICS))


def test_layers_that_train_again_are_told_of_once() -> None:
    torch.manual_seed(0)
    model = rows(nn.BatchNorm1d(5)).train()
    model[1].eval()
    batches = data(model, 7, 5)
    objective = measured(model, batches)
    assert objective.mode == "eval"
    before = objective.loss()
    model[1].train()
    with pytest.warns(EdgescopeWarning, match="'1' trains by now"):
        assert torch.equal(objective.loss(), before)
    objective.gradient()  # warnings are errors: no second one


def test_names_of_modes() -> None:
    model = rows(nn.BatchNorm1d(5))
    refused(UnknownNameError, "'batch-statistics'", make=lambda: Objective(model, LOSS, [], mode="batch_statistics"))
    refused(UnknownNameError, "None", "auto, eval", make=lambda: Objective(model, LOSS, [], mode=None))
    objective = Objective(model, LOSS, data(model, 6))
    refused(UnknownNameError, "'training'", make=lambda: in_mode(objective, "training"))
    refused(NotDeterministicError, "dropout", make=lambda: in_mode(objective, "train"))


def test_a_batch_of_one_sample_has_no_statistics() -> None:
    torch.manual_seed(0)
    model = rows(nn.BatchNorm1d(5))
    objective = Objective(model, LOSS, data(model, 7, 1))
    refused(InputError, "more than 1 value per channel", "mode='eval'", "drop_last=True", make=objective.loss)
    agrees(
        Objective(model, LOSS, objective._problem.batches, mode="eval"),
        over_batches(model, LOSS, list(objective._problem.batches)),
    )


@pytest.mark.parametrize("name", ["batchnorm-1d", "no-running-statistics"])
def test_coupled_batches_are_neither_cut_nor_put_together_anew(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = (WITH_STATISTICS | WITHOUT)[name]()
    x, y = data(model, 12)[0]
    refused(InputError, "chunk=", "mode='eval'", make=lambda: Objective(model, LOSS, (x, y), chunk=4))
    loader = DataLoader(TensorDataset(x, y), batch_size=6, shuffle=True)
    objective = Objective(model, LOSS, loader)  # held, so the same batches at every pass
    assert torch.equal(objective.loss(), objective.loss(objective.parameters()))
    monkeypatch.setattr("edgescope.objective.batches.available", lambda device: 0)
    refused(
        NotDeterministicError,
        "composed differently at every pass",
        "shuffle=True",
        make=lambda: Objective(model, LOSS, loader),
    )


def test_the_same_objective_on_other_terms() -> None:
    """Mode, precision and mini-batches each keep the rest: parameters, data, and how batches are cut where they may."""
    torch.manual_seed(0)
    model = rows(nn.BatchNorm1d(5))
    x, y = data(model, 12)[0]
    evaluated = Objective(model, LOSS, (x, y), mode="eval", params=["0.*", "4.bias"], chunk=4, path="rebuilt")
    assert in_mode(evaluated, "eval") is evaluated
    coupled = in_mode(evaluated, "batch-statistics")
    found = (evaluated, coupled, in_precision(coupled, torch.float32), next(mini_batches(coupled, 6)))
    assert [o.mode for o in found] == ["eval", *["batch-statistics"] * 3]
    assert [o.couples_samples for o in found] == [False, True, True, True]
    assert [o.dtype for o in found] == [torch.float64, torch.float64, torch.float32, torch.float64]
    assert [o.samples for o in found] == [12, 12, 12, 6]
    for objective in found:
        assert [slot.name for slot in objective.layout] == ["0.weight", "0.bias", "4.bias"]
        assert objective.plan().path == "rebuilt"
    wanted = Objective(model, LOSS, (x, y), params=["0.*", "4.bias"])
    V = torch.randn(wanted.size, 3, dtype=torch.float64)
    assert relative(coupled.hvp(V), wanted.hvp(V)) < 1e-12
    assert relative(found[2].hvp(V), wanted.hvp(V)) < 1e-4
    assert relative(in_mode(wanted, "eval").hvp(V), evaluated.hvp(V)) < 1e-12


def test_an_objective_can_be_pickled() -> None:
    torch.manual_seed(0)
    model = rows(nn.BatchNorm1d(5))
    objective = Objective(model, LOSS, data(model, 7, 5))
    again = pickle.loads(pickle.dumps(objective))
    torch.testing.assert_close(again.gradient(), objective.gradient(), rtol=1e-12, atol=1e-15)  # sums may round apart
    assert again.mode == "batch-statistics"
