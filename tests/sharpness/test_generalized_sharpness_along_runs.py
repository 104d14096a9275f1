"""Generalized sharpness of networks: warm measurements along a run, their cost, and float32 against float64."""

from __future__ import annotations

import pytest
import torch

import edgescope as es
from edgescope.data import DATA
from edgescope.geometry import as_geometry
from edgescope.losses import half_mse
from edgescope.models import MODELS
from edgescope.sharpness.ascent import climb


class Training:
    """Gradient descent on the study's MLP, 196-100-100-10, or a smaller one."""

    def __init__(self, widths: str = "100x100", samples: int = 60, dtype: torch.dtype = torch.float32) -> None:
        data = DATA.build(f"fashion-5k:train={samples},pool=2").load()
        self.inputs, self.targets = data.inputs.to(dtype), data.targets
        self.model = MODELS.build(f"mlp:widths={widths}").build(data.input_shape, data.classes, seed=0).to(dtype)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.3)
        supervised = es.supervised(half_mse)
        self.objective = es.Objective(self.model, supervised, (self.inputs, self.targets), path="kept", threads=None)

    def descend(self, steps: int) -> None:
        for _ in range(steps):
            self.optimizer.zero_grad()
            half_mse(self.model(self.inputs), self.targets).backward()
            self.optimizer.step()


def check(found: es.sharpness.GeneralizedSharpness, training: Training, geometry: es.geometry.Geometry) -> None:
    d = found.direction
    assert float(geometry.norm(d)) == pytest.approx(1, abs=1e-4)
    assert float(d.double() @ training.objective.hvp(d).double()) == pytest.approx(found.lower, rel=1e-3)
    assert found.lower <= found.upper


@pytest.mark.parametrize(("name", "loosest"), [("linf", 1.6), ("spectral", 1.6), ("blocks", 1.7), ("euclidean", 1.005)])
def test_warm_measurements_follow_the_study_network(name: str, loosest: float) -> None:
    training = Training()
    training.descend(60)
    geometry = as_geometry(name).bind(training.objective.operator().shapes)
    found = es.generalized_sharpness(training.objective, name)
    check(found, training, geometry)
    assert found.upper <= loosest * found.lower
    for _ in range(2):
        training.descend(5)
        gradient = training.objective.gradient()
        found = es.generalized_sharpness(training.objective, name, start=found, gradient=gradient)
        check(found, training, geometry)
        assert found.products <= 60
        assert found.upper <= loosest * found.lower
    operator = training.objective.operator()
    generator = torch.Generator().manual_seed(9)
    fresh = climb(operator, geometry, torch.randn(operator.size, 2, generator=generator), 12, 1e-3)
    assert float(fresh.values.max()) <= found.upper
    assert found.lower >= 0.9 * float(fresh.values.max())


@pytest.mark.parametrize("name", ["linf", "spectral", "blocks"])
def test_a_direction_alone_or_a_state_starts_a_measurement(name: str) -> None:
    training = Training("12", 40, torch.float64)
    training.descend(40)
    cold = es.generalized_sharpness(training.objective, name)
    for start in (cold, cold.state, cold.direction):
        warm = es.generalized_sharpness(training.objective, name, start=start)
        assert warm.lower >= cold.lower * (1 - 1e-2)
        assert warm.upper >= cold.lower * (1 - 1e-9)
    lower_only = es.generalized_sharpness(training.objective, name, start=cold, certificate=False)
    assert lower_only.products <= 30
    assert lower_only.lower >= cold.lower * (1 - 1e-2)


@pytest.mark.parametrize("name", ["linf", "spectral", "blocks", "euclidean"])
def test_single_precision_brackets_the_double_one(name: str) -> None:
    brackets = []
    for dtype in (torch.float32, torch.float64):
        training = Training("12", 40, torch.float64)
        training.descend(40)
        training.model.to(dtype)
        data = (training.inputs.to(dtype), training.targets)
        objective = es.Objective(training.model, es.supervised(half_mse), data, path="kept", threads=None)
        brackets.append(es.generalized_sharpness(objective, name))
    single, double = brackets
    assert single.lower <= double.upper * (1 + 1e-5)
    assert double.lower <= single.upper * (1 + 1e-5)
    assert single.lower == pytest.approx(double.lower, rel=0.02)


def test_the_published_estimator_stays_below_the_certificate() -> None:
    training = Training("12", 40)
    training.descend(40)
    found = es.generalized_sharpness(training.objective, "linf")
    plain = es.generalized_sharpness(
        training.objective, "linf", restarts=5, iterations=50, method="frank-wolfe", certificate=False
    )
    assert plain.method == "frank-wolfe"
    assert plain.lower <= found.upper
    assert found.lower >= plain.lower * (1 - 1e-3)
