"""What a caller sees of an error: his own lines and one of ours, whatever was asked for."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import edgescope as es
from edgescope.errors import EdgescopeError
from edgescope.linalg import from_matrix, to_matrix
from edgescope.objective import in_mode, in_precision, mini_batches
from edgescope.short_errors import FULL

OURS = str(Path(es.__file__).parent)
LOSS = es.supervised(F.cross_entropy)
MATRIX = torch.diag(torch.arange(1.0, 30.0))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def objective() -> es.Objective:
    return es.Objective(model(), LOSS, (torch.randn(8, 3), torch.arange(8) % 2))


def record(folder: Path) -> es.Record:
    made = es.Record.create(folder)
    made.append(0, {})
    return made


CALLS: dict[str, Callable[[Path], Any]] = {
    "Objective": lambda folder: es.Objective(model(), LOSS, [], mode="eval"),
    "Objective, no module": lambda folder: es.Objective(nn.Linear, LOSS, torch.zeros(3)),  # type: ignore[arg-type]
    "Objective.hvp": lambda folder: objective().hvp(torch.zeros(3)),
    "Objective.loss": lambda folder: objective().loss(torch.zeros(3)),
    "Objective.operator": lambda folder: objective().operator(kind="fisher"),  # type: ignore[arg-type]
    "mini_batches": lambda folder: mini_batches(objective(), 100),
    "in_mode": lambda folder: in_mode(objective(), "on"),  # type: ignore[arg-type]
    "in_precision": lambda folder: in_precision(objective(), torch.int64),
    "Monitor": lambda folder: es.Monitor(objective(), every=0),
    "Monitor, a measure": lambda folder: es.Monitor(objective(), measures=["sharpnes"]),
    "Monitor, an option": lambda folder: es.Monitor(objective(), measures=["sharpness:k=0"]),
    "Record.create": lambda folder: [es.Record.create(folder / "a"), es.Record.create(folder / "a")],
    "Record.open": lambda folder: es.Record.open(folder / "none"),
    "Record.wide": lambda folder: record(folder / "a").wide("losss"),
    "Record.status": lambda folder: [made := record(folder / "a"), made.close(), made.status],
    "Operator": lambda folder: from_matrix(MATRIX) @ torch.zeros(3),
    "from_matrix": lambda folder: from_matrix(torch.zeros(3, 2)),
    "to_matrix": lambda folder: to_matrix("x"),
    "top_eigenpairs": lambda folder: es.top_eigenpairs(MATRIX, k=40),
    "top_eigenpairs, an option": lambda folder: es.top_eigenpairs(MATRIX, k=0),
    "trace": lambda folder: es.trace(MATRIX, num_matvecs=3),
    "trace, a thing": lambda folder: es.trace("x"),
    "spectrum": lambda folder: es.spectrum(MATRIX, method="qr"),  # type: ignore[arg-type]
    "EigenTracker": lambda folder: es.EigenTracker(MATRIX, k=-1),
    "EigenTracker, an operator": lambda folder: es.EigenTracker("x"),
    "EigenTracker.update": lambda folder: es.EigenTracker(MATRIX).update("x"),
    "generalized_sharpness": lambda folder: es.generalized_sharpness(MATRIX, "manhattan"),
    "directional_smoothness": lambda folder: es.directional_smoothness(objective(), torch.zeros(2), torch.zeros(2)),
    "sharpness_dimension": lambda folder: es.sharpness_dimension([], lr=0.1),
    "kaplan_yorke": lambda folder: es.kaplan_yorke([]),
    "lyapunov_exponents": lambda folder: es.lyapunov_exponents([], k=0),
    "rule_for": lambda folder: es.rule_for("sgd", objective()),  # type: ignore[arg-type]
    "supervised": lambda folder: es.supervised("mse"),  # type: ignore[arg-type]
    "RunConfig": lambda folder: es.RunConfig(lr=-1.0),  # type: ignore[call-arg]
    "train": lambda folder: es.train("grok-mlp", folder),  # type: ignore[arg-type]
    "a registry": lambda folder: es.MEASURES["sharpnes"],
    "Registry.build": lambda folder: es.MODELS.build("mlp:widths=x"),
    "options of a measure": lambda folder: es.MEASURES["sharpness"](k=0),
    "options of a model": lambda folder: es.MODELS["mlp"](widths=(0,)),
    "options of data": lambda folder: es.DATA["two-spirals" if "two-spirals" in es.DATA else es.DATA.names()[0]](
        seed=-1
    ),
    "theory": lambda folder: es.theory.relu.minimal_trace("biased", torch.zeros(3, 1), torch.zeros(2)),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_error_shows_one_line_of_ours(name: str, tmp_path: Path) -> None:
    with pytest.raises(EdgescopeError) as caught:
        CALLS[name](tmp_path)
    assert "\n" not in str(caught.value)
    frames = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert sum(name.startswith(OURS) for name in frames) == 1, frames
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_what_the_users_code_raised_stays_with_its_own_lines() -> None:
    def faulty(module: nn.Module, batch: Any) -> torch.Tensor:
        raise KeyError("labels")

    with pytest.raises(EdgescopeError) as caught:
        es.Objective(model(), faulty, torch.zeros(4, 3))
    cause = caught.value.__cause__
    assert isinstance(cause, KeyError)
    assert [frame.name for frame in traceback.extract_tb(cause.__traceback__)] == ["faulty"]


def test_all_frames_are_there_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FULL, "full")
    with pytest.raises(EdgescopeError) as caught:
        es.MODELS.build("mlp:widths=x")
    assert len(traceback.extract_tb(caught.value.__traceback__)) > 2


def test_other_errors_keep_their_frames() -> None:
    with pytest.raises(TypeError) as caught:
        es.trace(MATRIX, probe=3)  # type: ignore[call-arg]
    assert caught.value.__traceback__ is not None


def test_a_shortened_function_keeps_its_name_and_documentation() -> None:
    assert es.trace.__name__ == "trace"
    assert es.Objective.hvp.__doc__ is not None
    assert isinstance(vars(es.Objective)["mode"], property)
