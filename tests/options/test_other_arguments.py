"""Arguments that are no numbers: arrays, metrics, functions, folders, optimizers, and what is empty."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import edgescope as es
from edgescope import dimension, linalg
from edgescope.errors import InputError
from edgescope.measures import MEASURES
from edgescope.optim import rule_for, update_jacobian
from edgescope.options import check_fields
from edgescope.training import RunConfig, train

# torch's own warning, when its forward-mode formulas are imported
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


class NoSize(linalg.Metric):
    def inverse_root(self, block: torch.Tensor) -> torch.Tensor:
        return block

    root = inverse_root


class Problem:
    """A small network, its objective and an optimizer of it."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        batch = (torch.randn(12, 3).double(), torch.randn(12, 2).double())
        self.objective = es.Objective(self.model, es.supervised(es.losses.half_mse), batch, threads=1, path="kept")
        self.tensors = list(self.model.parameters())
        self.optimizer = torch.optim.SGD(self.tensors, lr=0.1)
        self.size = self.objective.size


Make = Callable[[Problem], Any]
NOT_ARRAYS: dict[str, Make] = {
    "text": lambda p: "x",
    "a number": lambda p: 3,
    "a list": lambda p: [1.0] * p.size,
    "a class": lambda p: torch.Tensor,
    "complex": lambda p: torch.ones(p.size, dtype=torch.complex64),
    "objects": lambda p: np.array([None] * p.size),
    "words": lambda p: np.array(["a"] * p.size),
    "another size": lambda p: np.ones(p.size + 1),
    "no columns": lambda p: np.ones((p.size, 0)),
    "three axes": lambda p: torch.ones(p.size, 1, 1),
    "NaN": lambda p: np.full(p.size, np.nan),
}
NOT_METRICS: dict[str, Make] = {
    "text": lambda p: "adam",
    "a number": lambda p: 3,
    "a tensor": lambda p: torch.ones(p.size),
    "an array": lambda p: np.ones(p.size),
    "a class": lambda p: linalg.DiagonalMetric,
    "an optimizer": lambda p: p.optimizer,
    "its rule": lambda p: rule_for(p.optimizer, p.tensors),
    "a geometry": lambda p: es.geometry.Euclidean(),
    "no size": lambda p: NoSize(),
    "another size": lambda p: linalg.DiagonalMetric(torch.ones(3)),
}
OF_METRICS: dict[str, Callable[[Problem, Any], Any]] = {
    "top_eigenpairs": lambda p, metric: es.top_eigenpairs(p.objective, metric=metric),
    "EigenTracker": lambda p, metric: es.EigenTracker(p.objective, metric=metric).update(),
    "EigenTracker.update": lambda p, metric: es.EigenTracker(p.objective).update(metric=metric),
    "EigenvalueBound": lambda p, metric: linalg.EigenvalueBound(p.objective, metric=metric),
    "EigenvalueBound of a matrix": lambda p, metric: linalg.EigenvalueBound(torch.eye(p.size), metric=metric),
}


def one_line(call: Callable[[], Any]) -> str:
    """What is said in the error that the call ends in."""
    with pytest.raises(InputError) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said
    assert "built-in" not in said
    assert "object at 0x" not in said
    assert len(said) < 400
    return said


@pytest.mark.parametrize("name", NOT_ARRAYS)
def test_vectors_to_start_from(name: str) -> None:
    problem = Problem()
    start = NOT_ARRAYS[name](problem)
    assert "start vectors" in one_line(lambda: es.top_eigenpairs(problem.objective, start=start))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f8", "f4", "i8"])
def test_arrays_of_numpy_are_vectors_and_matrices(kind: str, order: str) -> None:
    square = np.diag([5.0, 2.0, -1.0] * 7).astype(order + kind)
    start = np.eye(21)[:, ::-1].astype(order + kind)[:, -2:]
    start.flags.writeable = False
    found = es.top_eigenpairs(square, 2, start=start, metric=linalg.DiagonalMetric(np.full(21, 2.0)))
    assert found.values.tolist() == pytest.approx([2.5, 2.5], rel=1e-5)
    assert float(es.trace(square).value) == pytest.approx(42)
    assert es.sharpness_dimension(square, lr=0.1).size == 21
    volume = float(es.lyapunov_exponents([square]).exponents.sum())
    assert volume == pytest.approx(7 * np.log(10)), "the logarithm of the determinant"


@pytest.mark.parametrize("name", NOT_METRICS)
@pytest.mark.parametrize("function", OF_METRICS)
def test_metrics(function: str, name: str) -> None:
    problem = Problem()
    said = one_line(lambda: OF_METRICS[function](problem, NOT_METRICS[name](problem)))
    assert "a metric of size 3" in said if name == "another size" else "linalg.DiagonalMetric" in said


@pytest.mark.parametrize(
    "entries", ["x", 3, [1.0], None, torch.ones(2, 2), torch.ones(0), np.array([1.0, -1.0]), torch.ones(2) * 1j]
)
def test_entries_of_a_metric(entries: Any) -> None:
    one_line(lambda: linalg.DiagonalMetric(entries))


@pytest.mark.parametrize("constant", [True, [True, False], torch.ones(2), torch.ones(3, dtype=torch.bool)])
def test_constants_of_a_metric(constant: Any) -> None:
    one_line(lambda: linalg.DiagonalMetric(torch.ones(2), constant))


@pytest.mark.parametrize("value", [3, "x", ["f"], True])
def test_functions(value: Any, tmp_path: Path) -> None:
    problem = Problem()
    assert "progress=" in one_line(lambda: es.top_eigenpairs(problem.objective, progress=value))
    assert "stop_when=" in one_line(lambda: es.spectrum(problem.objective, stop_when=value))
    assert "progress=" in one_line(lambda: train(RunConfig(), tmp_path / "a", value))
    assert "apply=" in one_line(lambda: linalg.Operator(2, value))


@pytest.mark.parametrize("empty", [torch.zeros(0, 0), np.zeros((0, 0)), torch.zeros(0, 0).long()], ids=str)
def test_matrices_without_rows(empty: Any) -> None:
    calls: list[Callable[[Any], Any]] = [
        es.top_eigenpairs,
        es.spectrum,
        lambda it: es.spectrum(it, method="exact"),
        es.trace,
        linalg.frobenius,
        linalg.to_matrix,
        linalg.from_matrix,
        linalg.EigenvalueBound,
        lambda it: es.EigenTracker(it).update(),
        lambda it: es.generalized_sharpness(it, "linf"),
        lambda it: es.generalized_sharpness(it, "euclidean"),
        lambda it: es.sharpness_dimension(it, lr=0.1),
        lambda it: es.sharpness_dimension([it], lr=0.1),
        lambda it: es.lyapunov_exponents([it]),
    ]
    for call in calls:
        assert "shape (0, 0)" in one_line(lambda call=call: call(empty))  # type: ignore[misc]


OPERATORS: dict[str, Make] = {
    "a class": lambda p: es.trace(es.Objective),
    "complex": lambda p: es.trace(torch.eye(2, dtype=torch.complex64)),
    "rows of two lengths": lambda p: linalg.from_matrix([[1.0], [1.0, 2.0]]),  # type: ignore[arg-type]
    "text": lambda p: linalg.from_matrix("H"),  # type: ignore[arg-type]
    "half a row": lambda p: linalg.Operator(2.5, lambda block: block),  # type: ignore[arg-type]
    "times an array": lambda p: p.objective.operator() @ np.ones(p.size),
    "blocks of 0": lambda p: linalg.to_matrix(torch.eye(3), block=0),
    "steps of a bound": lambda p: linalg.EigenvalueBound(p.objective).extend("3"),
    "vectors of a bound": lambda p: linalg.EigenvalueBound(p.objective).extend(3).vectors(0),
    "threshold of an update": lambda p: es.EigenTracker(p.objective).update(threshold="x"),  # type: ignore[arg-type]
    "threshold at both ends": lambda p: es.EigenTracker(p.objective, which="both").update(threshold=2.0),
    "state of a tracker": lambda p: es.EigenTracker(p.objective).load_state(3),  # type: ignore[arg-type]
}
JACOBIANS: dict[str, Make] = {
    "numbers": lambda p: es.lyapunov_exponents([3]),
    "text": lambda p: es.lyapunov_exponents("x"),
    "one matrix": lambda p: es.lyapunov_exponents(np.eye(3)),
    "a class": lambda p: dimension.LyapunovTracker().update(es.optim.UpdateJacobian),
    "not square": lambda p: dimension.LyapunovTracker().update(np.ones((2, 3))),
    "no objective": lambda p: list(dimension.trajectory(3, lr=0.1, steps=2)),  # type: ignore[arg-type]
    "an optimizer as a rule": lambda p: update_jacobian(p.optimizer, p.objective),  # type: ignore[arg-type]
    "a rule's class": lambda p: update_jacobian(es.optim.SGDRule, p.objective),  # type: ignore[arg-type]
    "a model": lambda p: update_jacobian(rule_for(p.optimizer, p.tensors), p.model),  # type: ignore[arg-type]
    "points as text": lambda p: dimension.box_dimension("x"),  # type: ignore[arg-type]
    "points of two lengths": lambda p: dimension.box_dimension([[1], [1, 2]]),  # type: ignore[arg-type]
    "an optimizer's class": lambda p: es.sharpness_dimension(p.objective, optimizer=torch.optim.SGD),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str) -> None:
    one_line(lambda: OPERATORS[name](Problem()))


@pytest.mark.parametrize("name", JACOBIANS)
def test_jacobians_and_points(name: str) -> None:
    one_line(lambda: JACOBIANS[name](Problem()))


PARAMETERS: dict[str, tuple[Make, str]] = {
    "arrays": (lambda p: [t.detach().numpy() for t in p.tensors], r"parameters[0] is a value of type ndarray"),
    "one that is no tensor": (lambda p: [*p.tensors, None], r"parameters[4] is a value of type NoneType"),
    "none": (lambda p: [], "an empty list of parameters"),
    "twice": (lambda p: p.tensors * 2, "parameters[4] is parameters[0] again"),
    "tied": (lambda p: [*p.tensors, p.tensors[2]], "parameters[4] is parameters[2] again"),
    "a generator": (lambda p: p.model.parameters(), "list(model.parameters())"),
    "a model": (lambda p: p.model, "a value of type Sequential"),
    "a tensor": (lambda p: p.tensors[0], "a value of type Parameter"),
    "a dict": (lambda p: dict(p.model.named_parameters()), "a value of type dict"),
    "nothing": (lambda p: None, "a value of type NoneType"),
}
OPTIMIZERS: dict[str, tuple[Make, str]] = {
    "a class": (lambda p: torch.optim.SGD, "the class SGD as an optimizer; expected an instance"),
    "a class of ours": (lambda p: es.optim.SAM, "the class SAM as an optimizer; expected an instance"),
    "a class among several": (lambda p: [p.optimizer, torch.optim.Adam], "the class Adam as an optimizer"),
    "another class": (lambda p: nn.Linear, "the class Linear as an optimizer; expected an instance"),
    "a name": (lambda p: "sgd", "an optimizer of type str"),
    "none": (lambda p: [], "no optimizer in the list"),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_an_update_rule(name: str) -> None:
    problem = Problem()
    make, words = PARAMETERS[name]
    assert words in one_line(lambda: rule_for(problem.optimizer, make(problem)))
    assert words in one_line(lambda: rule_for([problem.optimizer], make(problem)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_of_an_update_rule(name: str) -> None:
    problem = Problem()
    make, words = OPTIMIZERS[name]
    assert words in one_line(lambda: rule_for(make(problem), problem.tensors))


@pytest.mark.parametrize("folder", [5, None, "", "  ", b"a", "a\0b", ["a"], Path])
def test_folders_of_runs(folder: Any) -> None:
    assert one_line(lambda: train(RunConfig(), folder)).startswith("train with folder=")


@pytest.mark.parametrize("resume", [1, "yes", None])
def test_whether_to_resume(resume: Any, tmp_path: Path) -> None:
    assert "resume=" in one_line(lambda: train(RunConfig(), tmp_path / "a", resume=resume))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("measures", [None, "loss", 3, {"loss": 1}, (3,), ["loss", None]])
def test_measures_of_a_run(measures: Any) -> None:
    """What is suggested are names of measures in a list or tuple, and is taken."""
    said = one_line(lambda: RunConfig(measures=measures))
    _, _, hint = said.rpartition("try measures=")
    suggested = eval(hint)
    assert set(suggested) <= set(MEASURES)
    RunConfig(measures=suggested)


@dataclasses.dataclass
class Options:
    names: tuple[str, ...] = ("box", "a", "b")
    sizes: tuple[int, ...] = (2, 3)

    def __post_init__(self) -> None:
        check_fields(self, "options")


def test_defaults_are_suggested_in_a_form_that_can_be_given() -> None:
    assert one_line(lambda: Options(names=3)).endswith("try names=('box', 'a')")  # type: ignore[arg-type]
    assert one_line(lambda: Options(sizes=3)).endswith("try sizes=2x3")  # type: ignore[arg-type]
