"""torch's default device is the caller's business: what is measured lies where the caller's own tensors do.

On the device "meta" tensors have no entries, so anything that is made there by mistake cannot be computed with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import edgescope as es
from edgescope.linalg import frobenius
from edgescope.objective.samples import sample_gradients
from edgescope.training.stack import Member, Stack

GEOMETRIES = ("euclidean", "linf", "spectral", "blocks", "diagonal", "diagonal:preconditioner=log-uniform", "mixed")
CHEAPER = (
    *("average_sharpness:pairs=2", "hessian_frobenius:num_matvecs=6", "hessian_trace:num_matvecs=6"),
    *("learning_coefficient:chains=2,times=1,burn_in=0.5", "quadratic_model:steps=2", "settled_norms:steps=2"),
    *("sharpness_dimension:steps=6", "spectrum:probes=1,steps=4", "worst_case_sharpness:iterations=2"),
)
OPTIMIZERS = ("sgd:momentum=0.9", "adamw", "steepest:geometry=spectral")


@pytest.fixture
def objective() -> es.Objective:
    return made()


def made() -> es.Objective:
    with torch.device("cpu"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        inputs, targets = torch.randn(24, 4, dtype=torch.float64), torch.randint(3, (24,))
        return es.Objective(model, es.supervised(nn.functional.cross_entropy), (inputs, targets), path="rebuilt")


@pytest.fixture
def no_entries() -> Iterator[None]:
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def numbers(found: Any) -> list[float]:
    if isinstance(found, Tensor):
        return found.double().flatten().tolist()
    return [float(value) for value in found] if isinstance(found, list | tuple) else [float(found)]


def geometry(spec: str) -> Callable[[es.Objective], Any]:
    def both(objective: es.Objective) -> list[float]:
        found = es.generalized_sharpness(objective, spec, iterations=5, restarts=2)
        w = objective.parameters()
        step = es.directional_smoothness(objective, w, w - 0.1 * objective.gradient(), spec)
        return [found.lower, found.upper, step.value]

    return both


MEASURED: dict[str, Callable[[es.Objective], Any]] = {
    "products": lambda objective: objective.hvp(objective.gradient()),
    "checks": lambda _: made().gradient(),
    "eigenpairs": lambda objective: es.top_eigenpairs(objective, k=2).values,
    "tracker": lambda objective: es.EigenTracker(objective, k=2).update().values,
    "exact spectrum": lambda objective: es.spectrum(objective, method="exact").density(torch.ones(2, device="cpu")),
    "spectrum": lambda objective: es.spectrum(objective, method="slq", probes=2, steps=10).log_determinant,
    "trace": lambda objective: es.trace(objective, num_matvecs=12).value,
    "norm": lambda objective: frobenius(objective, num_matvecs=12).value,
    "dimension": lambda objective: es.sharpness_dimension(objective, lr=0.5, batch_size=8, batches=2).dimension,
    "quadrature": lambda objective: es.sharpness_dimension(objective, lr=0.5, method="ps", steps=10).dimension,
    "exponents": lambda objective: es.lyapunov_exponents(objective, 2, lr=0.1, steps=3).exponents,
    "samples": lambda objective: torch.cat([g.flatten() for g in sample_gradients(objective, 4, 0)]),
    **{spec: geometry(spec) for spec in GEOMETRIES},
}


@pytest.mark.parametrize("what", MEASURED)
def test_a_measurement_does_not_depend_on_the_default_device(what: str, objective: es.Objective) -> None:
    wanted = numbers(MEASURED[what](objective))
    torch.set_default_device("meta")
    try:
        found = numbers(MEASURED[what](objective))
    finally:
        torch.set_default_device(None)
    assert found == wanted


@pytest.mark.parametrize("spec", OPTIMIZERS)
def test_a_monitor_does_not_depend_on_the_default_device(spec: str, no_entries: None) -> None:
    objective = made()
    parameters = list(objective.model.parameters())
    optimizer = es.OPTIMIZERS.build(spec).build(parameters, lr=0.01)
    left_out = {"persistent_homology", *(measure.split(":")[0] for measure in CHEAPER)}
    measures = [*CHEAPER, *(name for name in es.MEASURES if name not in left_out)]
    with es.Monitor(objective, optimizer, every=1, measures=measures, on_error="raise") as monitor:
        for _ in range(2):

            def closure() -> Tensor:
                optimizer.zero_grad()
                for parameter, piece in zip(parameters, objective.gradient().split([20, 5, 15, 3]), strict=True):
                    parameter.grad = piece.view_as(parameter)
                return objective.loss()

            optimizer.step(closure)
            monitor.step()
        assert monitor.value("sharpness", "1") > 0


def test_training_does_not_depend_on_the_default_device(no_entries: None, tmp_path: Path) -> None:
    config = es.RunConfig(data="teacher-network:train=20,test=10", model="mlp:widths=8", steps=4, every=2, batch=5)
    assert es.train(config, tmp_path / "run").status == "finished"


def test_a_stack_does_not_depend_on_the_default_device(no_entries: None) -> None:
    with torch.device("cpu"):
        models = [nn.Linear(3, 2) for _ in range(2)]
        data = torch.ones(6, 3), torch.zeros(6, 2)
    stack = Stack(models, es.supervised(es.losses.half_mse), data, [Member(lr=0.1), Member(lr=0.2, momentum=0.5)], 2)
    stack.step()
    assert stack.losses(data).isfinite().all()


@pytest.mark.parametrize("name", ["xor", "ball", "teacher", "teacher-network", "modular-addition:modulus=5"])
def test_data_do_not_depend_on_the_default_device(name: str, no_entries: None) -> None:
    assert es.DATA.build(name).load().inputs.isfinite().all()
