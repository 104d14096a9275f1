"""A deep linear mode: against tables, 60-digit roots, dense Hessians, quadrature and integrated flows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp
from scipy.optimize import minimize_scalar

import edgescope as es
from edgescope.errors import InputError
from edgescope.theory.deep_linear import Mode

TABLE = [  # s, critical decay, coexistence decay, critical product, coexistence product
    (1.0, 0.472470, 0.396850, 0.25, 0.5),
    (0.9, 0.410549, 0.344839, 0.225, 0.45),
]
STATES = [  # at s = 1: decay, w of the saddle, p of the minimum, barriers up and down
    (0.10, 0.100100, 0.896283, 0.000501, 0.355682),
    (0.30, 0.309132, 0.654465, 0.013898, 0.114990),
    (0.396850, 0.431526, 0.5, 0.033721, 0.033721),
]
FRACTIONS = [1e-9, 1e-4, 0.1, 0.5, 0.81, 0.82, 0.9, 0.99, 1 - 1e-4, 1 - 1e-6, 1 - 1e-8]


@pytest.mark.parametrize(("signal", "critical", "coexistence", "p_critical", "p_coexistence"), TABLE)
def test_the_table_of_transitions(
    signal: float, critical: float, coexistence: float, p_critical: float, p_coexistence: float
) -> None:
    mode = es.theory.deep_linear.Mode(depth=3, signal=signal)
    assert mode.critical_decay() == pytest.approx(critical, abs=1e-6)
    assert mode.coexistence_decay() == pytest.approx(coexistence, abs=1e-6)
    assert mode.critical_product() == pytest.approx(p_critical, rel=1e-14)
    assert mode.coexistence_product() == pytest.approx(p_coexistence, rel=1e-14)


@pytest.mark.parametrize(("decay", "w_saddle", "p_minimum", "up", "down"), STATES)
def test_the_table_of_states(decay: float, w_saddle: float, p_minimum: float, up: float, down: float) -> None:
    mode = Mode(3, 1.0)
    found = mode.saddle(decay), mode.minimum_product(decay), mode.barrier_up(decay), mode.barrier_down(decay)
    assert found == pytest.approx((w_saddle, p_minimum, up, down), abs=1.1e-6)


def test_the_tables_other_figures() -> None:
    mode = Mode(3, 1.0)
    assert mode.loop_area() == pytest.approx(0.338303, abs=1e-6)
    assert [Mode(3, s).loop_area(0.01) for s in (1, 0.6, 0.4)] == pytest.approx([0.3284, 0.0968, 0.0360], abs=6e-5)
    assert mode.saddle_curvature(0.3) == pytest.approx(0.272603, abs=1e-6)
    assert mode.kramers_time(0.3, 0.0031) == pytest.approx(972.5, abs=0.1)
    for depth, ratio in ((3, 0.8399), (6, 0.5291)):
        mode = Mode(depth, 0.7)
        assert mode.coexistence_decay() / mode.critical_decay() == pytest.approx(ratio, abs=1e-4)


def exact_states(depth: int, signal: float, variance: float, decay: float) -> dict[str, mp.mpf]:
    """By bisection of the stationarity condition in 60 digits, energies from their definition."""
    with mp.workdps(60):
        s, v, beta = mp.mpf(signal), mp.mpf(variance), mp.mpf(decay)
        root = mp.mpf(1) / depth

        def slope(w: mp.mpf) -> mp.mpf:
            return depth * (beta * w - (s - v * w**depth) * w ** (depth - 1))

        def energy(w: mp.mpf) -> mp.mpf:
            return v * (s / v - w**depth) ** 2 / 2 + depth * beta * w**2 / 2

        middle, end = (s / v * (depth - 2) / (2 * depth - 2)) ** root, (s / v) ** root
        low, high = mp.mpf(10) ** -60, middle
        for _ in range(400):
            half = mp.sqrt(low * high)
            low, high = (half, high) if slope(half) > 0 else (low, half)
        saddle, low, high = low, middle, end
        for _ in range(220):
            half = (low + high) / 2
            low, high = (half, high) if slope(half) < 0 else (low, half)
        return {
            "saddle": saddle,
            "saddle_product": saddle**depth,
            "minimum": low,
            "minimum_product": low**depth,
            "barrier_up": energy(saddle) - energy(mp.mpf(0)),
            "barrier_down": energy(saddle) - energy(low),
            "saddle_curvature": (depth - 2) * beta - depth * v * saddle ** (2 * depth - 2),
        }


@pytest.mark.parametrize("depth", [3, 4, 5, 6])
@pytest.mark.parametrize(("signal", "variance"), [(1e-3, 1.0), (0.8, 1.0), (1.3, 0.3), (1e3, 1.0), (40.0, 7.0)])
def test_states_and_barriers_to_the_ends_of_their_branches(depth: int, signal: float, variance: float) -> None:
    mode = Mode(depth, signal, variance)
    decays = mode.critical_decay() * np.array(FRACTIONS)
    exact = [exact_states(depth, signal, variance, decay) for decay in decays]
    for name in exact[0]:
        found = getattr(mode, name)(decays)
        sensitive = name in ("barrier_down", "saddle_curvature")
        for fraction, value, states in zip(FRACTIONS, found, exact, strict=True):
            allowed = 1e-13 / (1 - fraction) ** 0.5 if sensitive else 1e-13
            assert abs(value - states[name]) <= allowed * abs(states[name]), (name, fraction)


@pytest.mark.parametrize("depth", [3, 4, 6])
@pytest.mark.parametrize("signal", [1e-3, 0.9, 1e3])
def test_at_the_critical_decay_saddle_and_minimum_meet(depth: int, signal: float) -> None:
    mode = Mode(depth, signal)
    end = mode.critical_decay()
    assert mode.saddle_product(end) == pytest.approx(mode.critical_product(), rel=1e-14)
    assert mode.minimum_product(end) == pytest.approx(mode.critical_product(), rel=1e-14)
    assert mode.barrier_down(end) == 0
    assert mode.descent_slope(end, residual=0.5) == 0
    assert mode.barrier_up(end) > 0
    p = np.linspace(0, signal, 100_001)[1:]
    highest = (signal - p) * p ** (1 - 2 / depth)  # the decay at which p is stationary: the branch ends at its top
    assert end == pytest.approx(highest.max(), rel=1e-8)


@pytest.mark.parametrize("depth", [3, 4, 5])
@pytest.mark.parametrize("signal", [0.2, 1.0, 30.0])
def test_at_the_coexistence_decay_the_energies_are_equal(depth: int, signal: float) -> None:
    mode = Mode(depth, signal)
    decay = mode.coexistence_decay()
    assert mode.minimum_product(decay) == pytest.approx(mode.coexistence_product(), rel=1e-12)
    assert mode.energy(mode.minimum(decay), decay) == pytest.approx(mode.energy(0.0, decay), rel=1e-12)
    assert mode.barrier_up(decay) == pytest.approx(mode.barrier_down(decay), rel=1e-10)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("signal", "variance"), [(0.7, 1.0), (1.3, 0.4)])
def test_shallow_modes_have_one_minimum(depth: int, signal: float, variance: float) -> None:
    mode = Mode(depth, signal, variance)
    for decay in (0.01, 0.3, 0.69, 1.5):
        lowest = minimize_scalar(
            lambda w, decay=decay: mode.energy(w, decay), bounds=(0, 5), method="bounded", options={"xatol": 1e-10}
        )
        assert mode.minimum(decay) == pytest.approx(lowest.x, abs=1e-6)
        assert mode.minimum(decay) ** depth == pytest.approx(mode.minimum_product(decay))
    assert mode.loop_area() == 0
    if depth == 2:
        assert mode.critical_decay() == mode.coexistence_decay() == pytest.approx(signal)
        assert mode.critical_product() == mode.coexistence_product() == 0


@pytest.mark.parametrize(("depth", "order"), [(1, 0), (2, 2), (3, 1), (7, 1)])
def test_order_of_the_transition(depth: int, order: int) -> None:
    assert Mode(depth, 1.0).order() == Mode(depth, 1.0).order(0.2) == order
    assert Mode(depth, 1.0).order([0.1, 0.9]).tolist() == [order, order]


@pytest.mark.parametrize("depth", [3, 4, 5])
@pytest.mark.parametrize(("signal", "variance", "share"), [(1.0, 1.0, 0.3), (0.5, 2.0, 0.9), (2.0, 0.7, 0.99)])
def test_curvatures_of_the_chain_and_the_time_that_follows(
    depth: int, signal: float, variance: float, share: float
) -> None:
    mode = Mode(depth, signal, variance)
    decay = share * mode.critical_decay()

    def loss(w: torch.Tensor) -> torch.Tensor:
        return variance / 2 * (signal / variance - w.prod()) ** 2 + decay / 2 * (w**2).sum()

    def curvatures(w: float) -> np.ndarray:
        point = torch.full((depth,), w, dtype=torch.float64)
        assert torch.autograd.functional.jacobian(loss, point).abs().max() < 1e-12 * signal**2 + 1e-12
        return torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, point)).numpy()

    saddle, origin = curvatures(mode.saddle(decay)), np.full(depth, decay)
    assert saddle == pytest.approx([-mode.saddle_curvature(decay)] + [2 * decay] * (depth - 1), rel=1e-9)
    assert curvatures(mode.minimum(decay)).min() > 0
    height = float(
        loss(torch.full((depth,), mode.saddle(decay), dtype=torch.float64))
        - loss(torch.zeros(depth, dtype=torch.float64))
    )
    for temperature in (height / 10, height):
        rate = -saddle[0] / (2 * np.pi) * np.sqrt(origin.prod() / abs(saddle.prod())) * np.exp(-height / temperature)
        expected = 1 / (2 ** (depth - 1) * rate)
        assert mode.kramers_time(decay, temperature) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("depth", "signal", "variance"), [(3, 1.0, 1.0), (3, 0.4, 2.0), (4, 5.0, 1.0), (6, 0.9, 0.5)])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.9])
def test_loop_area_is_the_integral_of_the_learned_branch(
    depth: int, signal: float, variance: float, share: float
) -> None:
    mode = Mode(depth, signal, variance)
    end = mode.critical_decay()
    area, _ = quad(lambda u: 2 * u * end * mode.minimum_product(end * (1 - u * u)), 0, np.sqrt(1 - share), epsrel=1e-11)
    assert mode.loop_area(share * end) == pytest.approx(area, rel=1e-9)


@pytest.mark.parametrize(("depth", "signal", "variance"), [(3, 1.0, 1.0), (4, 0.8, 1.0), (3, 0.6, 2.0)])
def test_plateau_time_is_when_the_full_flow_takes_off(depth: int, signal: float, variance: float) -> None:
    mode, decay = Mode(depth, signal, variance), 1e-4
    for kappa in (1.05, 1.5, 4.0):
        w0 = (kappa * decay / signal) ** (1 / (depth - 2))

        def half(_: float, w: np.ndarray) -> float:
            return w[0] - (0.5 * signal / variance) ** (1 / depth)

        half.terminal = True  # type: ignore[attr-defined]
        flow = solve_ivp(
            lambda _, w: w ** (depth - 1) * (signal - variance * w**depth) - decay * w,
            (0, 1e6),
            [w0],
            method="LSODA",
            events=half,
            rtol=1e-10,
            atol=1e-14,
        )
        # What the leading order leaves out lasts 1/(s w^(D-2)) at w of order one, against 1/decay.
        assert mode.plateau_time(decay, w0) == pytest.approx(flow.t_events[0][0], abs=8 / signal)
    closed = quad(lambda w: 1 / (signal * w ** (depth - 1) - decay * w), w0, np.inf, epsabs=0, epsrel=1e-10)[0]
    assert mode.plateau_time(decay, w0) == pytest.approx(closed, rel=1e-8)


def test_plateau_without_end() -> None:
    mode = Mode(3, 1.0)
    assert mode.plateau_time(0.1, [0.05, 0.1, mode.saddle(0.1)]).tolist() == [np.inf] * 3
    assert mode.plateau_time(0.5, 0.9) == np.inf  # past the critical decay nothing is learned
    assert mode.plateau_time(0.01, 0.02) == pytest.approx(100 * np.log(2))


@pytest.mark.parametrize(("depth", "signal", "variance"), [(3, 0.9, 1.0), (3, 1.0, 1.0), (4, 0.8, 0.9), (3, 0.5, 0.4)])
def test_descent_slope_from_the_noise_of_single_samples(depth: int, signal: float, variance: float) -> None:
    mode, best = Mode(depth, signal, variance), signal / variance
    unexplained = max(0.0, 1 - signal * best)
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    x, weights = nodes * np.sqrt(variance), weights / weights.sum()

    for decay in (0.02 * mode.critical_decay(), 0.7 * mode.critical_decay(), 0.999 * mode.critical_decay()):

        def pull_over_noise(w: float, decay: float = decay) -> float:
            """-E'(w) over the temperature of the common weight, whose drift is E' / D, times batch / lr."""
            x_and_noise = [
                (xi, np.sqrt(unexplained) * sign, wi / 2) for xi, wi in zip(x, weights, strict=True) for sign in (-1, 1)
            ]
            gradients = [-((best - w**depth) * xi + noise) * xi * w ** (depth - 1) for xi, noise, _ in x_and_noise]
            chances = [chance for *_, chance in x_and_noise]
            mean = np.dot(gradients, chances)
            noise = np.dot(np.square(gradients), chances) - mean**2
            return -(mean + decay * w) / (noise / 2)

        expected, _ = quad(pull_over_noise, mode.saddle(decay), mode.minimum(decay), epsrel=1e-9, limit=200)
        assert mode.descent_slope(decay) == pytest.approx(expected, rel=1e-7)
        assert mode.descent_slope(decay, residual=unexplained) == pytest.approx(expected, rel=1e-7)


METHODS: list[Callable[[Mode, Any], Any]] = [
    Mode.saddle,
    Mode.saddle_product,
    Mode.minimum,
    Mode.minimum_product,
    Mode.barrier_up,
    Mode.barrier_down,
    Mode.saddle_curvature,
    Mode.descent_slope,
    lambda mode, decay: mode.energy(0.5, decay),
    lambda mode, decay: mode.kramers_time(decay, 0.01),
    lambda mode, decay: mode.plateau_time(decay, 0.6),
]


@pytest.mark.parametrize("method", METHODS, ids=range(len(METHODS)))
def test_any_shape_of_decay(method: Callable[[Mode, Any], Any]) -> None:
    mode = Mode(depth=3, signal=0.9)
    for number in (0.2, np.float32(0.2), np.array(0.2), torch.tensor(0.2)):
        assert type(method(mode, number)) is float
    decays = np.array([[0.1, 0.2, 0.3], [0.4, 0.05, 0.35]])
    values = method(mode, decays)
    assert values.dtype == np.float64
    assert values == pytest.approx(np.array([[method(mode, float(decay)) for decay in row] for row in decays]))
    assert method(mode, decays.tolist()).tolist() == values.tolist()
    assert method(mode, np.empty((2, 0))).shape == (2, 0)


def test_two_arguments_are_broadcast() -> None:
    mode, decays, others = Mode(3, 1.0), np.array([[0.1], [0.2]]), np.array([0.01, 0.02, 0.5])
    for method in (mode.kramers_time, mode.plateau_time, lambda decay, w: mode.energy(w, decay)):
        values = method(decays, others)
        assert values.shape == (2, 3)
        assert values[1, 2] == method(0.2, 0.5)


def test_what_float64_cannot_hold_is_infinite() -> None:
    assert Mode(3, 1.0).kramers_time(0.3, 1e-6) == np.inf
    assert Mode(6, 1.0).energy(1e200, 0.1) == np.inf


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: Mode(0, 1.0), "depth is 0"),
    (lambda: Mode(2.5, 1.0), "depth is 2.5"),  # type: ignore[arg-type]
    (lambda: Mode(3, 0.0), "signal is 0"),
    (lambda: Mode(3, -1.0), "signal is -1"),
    (lambda: Mode(3, float("nan")), "signal is nan"),
    (lambda: Mode(3, 1.0, 0.0), "variance is 0"),
    (lambda: Mode(3, 1.0).minimum(0), "decay is 0; expected positive"),
    (lambda: Mode(3, 1.0).minimum([[0.1, 0.2], [-0.3, 0.4]]), r"decay\[1, 0\] is -0.3"),
    (lambda: Mode(3, 1.0).saddle([0.1, 0.5, 0.6]), r"decay\[1\] is 0.5; expected at most the critical decay 0.47247"),
    (lambda: Mode(3, 1.0).minimum(0.4724704), "at most the critical decay 0.4724703937 for a learned state"),
    (lambda: Mode(3, 1.0).minimum(float("inf")), "decay is inf"),
    (lambda: Mode(3, 1.0).minimum("a"), "decay is 'a'"),
    (lambda: Mode(2, 1.0).saddle(0.1), "depth 2 has no saddle"),
    (lambda: Mode(2, 1.0).plateau_time(0.1, 0.1), "depth 2 has no plateau"),
    (lambda: Mode(1, 1.0).critical_decay(), "depth 1 has no critical decay"),
    (lambda: Mode(1, 1.0).coexistence_decay(), "depth 1 has no coexistence decay"),
    (lambda: Mode(3, 1.0).kramers_time(0.3, [0.1, 0.0]), r"temperature\[1\] is 0"),
    (lambda: Mode(3, 1.0).kramers_time(Mode(3, 1.0).critical_decay(), 0.1), "less than the critical decay"),
    (lambda: Mode(3, 1.0).plateau_time(0.1, -0.1), "w0 is -0.1"),
    (lambda: Mode(3, 1.0).energy(float("nan"), 0.1), "w is nan"),
    (lambda: Mode(3, 1.0).loop_area(-0.1), "lowest decay is -0.1"),
    (lambda: Mode(3, 1.0).loop_area(0.5), "at most the critical decay"),
    (lambda: Mode(3, 2.0).descent_slope(0.1), "residual variance -3"),
    (lambda: Mode(3, 1.0).descent_slope(0.1, residual=-1), "residual variance -1"),
    (lambda: Mode(3, 1.0).order(-1), "decay is -1"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=range(len(BAD)))
def test_bad_input_is_named_in_one_line(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
