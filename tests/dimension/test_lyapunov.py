from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import edgescope as es
from edgescope.dimension import LyapunovTracker, lyapunov_exponents, trajectory
from edgescope.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def symmetric(values: list[float], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    frame = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)).Q
    return (frame * torch.tensor(values, dtype=torch.float64)) @ frame.T


def small_problem(seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[torch.nn.Module, es.Objective]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).to(dtype)
    data = (torch.randn(24, 3, dtype=dtype), torch.randint(0, 2, (24,)))
    objective = es.Objective(model, es.supervised(torch.nn.functional.cross_entropy), data, path="rebuilt", threads=1)
    return model, objective


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_constant_symmetric_jacobian_has_its_sorted_log_singular_values(seed: int) -> None:
    matrix = symmetric([1.7, -1.2, 0.9, -0.5, 0.2], seed)
    expected = torch.linalg.svdvals(matrix).log()
    found = lyapunov_exponents([matrix] * 400, warmup=200, seed=seed)
    torch.testing.assert_close(found.exponents, expected, atol=1e-9, rtol=0)
    assert float(found.error.max()) < 1e-9
    assert found.drift < 1e-9
    leading = lyapunov_exponents([matrix] * 400, 2, warmup=200, seed=seed)
    torch.testing.assert_close(leading.exponents, expected[:2], atol=1e-9, rtol=0)


def test_one_step_has_the_volume_of_its_jacobian() -> None:
    matrix = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = lyapunov_exponents([matrix])
    assert float(found.exponents.sum()) == pytest.approx(float(torch.linalg.slogdet(matrix).logabsdet))
    assert bool(torch.isinf(found.error).all())
    along_an_axis = lyapunov_exponents([torch.diag(torch.tensor([0.5, -3.0]))] * 2000, warmup=100)
    torch.testing.assert_close(along_an_axis.exponents, torch.tensor([math.log(3), math.log(0.5)], dtype=torch.float64))


def test_gradient_descent_on_a_quadratic() -> None:
    """Exponents ln|1 - lr a|, whatever the trajectory."""
    curvatures = torch.tensor([3.0, 1.0, 0.4], dtype=torch.float64)
    model = torch.nn.Linear(3, 1, bias=False).double()
    inputs = torch.diag((3 * curvatures).sqrt())
    objective = es.Objective(model, lambda m, x: 0.5 * m(x).square().mean(), inputs, path="rebuilt", threads=1)
    before = model.weight.detach().clone()
    found = lyapunov_exponents(objective, lr=0.5, steps=60, warmup=60)
    expected = (1 - 0.5 * curvatures).abs().log().sort(descending=True).values
    torch.testing.assert_close(found.exponents, expected, atol=1e-9, rtol=0)
    assert torch.equal(model.weight.detach(), before)
    assert found.products == 3 * 120
    assert found.dimension == 0


def henon(steps: int, a: float = 1.4, b: float = 0.3) -> Iterator[Tensor]:
    x, y = 0.1, 0.1
    for _ in range(steps):
        yield torch.tensor([[-2 * a * x, 1.0], [b, 0.0]], dtype=torch.float64)
        x, y = 1 - a * x * x + y, b * x


def test_the_henon_map_has_its_known_exponents_within_their_errors() -> None:
    """0.41922 and ln 0.3 - 0.41922: Sprott, Chaos and Time-Series Analysis, 2003, A.2.1; dimension 1.258."""
    found = lyapunov_exponents(henon(4000), warmup=200)
    assert float(found.exponents.sum()) == pytest.approx(math.log(0.3), abs=1e-12)
    assert float(found.exponents[0]) == pytest.approx(0.41922, abs=4 * float(found.error[0]))
    assert 0 < float(found.error[0]) < 0.03
    assert found.dimension == pytest.approx(1.258, abs=0.02)
    assert found.running.shape == found.growth.shape == (3800, 2)
    torch.testing.assert_close(found.running[-1], found.exponents)
    assert found.drift < 0.05
    assert lyapunov_exponents(henon(500), 1).dimension is None


@pytest.mark.parametrize("size", [2, 5])
def test_products_of_gaussian_matrices(size: int) -> None:
    """(ln 2 + digamma((n - i + 1) / 2)) / 2: Newman 1986, Commun. Math. Phys. 103, 121."""
    generator = torch.Generator().manual_seed(size)
    maps = (torch.randn(size, size, generator=generator, dtype=torch.float64) for _ in range(3000))
    found = lyapunov_exponents(maps)
    expected = (math.log(2) + torch.digamma(torch.arange(size, 0, -1, dtype=torch.float64) / 2)) / 2
    scores = (found.exponents - expected) / found.error
    assert float(scores.abs().max()) < 4.5
    assert float(found.error.max()) < 0.05


@pytest.mark.parametrize("name", ["sgd", "sgd:momentum=0.9", "adamw:weight_decay=0.1"])
def test_the_trajectory_is_the_one_that_torch_takes(name: str) -> None:
    model, objective = small_problem(dtype=torch.float64)
    optimizer = es.OPTIMIZERS.build(name).build(model.parameters(), lr=0.05)
    weights = objective.parameters()
    jacobians = list(trajectory(objective, optimizer=optimizer, steps=5))
    assert torch.equal(objective.parameters(), weights)
    assert not optimizer.state
    for jacobian in jacobians:
        live = es.optim.update_jacobian(es.rule_for(optimizer, objective.tensors), objective)
        unit = torch.eye(live.size, dtype=torch.float64)
        torch.testing.assert_close(jacobian @ unit, live @ unit, rtol=1e-7, atol=1e-9)
        for tensor, piece in zip(objective.tensors, objective.layout.split(objective.gradient()), strict=True):
            tensor.grad = piece.clone()
        optimizer.step()


def test_mini_batches_of_a_trajectory_are_drawn_by_their_seed() -> None:
    _, objective = small_problem()
    runs = [lyapunov_exponents(objective, 2, lr=0.1, steps=12, batch_size=6, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(runs[0].growth, runs[1].growth)
    assert not torch.allclose(runs[0].growth, runs[2].growth)
    whole = lyapunov_exponents(objective, 2, lr=0.1, steps=12, batch_size=24)
    torch.testing.assert_close(whole.growth, lyapunov_exponents(objective, 2, lr=0.1, steps=12).growth)
    assert runs[0].growth.dtype == torch.float64


def test_a_tracker_in_the_callers_own_loop_sees_the_same() -> None:
    model, objective = small_problem(dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    expected = lyapunov_exponents(objective, 3, optimizer=copy.copy(optimizer), steps=8, warmup=1)
    tracker = LyapunovTracker(3, warmup=1)
    for _ in range(9):
        tracker.update(es.optim.update_jacobian(es.rule_for(optimizer, objective.tensors), objective))
        for tensor, piece in zip(objective.tensors, objective.layout.split(objective.gradient()), strict=True):
            tensor.grad = piece.clone()
        optimizer.step()
    torch.testing.assert_close(tracker.result().exponents, expected.exponents)
    assert expected.size == 2 * objective.size


def test_the_first_step_of_momentum_is_singular_and_its_warmup_is_not() -> None:
    model, objective = small_problem(dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    with pytest.raises(InputError, match=r"step 1 is singular.*warmup="):
        lyapunov_exponents(objective, optimizer=optimizer, steps=3)
    found = lyapunov_exponents(objective, optimizer=optimizer, steps=30, warmup=1)
    assert float(found.exponents.sum()) == pytest.approx(
        objective.size * math.log(0.5)
    )  # every mode has determinant beta


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda o: lyapunov_exponents(o, lr=0.1), "an Objective without steps"),
        (lambda o: lyapunov_exponents(o, steps=3), "neither lr nor optimizer"),
        (lambda o: lyapunov_exponents(o, steps=3, lr=-1.0), "lr=-1"),
        (lambda o: lyapunov_exponents(o, steps=3, lr=0.1, batch_size=25), "batch size of 25.*1 to 24"),
        (lambda o: lyapunov_exponents(o, 100, steps=3, lr=0.1), "100 exponents of a map on 26"),
        (lambda o: lyapunov_exponents(o, 0, steps=3, lr=0.1), "k=0"),
        (lambda o: lyapunov_exponents(o, steps=3, lr=0.1, warmup=-1), "warmup=-1"),
        (lambda o: lyapunov_exponents([torch.eye(2)], lr=0.1), "lr, optimizer, steps or batch_size with Jacobians"),
        (lambda o: lyapunov_exponents([torch.ones(2, 3)]), r"shape \(2, 3\)"),
        (lambda o: lyapunov_exponents([torch.eye(2), torch.eye(3)]), "size 3 after Jacobians of size 2"),
        (lambda o: lyapunov_exponents([torch.zeros(2, 2)]), "step 1 is singular"),
        (lambda o: lyapunov_exponents([torch.full((2, 2), math.nan)]), "step 1 is not finite"),
        (lambda o: lyapunov_exponents([torch.eye(2)], warmup=1), "1 steps with a warmup of 1"),
        (lambda o: lyapunov_exponents([]), "0 steps"),
        (lambda o: lyapunov_exponents(3), "int"),
    ],
)
def test_bad_trajectories_are_one_clear_line(call: Callable[[es.Objective], object], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        call(small_problem()[1])
    assert "\n" not in str(caught.value)


def test_parameters_that_diverge_are_said_so() -> None:
    model = torch.nn.Linear(1, 1, bias=False).double()
    objective = es.Objective(model, lambda m, x: m(x).pow(4).mean(), torch.full((4, 1), 100.0).double(), threads=1)
    with pytest.raises(InputError, match=r"diverge|not finite"):
        lyapunov_exponents(objective, lr=10.0, steps=20)
