"""Objectives, spectra, dimensions and norms on a device that is not the CPU: the same numbers as there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from second_device import second_device, traffic
from second_device_problem import CROSS_ENTROPY, PATHS, assert_same, data, network, objective
from torch import nn

import edgescope as es
from edgescope.linalg import DiagonalMetric, frobenius
from edgescope.objective.samples import sample_gradients, sample_losses


@pytest.fixture
def device() -> Iterator[torch.device]:
    with second_device() as device:
        yield device


# ------------------------------------------------------------------------------------------- the rules of the device


@pytest.mark.parametrize(
    "mix",
    [
        lambda there, here: there + here,
        lambda there, here: here + there,
        lambda there, here: here[there.long()],
        lambda there, here: torch.stack([there[0], here[0]]),
        lambda there, here: torch.dot(there, here),
        lambda there, here: torch.where(there > 0, there, here),
        lambda there, here: here.add_(there[0]),
    ],
)
def test_tensors_of_two_devices_do_not_meet(mix: Callable[..., Any], device: torch.device) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        mix(torch.ones(3, device=device), torch.ones(3))


def test_numbers_and_indices_of_the_cpu_are_taken(device: torch.device) -> None:
    there = torch.arange(3.0, device=device)
    assert ((there * torch.tensor(2.0))[torch.tensor([2])] - 4.0).item() == 0
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, device=device, generator=torch.Generator())


def test_waits_and_copies_are_counted(device: torch.device) -> None:
    there = torch.ones(3, device=device)
    with traffic() as found:
        there = there * 2 + torch.eye(3, device=device) @ there
    assert (found.waits, found.to_host, found.to_device) == (0, 0, 0)
    with traffic() as found:
        there.sum().item(), bool((there > 0).all()), there[there > 0], there.cpu(), torch.ones(2).to(device)
        torch.ones(2).to(device, non_blocking=True)
    assert (found.waits, found.to_host, found.to_device) == (5, 1, 2)


def test_a_copy_under_way_has_no_values(device: torch.device) -> None:
    here = torch.ones(3, device=device).to("cpu", non_blocking=True)
    assert here.isnan().all()
    torch.accelerator.synchronize(device)
    assert here.tolist() == [1, 1, 1]


def test_random_numbers_come_from_a_generator_of_its_own(device: torch.device) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    drawn = torch.randn(4, device=device)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    assert torch.equal(torch.randn(4, device=device).cpu(), drawn.cpu())


# ------------------------------------------------------------------------------------------------- the library on it

MEASURED: dict[str, Callable[[es.Objective], Any]] = {
    "loss": lambda o: o.loss(),
    "gradient": lambda o: o.gradient(),
    "products": lambda o: o.hvp(torch.stack([o.gradient(), o.parameters()], 1)),
    "Gauss-Newton products": lambda o: o.gnvp(torch.stack([o.gradient(), o.parameters()], 1)),
    "losses of samples": sample_losses,
    "gradients of samples": lambda o: torch.cat([g.flatten() for g in sample_gradients(o, 4, 0)]),
    "eigenvalues": lambda o: es.top_eigenpairs(o, k=2, which="both").values,
    "eigenvalues in a metric": lambda o: (
        es.top_eigenpairs(o, k=2, metric=DiagonalMetric(torch.linspace(0.5, 2, o.size, dtype=torch.float64))).values
    ),
    "exact spectrum": lambda o: es.spectrum(o, method="exact").density(torch.ones(2)),
    "Lanczos spectrum": lambda o: es.spectrum(o, method="slq", probes=2, steps=5, deflate=1).log_determinant,
    "trace": lambda o: es.trace(o, num_matvecs=12).value,
    "Frobenius norm": lambda o: frobenius(o, num_matvecs=12).value,
    "sharpness dimension": lambda o: es.sharpness_dimension(o, lr=0.5, batch_size=8, batches=2).dimension,
    "dimension by quadrature": lambda o: es.sharpness_dimension(o, lr=0.5, method="ps", steps=5).dimension,
    "Lyapunov exponents": lambda o: es.lyapunov_exponents(o, 2, lr=0.1, steps=3, batch_size=8).exponents,
}


@pytest.mark.parametrize("what", MEASURED)
def test_a_measurement_is_the_same(what: str, device: torch.device) -> None:
    assert_same(MEASURED[what](objective(device)), MEASURED[what](objective("cpu")))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("what", ["loss", "gradient", "products", "Gauss-Newton products"])
def test_products_are_the_same_on_every_path(what: str, path: str, device: torch.device) -> None:
    assert_same(MEASURED[what](objective(device, path)), MEASURED[what](objective("cpu", path)))


def test_results_are_on_the_device(device: torch.device) -> None:
    there = objective(device)
    gradient = there.gradient()
    assert gradient.device == there.hvp(gradient).device == es.top_eigenpairs(there).vectors.device
    assert gradient.device.type == device.type


def test_the_basis_of_an_eigen_solver_may_lie_on_the_cpu(device: torch.device) -> None:
    there = objective(device)
    wanted = es.top_eigenpairs(there, k=2, tol=1e-6)
    found = es.top_eigenpairs(there, k=2, tol=1e-6, basis_device="cpu", start=wanted.vectors[:, :1])
    assert found.vectors.device.type == "cpu"
    assert bool(found.converged.all())
    torch.testing.assert_close(found.values, wanted.values, rtol=1e-9, atol=0)
    images = there.hvp(found.vectors.to(device)).cpu()
    residuals = (images - found.values * found.vectors).norm(dim=0)
    torch.testing.assert_close(residuals, found.residuals, rtol=1e-3, atol=1e-12)


def test_a_tracker_follows_and_is_continued(device: torch.device) -> None:
    found = []
    for where in ("cpu", device):
        followed = objective(where)
        tracker = es.EigenTracker(followed, k=2)
        values = [tracker.update().values]
        for _ in range(2):
            with torch.no_grad():
                for parameter in followed.model.parameters():
                    parameter *= 1.01
            resumed = es.EigenTracker(followed, k=2)
            resumed.load_state({name: tensor.cpu() for name, tensor in tracker.state().items()})
            values += [tracker.update().values, resumed.update().values]
            assert_same(values[-1], values[-2])
        found.append(torch.cat(values))
    assert_same(*found)


def bracket(where: torch.device | str, spec: str, **options: Any) -> list[float]:
    of = objective(where, **options)
    found = es.generalized_sharpness(of, spec, iterations=2, restarts=1)
    return [found.lower, found.upper]


@pytest.mark.parametrize("spec", [*es.GEOMETRIES, "diagonal:preconditioner=log-uniform"])
def test_a_geometry_is_the_same(spec: str, device: torch.device) -> None:
    assert_same(bracket(device, spec), bracket("cpu", spec))
    steps = []
    for where in (device, "cpu"):
        of = objective(where)
        w = of.parameters()
        steps.append(es.directional_smoothness(of, w, w - 0.1 * of.gradient(), spec).value)
    assert_same(*steps)


def test_a_geometry_is_the_same_where_no_matrix_is_formed(device: torch.device) -> None:
    widths = (6, 9, 5, 3)  # 131 parameters
    assert_same(bracket(device, "spectral", widths=widths), bracket("cpu", "spectral", widths=widths))


def test_data_and_model_may_lie_apart(device: torch.device) -> None:
    wanted = objective("cpu").gradient()
    for model_at, data_at, measured in ((device, "cpu", None), ("cpu", device, None), ("cpu", "cpu", device)):
        placed = tuple(tensor.to(data_at) for tensor in data())
        assert_same(es.Objective(network().to(model_at), CROSS_ENTROPY, placed, device=measured).gradient(), wanted)


def test_a_measurement_draws_nothing_from_the_device(device: torch.device) -> None:
    inputs, targets = (tensor.to(device) for tensor in data())
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3)).double().to(device)
    torch.manual_seed(4)
    wanted = torch.rand(3, device=device).cpu()
    torch.manual_seed(4)
    es.top_eigenpairs(es.Objective(model, CROSS_ENTROPY, (inputs, targets)))
    assert torch.equal(torch.rand(3, device=device).cpu(), wanted)


def test_a_device_without_float64_is_refused_and_its_models_are_measured_on_the_cpu() -> None:
    with second_device(double=False) as device:
        model, (inputs, targets) = network().float().to(device), data()
        there = inputs.float().to(device), targets.to(device)
        with pytest.raises(es.errors.InputError, match=r"'second' has no float64.*device=\"cpu\""):
            es.Objective(model, CROSS_ENTROPY, there)
        found = es.top_eigenpairs(es.Objective(model, CROSS_ENTROPY, there, device="cpu")).values
        wanted = es.top_eigenpairs(es.Objective(network().float(), CROSS_ENTROPY, (inputs.float(), targets))).values
    assert_same(found, wanted)
