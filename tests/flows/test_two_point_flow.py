"""The two-point flow against closed forms, and against two runs of the optimizer itself; resuming; what it refuses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from flow_problems import function_of, network, quadratic, valley
from torch import Tensor, nn

import edgescope as es
from edgescope.errors import EdgescopeError, InputError, NotKnownError
from edgescope.flows import OscillationOnset, StableFlow, TwoPointFlow
from edgescope.optim import OPTIMIZERS, SAM, Langevin, SteepestDescent


def sgd(objective: es.Objective, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(objective.model.parameters(), **{"lr": 0.1} | options)


def positive(seed: int, size: int) -> Tensor:
    A = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return A @ A.T / size + torch.eye(size, dtype=torch.float64)


def two_cycle(name: str) -> tuple[es.Objective, torch.optim.Optimizer, Tensor]:
    """A quadratic, an optimizer and a δ that obeys 2δ = η D(Hδ), worked out by hand in each norm."""
    H, zero = positive(0, 4), torch.zeros(4, dtype=torch.float64)
    if name == "euclidean":
        values, vectors = torch.linalg.eigh(H)
        return (o := quadratic(H, zero)), sgd(o, lr=2 / float(values[-1])), 0.3 * vectors[:, -1]
    if name == "preconditioned":
        p = torch.tensor([1.0, 2.0, 0.5, 4.0], dtype=torch.float64)
        values, vectors = torch.linalg.eigh(H / (p[:, None] * p[None]).sqrt())
        geometry = es.geometry.Diagonal(p)
        o = quadratic(H, zero)
        return o, SteepestDescent(o.tensors, lr=2 / float(values[-1]), geometry=geometry), vectors[:, -1] / p.sqrt()
    s = torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    if name == "linf":  # H s has the signs of s
        H = torch.eye(4, dtype=torch.float64) + 0.2 * s.outer(s)
        o = quadratic(H, zero)
        return o, SteepestDescent(o.tensors, lr=2 / float(s @ H @ s), geometry="linf"), 0.3 * s
    if name == "sign":  # normalized: whatever the curvature, δ is half the step
        o = quadratic(torch.eye(4, dtype=torch.float64), zero)
        return o, SteepestDescent(o.tensors, lr=0.1, geometry="linf", normalized=True), 0.05 * s
    if name == "spectral":  # D of an orthogonal matrix is its rank times itself
        o = quadratic(3 * torch.eye(4, dtype=torch.float64), zero.view(2, 2))
        turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
        return o, SteepestDescent(o.tensors, lr=2 / (3 * 2), geometry="spectral"), 0.3 * turn.flatten()
    o = function_of(lambda a, b: 2.0 * a.square().sum() + 0.5 * b.square().sum(), zero[:2], zero[:2])
    return o, SteepestDescent(o.tensors, lr=0.5, geometry="blocks"), torch.tensor([0.3, 0.1, 0.0, 0.0]).double()


@pytest.mark.parametrize("name", ["euclidean", "preconditioned", "linf", "sign", "spectral", "blocks"])
@pytest.mark.parametrize("substeps", [1, 4])
def test_a_two_cycle_of_a_quadratic_is_stationary(name: str, substeps: int) -> None:
    objective, optimizer, delta = two_cycle(name)
    flow = TwoPointFlow(objective, optimizer, substeps, start=(-delta, delta), noise=0)
    for _ in range(3):
        step = flow.step(loss=True)
    torch.testing.assert_close(flow.delta, delta, rtol=1e-12, atol=1e-14)
    assert float(flow.weights.norm()) < 1e-14
    assert step.half_distance == pytest.approx(float(delta.norm()))
    assert step.predicted_loss == pytest.approx(float(objective.loss(delta)))
    assert step.loss == pytest.approx(0.0, abs=1e-28)
    assert step.drift < 1e-14


def test_the_scalar_model_rests_at_the_threshold() -> None:
    """L = y x²/2 - a y: y = 2/η and δ² = 2a."""
    a, lr = 1e-4, 0.1
    start = torch.tensor([0.0, 2 / lr], dtype=torch.float64)
    delta = torch.tensor([math.sqrt(2 * a), 0.0], dtype=torch.float64)
    objective = valley(a, 0.0, 2 / lr)
    flow = TwoPointFlow(objective, sgd(objective, lr=lr), start=(start - delta, start + delta), noise=0)
    for _ in range(5):
        step = flow.step()
    torch.testing.assert_close(flow.weights, start, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(flow.delta, delta, rtol=1e-12, atol=1e-14)
    assert step.predicted_loss == pytest.approx((2 / lr) / 2 * 2 * a - a * 2 / lr, abs=1e-12)


def test_away_from_rest_the_scalar_model_has_the_same_means() -> None:
    """Along an orbit around the fixed point, d ln δ/dt = ηy - 2 and dy/dt = -(η/2)(δ² - 2a) both average to zero."""
    a, lr = 0.1, 0.1
    start = torch.tensor([0.0, 2 / lr], dtype=torch.float64)
    delta = torch.tensor([1.3 * math.sqrt(2 * a), 0.0], dtype=torch.float64)
    objective = valley(a, 0.0, 2 / lr)
    flow = TwoPointFlow(objective, sgd(objective, lr=lr), 2, start=(start - delta, start + delta), noise=0)
    squares, sharpnesses = [], []
    for _ in range(round(2 * math.pi / (lr * math.sqrt(2 * a)))):
        squares.append(flow.step().half_distance ** 2)
        sharpnesses.append(float(flow.weights[1]))
    assert sum(squares) / len(squares) == pytest.approx(2 * a, rel=0.03)
    assert max(squares) > 1.5 * min(squares)
    assert sum(sharpnesses) / len(sharpnesses) == pytest.approx(2 / lr, rel=0.005)


def test_noise_keeps_the_half_distance_from_underflow() -> None:
    """Below the threshold δ' = (1 - dt (2 - η h)) (δ + noise): a stationary variance."""
    objective = quadratic(torch.eye(50, dtype=torch.float64), torch.zeros(50, dtype=torch.float64))
    flow = TwoPointFlow(objective, sgd(objective, lr=0.5), 2, noise=1e-3)
    squares = [flow.step().half_distance ** 2 for _ in range(45)][5:]
    factor = 1 - 0.5 * (2 - 0.5)
    assert sum(squares) / 40 == pytest.approx(factor**2 * 0.5e-6 / (1 - factor**2), rel=0.2)


CASES: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "sgd": lambda t: torch.optim.SGD([{"params": t[:2], "lr": 0.3}, {"params": t[2:]}], lr=0.9, weight_decay=0.01),
    "blocks": lambda t: SteepestDescent(t, lr=0.5, geometry="blocks"),
    "linf": lambda t: SteepestDescent(t, lr=0.05, geometry="linf", weight_decay=0.1),
    "sign": lambda t: SteepestDescent(t, lr=0.02, geometry="linf", normalized=True),
    "spectral": lambda t: SteepestDescent(t, lr=0.2, geometry="spectral"),
    "some": lambda t: torch.optim.SGD(t[:2], lr=0.5),
}


@pytest.mark.parametrize("name", ["sgd", "blocks", "linf", "sign", "spectral"])
def test_with_one_substep_it_is_two_runs(name: str) -> None:
    """The ends change places at every step, since δ is half of a difference that alternates."""
    objective = network()
    generator = torch.Generator().manual_seed(1)
    w = objective.parameters()
    offset = 0.1 * torch.randn(objective.size, generator=generator, dtype=torch.float64)
    runs = [copy.deepcopy(objective.model) for _ in range(2)]
    loss_fn, batch = objective.loss_fn, next(iter(objective._problem.batches))
    optimizers = []
    for run, start in zip(runs, (w - offset, w + offset), strict=True):
        torch.nn.utils.vector_to_parameters(start, run.parameters())
        optimizers.append(CASES[name](list(run.parameters())))
    flow = TwoPointFlow(objective, CASES[name](objective.tensors), 1, start=(w - offset, w + offset), noise=0)
    for number in range(4):
        result = flow.step()
        losses = []
        for run, optimizer in zip(runs, optimizers, strict=True):
            optimizer.zero_grad()
            loss_fn(run, batch).backward()
            optimizer.step()
            losses.append(float(loss_fn(run, batch).detach()))
        ends = [torch.nn.utils.parameters_to_vector(run.parameters()).detach() for run in runs]
        sign = (-1) ** (number + 1)
        torch.testing.assert_close(flow.weights - sign * flow.delta, ends[0], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(flow.weights + sign * flow.delta, ends[1], rtol=1e-10, atol=1e-12)
        assert result.predicted_loss == pytest.approx(sum(losses) / 2, rel=1e-10)


def test_parameters_that_the_optimizer_does_not_hold_stay() -> None:
    objective = network()
    flow = TwoPointFlow(objective, CASES["some"](objective.tensors), 4, noise=1e-3)
    before = flow.weights
    flow.step()
    size = sum(t.numel() for t in objective.tensors[:2])
    assert torch.equal(flow.weights[size:], before[size:])
    assert not torch.equal(flow.weights[:size], before[:size])
    assert not flow.delta[size:].any()
    assert flow.delta[:size].all()


def test_substeps_converge_to_the_flow() -> None:
    """Euler: halving the time step halves the error."""
    found = []
    for substeps in (8, 16, 32):
        objective = network()
        w = objective.parameters()
        offset = torch.linspace(-0.2, 0.2, objective.size, dtype=torch.float64)
        flow = TwoPointFlow(objective, sgd(objective, lr=0.5), substeps, start=(w - offset, w + offset), noise=0)
        for _ in range(3):
            flow.step()
        found.append(flow.weights)
    ratio = float((found[0] - found[1]).norm() / (found[1] - found[2]).norm())
    assert 1.7 < ratio < 2.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_resumed_it_continues_bit_for_bit(dtype: torch.dtype) -> None:
    objective = network(dtype=dtype)
    flow = TwoPointFlow(objective, sgd(objective), 3, seed=5)
    for _ in range(3):
        flow.step()
    saved = flow.state()
    other = network(dtype=dtype)
    resumed = TwoPointFlow(other, sgd(other), 3, seed=6)
    resumed.load_state(saved)
    for _ in range(3):
        one, two = flow.step(), resumed.step()
        assert (one.time, one.predicted_loss, one.half_distance) == (two.time, two.predicted_loss, two.half_distance)
    assert torch.equal(flow.weights, resumed.weights)
    assert torch.equal(flow.delta, resumed.delta)
    assert flow.delta.any()


def test_model_and_optimizer_are_not_changed_and_the_cost_is_two_gradients_a_substep() -> None:
    objective = network()
    model = objective.model.train()
    optimizer = SteepestDescent(model.parameters(), lr=0.02, geometry="spectral")
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = copy.deepcopy((model.state_dict(), [p.grad for p in model.parameters()], optimizer.state_dict()))
    random = torch.get_rng_state()
    flow = TwoPointFlow(objective, optimizer, 3)
    for number, (losses, step) in enumerate([(2, flow.step()), (3, flow.step(loss=True)), (2, flow.step())]):
        assert step.time == number + 1
        assert (step.cost.losses, step.cost.gradients, step.cost.products) == (losses, 6, 0)
        assert (step.loss is None) == (losses == 2)
    assert torch.equal(random, torch.get_rng_state())
    after = (model.state_dict(), [p.grad for p in model.parameters()], optimizer.state_dict())
    torch.testing.assert_close(after[:2], before[:2], rtol=0, atol=0)
    assert after[2] == before[2]
    assert model.training


def test_a_schedule_of_the_optimizer_is_followed() -> None:
    objective = network()
    optimizer = sgd(objective)
    flow = TwoPointFlow(objective, optimizer, 2, noise=0)
    optimizer.param_groups[0]["lr"] = 0.0
    assert flow.step().drift == 0


def test_opposed_entries_are_counted() -> None:
    """At rest in the two-cycle all entries that oscillate have gradients of opposite signs."""
    objective, optimizer, delta = two_cycle("linf")
    assert TwoPointFlow(objective, optimizer, 2, start=(-delta, delta)).step().opposed == 1
    objective, optimizer, delta = two_cycle("blocks")
    assert TwoPointFlow(objective, optimizer, 2, start=(-delta, delta), noise=0).step().opposed == 0.5


def test_a_flow_that_diverges_says_so_and_stays_where_it_was() -> None:
    objective = quadratic(torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    flow = TwoPointFlow(objective, sgd(objective, lr=1e200), 4)
    before = flow.state()
    with pytest.raises(EdgescopeError, match="diverged between the times 0 and 1"):
        flow.step()
    torch.testing.assert_close(flow.state(), before, rtol=0, atol=0)


@pytest.mark.slow
def test_it_follows_the_averaged_trajectory_of_sign_descent() -> None:
    """On digits, 59 steps from where the steps begin to point back: beside the stable flow, which is far off."""
    data = es.DATA.build("digits").load().subset(200, 300)
    model = es.MODELS.build("mlp:widths=32x32,activation=tanh").build(data.input_shape, 10, 0).double()
    batch = (data.inputs.double(), data.targets)
    objective = es.Objective(model, es.supervised(es.losses.half_mse), batch, threads=None)
    optimizer = SteepestDescent(objective.tensors, lr=1e-3, geometry="linf", normalized=True)
    run, onset = [objective.parameters()], OscillationOnset()
    losses = [float(objective.loss())]
    shapes = [tensor.numel() for tensor in objective.tensors]
    trained = copy.deepcopy(model)
    stepping = SteepestDescent(trained.parameters(), lr=1e-3, geometry="linf", normalized=True)
    while not onset.update(run[-1]) or len(run) <= onset.step + 60:
        for parameter, piece in zip(trained.parameters(), objective.gradient(run[-1]).split(shapes), strict=True):
            parameter.grad = piece.view(parameter.shape)
        stepping.step()
        run.append(torch.nn.utils.parameters_to_vector(trained.parameters()).detach())
        losses.append(float(objective.loss(run[-1])))
    first = onset.step
    mean = (run[first + 58] + run[first + 59]) / 2
    flow = TwoPointFlow(objective, optimizer, 4, start=onset.pair)
    stable = StableFlow(objective, optimizer, 4, start=(onset.pair[0] + onset.pair[1]) / 2)
    steps = [(flow.step(), stable.step()) for _ in range(59)]
    assert float((flow.weights - mean).norm()) < 0.5 * float((stable.weights - mean).norm())
    seen = sum(losses[first + 19 : first + 59]) / 40
    off = [
        abs(sum(values[19:]) / 40 / seen - 1)
        for values in zip(*((a.predicted_loss, b.loss) for a, b in steps), strict=True)
    ]
    assert off[0] < 0.05
    assert off[1] > 0.2


def dropout() -> es.Objective:
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)).double()
    x = torch.ones(4, 3, dtype=torch.float64)
    return es.Objective(model, es.supervised(nn.functional.mse_loss), (x, x[:, :2]))


def asked(optimizer: Callable[[list[Tensor]], Any], **options: Any) -> Callable[[], Any]:
    def ask() -> None:
        objective = network()
        TwoPointFlow(objective, optimizer(objective.tensors), **options)

    return ask


def loaded(state: Any) -> Callable[[], Any]:
    def ask() -> None:
        objective = network()
        TwoPointFlow(objective, sgd(objective)).load_state(state)

    return ask


def plain(tensors: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(tensors, lr=0.1)


@pytest.mark.parametrize(
    ("ask", "kind", "names"),
    [
        (asked(lambda t: torch.optim.SGD(t, lr=0.1, momentum=0.9)), NotKnownError, "SGD, which keeps momentum_buffer"),
        (asked(lambda t: torch.optim.Adam(t)), NotKnownError, "Adam, which keeps exp_avg"),
        (asked(lambda t: SAM(t, OPTIMIZERS.build("sgd").make, lr=0.1)), NotKnownError, "2 gradients a step"),
        (asked(lambda t: Langevin(t, lr=0.1, temperature=0.1)), NotKnownError, "Langevin, whose steps are random"),
        (asked(lambda t: torch.optim.LBFGS(t)), NotKnownError, "LBFGS"),
        (asked(plain, substeps=0), InputError, "substeps=0"),
        (asked(plain, substeps=1.5), InputError, "substeps=1.5"),
        (asked(plain, noise=-1.0), InputError, "noise=-1"),
        (asked(plain, start=torch.zeros(3)), InputError, "two successive iterates"),
        (asked(plain, start=(torch.zeros(3), torch.zeros(3))), InputError, "shape (3,)"),
        (asked(plain, start=(torch.full((26,), math.nan),) * 2), InputError, "not finite"),
        (lambda: TwoPointFlow(dropout(), plain([torch.ones(1)])), InputError, "dropout (p=0.5 in '1')"),
        (lambda: TwoPointFlow(nn.Linear(1, 1), plain([torch.ones(1)])), InputError, "expected an Objective"),
        (lambda: TwoPointFlow(iter([network()]), plain([torch.ones(1)])), InputError, "mini-batches is not known"),
        (loaded(3), InputError, "result of state()"),
        (loaded({}), InputError, "without 'weights'"),
    ],
)
def test_bad_input_is_one_line(ask: Callable[[], Any], kind: type[EdgescopeError], names: str) -> None:
    with pytest.raises(kind) as caught:
        ask()
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)
