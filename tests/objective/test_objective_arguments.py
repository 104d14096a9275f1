"""What a newcomer hands over by mistake is refused in one line; what they must know is a warning at their own line."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from live_reference import refused
from objective_problems import labelled, mlp
from torch import Tensor, nn

import edgescope
from edgescope.errors import EdgescopeWarning, InputError
from edgescope.losses import LOSSES, cross_entropy, half_mse, supervised
from edgescope.notices import Notices
from edgescope.objective import Objective, in_precision

LOSS = supervised(F.cross_entropy)


def made(*given: Any, **options: Any) -> Callable[[], object]:
    defaults = [mlp(), LOSS, labelled(8, 4)]
    return lambda: Objective(*[*given, *defaults[len(given) :]], **options)


def test_classes_in_the_place_of_instances() -> None:
    refused(InputError, "the class Linear as model", "an instance", "Linear(...)", make=made(nn.Linear))
    refused(InputError, "a model of type SGD", "torch.nn.Module", make=made(torch.optim.SGD([torch.zeros(1)], lr=0.1)))
    refused(InputError, "the class CrossEntropyLoss as loss", "supervised", make=made(mlp(), nn.CrossEntropyLoss))


@pytest.mark.parametrize(
    ("criterion", "name"),
    [
        (F.cross_entropy, "cross_entropy"),
        (F.mse_loss, "mse_loss"),
        (F.binary_cross_entropy_with_logits, "binary_cross_entropy_with_logits"),
        (nn.CrossEntropyLoss(), "CrossEntropyLoss"),
        (nn.BCEWithLogitsLoss(), "BCEWithLogitsLoss"),
        (functools.partial(F.cross_entropy, label_smoothing=0.1), "cross_entropy"),
        (half_mse, "half_mse"),
        (cross_entropy, "cross_entropy"),
        (LOSSES.build("mse"), "HalfMSE"),
    ],
)
def test_criteria_in_the_place_of_loss_functions(criterion: Any, name: str) -> None:
    refused(InputError, f"the criterion {name} as loss", "edgescope.supervised", make=made(mlp(), criterion))


class Criterion(nn.Module):
    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean()


@pytest.mark.parametrize("kind", [nn.CrossEntropyLoss, nn.MSELoss, type(LOSSES.build("mse")), Criterion])
def test_classes_in_the_place_of_criteria(kind: type) -> None:
    refused(
        InputError, f"the class {kind.__name__} as criterion", f"{kind.__name__}(...)", make=lambda: supervised(kind)
    )


@pytest.mark.parametrize("criterion", [lambda z, y: (z - y).square().mean(), Criterion(), mlp()])
def test_criteria_of_the_users_own(criterion: Any) -> None:
    refused(InputError, "TypeError", "supervised(criterion)", make=made(mlp(), criterion))


def test_devices() -> None:
    for device in ("gpu", "cuda:x", 17.5):
        refused(InputError, f"device '{device}'", "expected one of cpu", make=made(device=device))
    if not torch.cuda.is_available():
        refused(InputError, "device 'cuda' cannot be used here", "cpu", make=made(device="cuda"))
    assert Objective(mlp(), LOSS, labelled(8, 4), device="cpu").device.type == "cpu"


# ------------------------------------------------------------------------------------------------------- warnings


def summed(m: nn.Module, b: Any) -> Tensor:
    return F.cross_entropy(m(b[0]), b[1], reduction="sum")


def contrastive(m: nn.Module, b: Any) -> Tensor:
    return F.cross_entropy(m(b[0]) @ m(b[0]).T, torch.arange(len(b[0])))


def of_a_fixed_size(m: nn.Module, b: Any) -> Tensor:
    return F.cross_entropy(m(b[0].view(2, 4, 4)).flatten(0, 1), b[1])


def halves() -> list[tuple[Tensor, Tensor]]:
    return [labelled(8, 4), labelled(8, 4)]


def thawed() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    model[1].eval()
    objective = Objective(model, LOSS, halves())
    model[1].train()
    for _ in range(3):
        in_precision(objective, torch.float64).loss()


TOLD: dict[str, tuple[Callable[[], object], str]] = {
    "sum": (lambda: Objective(mlp(), summed, labelled(8, 4)), "sum over the samples"),
    "coupled": (lambda: Objective(mlp(), contrastive, halves()), "which samples stand together"),
    "untested": (lambda: Objective(mlp(), of_a_fixed_size, halves()), "could not be tested"),
    "thawed": (thawed, "'1' trains by now"),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_warning_is_given_once_and_at_the_line_of_the_user(name: str) -> None:
    torch.manual_seed(0)
    work, words = TOLD[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    assert [type(one.message) for one in caught] == [EdgescopeWarning]
    assert words in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "file",
    [
        "/home/user/torch/optim/train.py",
        "/home/user/my_torch/optimize.py",
        f"{Path(edgescope.__file__).parent}_extras/loop.py",
        "<stdin>",
        "/tmp/ipykernel_1/2.py",
    ],
)
def test_whichever_file_is_the_users(file: str) -> None:
    """Also one whose path looks like that of torch.optim or of this package."""
    scope: dict[str, Any] = {"Notices": Notices}
    code = "def run(notices):\n    notices.give('weights', 'something to know', faq='batch-weights')"
    exec(compile(code, file, "exec"), scope)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        notices = Notices()
        scope["run"](notices)
        scope["run"](notices)
    assert [(one.filename, one.lineno) for one in caught] == [(file, 2)]
    assert [notice.kind for notice in notices] == ["weights"]


def test_notices_for_information_are_no_warnings() -> None:
    x, y = torch.randn(8, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
    ignoring = lambda m, b: F.cross_entropy(m(b[0]), b[1], ignore_index=1)  # noqa: E731
    objective = Objective(mlp(), ignoring, [(x[:5], y[:5]), (x[5:], y[5:])])  # warnings are errors
    assert [(notice.kind, notice.warned) for notice in objective.notices] == [("weights", False)]
    assert "targets other than 1" in next(iter(objective.notices)).text
