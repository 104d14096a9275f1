"""On this machine's own GPU: the same numbers as on the CPU. Run by ``make test-device``, not by ``make test``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from second_device_problem import PATHS, numbers, objective
from test_measurements import MEASURED, bracket
from test_second_device_training import EVERY_MEASURE, OF_THE_RULE, Loop, assert_readings

import edgescope as es
from edgescope.training import RunConfig, train

pytestmark = [pytest.mark.device, pytest.mark.filterwarnings("ignore::edgescope.errors.EdgescopeWarning")]
RULES = [name for name in es.OPTIMIZERS if name not in ("sam", "gradient-flow", "langevin")]  # Langevin draws there


@pytest.fixture(scope="module")
def device() -> torch.device:
    found = torch.accelerator.current_accelerator(check_available=True)
    assert found is not None, "no CUDA device that torch can use: nothing can be tested here"
    return found


def assert_close(found: object, wanted: object) -> None:
    """Equal up to the order of sums in float64."""
    torch.testing.assert_close(numbers(found), numbers(wanted), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("what", MEASURED)
def test_a_measurement_is_the_same(what: str, device: torch.device) -> None:
    assert_close(MEASURED[what](objective(device)), MEASURED[what](objective("cpu")))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("what", ["loss", "gradient", "products", "Gauss-Newton products"])
def test_products_are_the_same_on_every_path(what: str, path: str, device: torch.device) -> None:
    assert_close(MEASURED[what](objective(device, path)), MEASURED[what](objective("cpu", path)))


@pytest.mark.parametrize("spec", [*es.GEOMETRIES, "diagonal:preconditioner=log-uniform"])
def test_a_geometry_is_the_same(spec: str, device: torch.device) -> None:
    assert_close(bracket(device, spec), bracket("cpu", spec))


def test_every_measure_is_the_same(device: torch.device) -> None:
    found, wanted = (Loop("sgd:momentum=0.9", where).measured(EVERY_MEASURE, 1) for where in (device, "cpu"))
    assert_readings(found, wanted, tolerance=1e-5)


@pytest.mark.parametrize("spec", RULES)
def test_every_update_rule_is_the_same(spec: str, device: torch.device) -> None:
    here, there = Loop(spec, "cpu"), Loop(spec, device)
    assert_readings(there.measured(OF_THE_RULE, 1), here.measured(OF_THE_RULE, 1), tolerance=1e-5)


def test_a_monitor_leaves_training_as_it_was(device: torch.device) -> None:
    watched, alone = Loop("langevin:temperature=0.001", device), Loop("langevin:temperature=0.001", device)
    torch.manual_seed(5)
    watched.measured(["sharpness", "hessian_trace"], 2)
    torch.manual_seed(5)
    for _ in range(2):
        alone.step()
    assert torch.equal(watched.parameters(), alone.parameters())


def test_a_run_trains_there(device: torch.device, tmp_path: Path) -> None:
    config = RunConfig(data="digits:train=30,test=10", model="mlp:widths=4", steps=4, every=2, device=device.type)
    assert train(config, tmp_path / "run").status == "finished"
