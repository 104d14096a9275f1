"""Diagonal networks: the table, brute force over vertices and lines, autograd Hessians, plain loops, other solvers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import brentq, linprog, minimize_scalar

import edgescope as es
from edgescope.errors import InputError
from edgescope.theory.diagonal import Problem

TARGET = np.array([0.5, 1.0])
ROWS = [  # lr over the measured critical lr; S, squared l2 norm, l1 norm, risk
    (0.6, 15.99, 1.001, 1.046, 1.245),
    (1.05, 15.19, 1.102, 1.399, 0.793),
]


def several(seed: int, samples: int, inputs: int, positive: bool) -> tuple[np.ndarray, np.ndarray]:
    """Samples that some beta >= 0, with about half of its entries zero, interpolates."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((samples, inputs))
    X = np.abs(X) if positive else X
    return X, X @ np.maximum(rng.standard_normal(inputs), 0) + X[:, 0]


def top_eigenvalue(X: np.ndarray, beta: np.ndarray) -> float:
    return float(4 / len(X) * np.linalg.eigvalsh((X * beta) @ X.T)[-1])


@pytest.fixture(scope="module")
def golden() -> Problem:
    return es.theory.diagonal.Problem([2, 1], 2)


def test_closed_forms_of_the_golden_problem(golden: Problem) -> None:
    assert golden.norm_minimizer().tolist() == [1, 0]
    assert golden.sharpness_minimizer().tolist() == [0, 2]
    assert golden.critical_lr() == pytest.approx(0.125, rel=1e-14)
    assert golden.largest_stable_lr() == pytest.approx(0.25, rel=1e-14)
    optimum = golden.optimum(TARGET)
    assert optimum.interior
    assert optimum.beta == pytest.approx(TARGET)
    assert optimum.lr == pytest.approx(1 / 6)
    assert optimum.risk == pytest.approx(0, abs=1e-25)


def test_the_table_of_learning_rates(golden: Problem) -> None:
    flow = golden.gradient_flow(scale=1e-3)
    assert flow.max_sharpness == pytest.approx(15.996, abs=5e-4)
    assert flow.critical_lr == pytest.approx(0.12503, abs=5e-6)
    rates = np.array([row[0] for row in ROWS] + [1.8, 1.95, 2.5]) * flow.critical_lr
    run = golden.descend(rates, scale=1e-3, tol=1e-12, max_steps=2_000_000)
    assert run.status.tolist() == ["converged"] * 3 + ["unfinished", "diverged"]
    risks = golden.risk(run.beta, TARGET)
    for i, row in enumerate(ROWS):
        found = run.sharpness[i], run.squared_l2_norm[i], run.l1_norm[i], risks[i]
        assert found == pytest.approx(row[1:], rel=1e-3)
    gap = 1 - run.sharpness[2] * rates[2] / 2
    assert 0 < gap < 0.12
    assert run.sharpness[2] * run.squared_l2_norm[2] >= 16
    assert run.steps[3] == 2_000_000
    assert run.loss[4] == run.sharpness[4] == np.inf


def test_the_sensitive_row_at_exactly_its_rate(golden: Problem) -> None:
    run = golden.descend(0.225)
    found = run.sharpness, run.squared_l2_norm, run.l1_norm, golden.risk(run.beta, TARGET)
    assert found == pytest.approx((8.674, 1.916, 1.644, 0.864), abs=6e-4)


@settings(max_examples=60)
@given(
    st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=6, unique=True),
    st.floats(1e-3, 1e3),
    st.lists(st.floats(0, 1), min_size=6, max_size=6),
)
def test_one_sample(x: list[float], y: float, shares: list[float]) -> None:
    problem, x_ = Problem(x, y), np.array(x)
    norm, sharp = problem.norm_minimizer(), problem.sharpness_minimizer()
    assert norm[np.argmax(x)] == pytest.approx(y / max(x))
    assert sharp[np.argmin(x)] == pytest.approx(y / min(x))
    assert np.count_nonzero(norm) == np.count_nonzero(sharp) == 1
    assert problem.critical_lr() == pytest.approx(1 / (2 * y * max(x)))
    assert problem.largest_stable_lr() == pytest.approx(1 / (2 * y * min(x)))
    masses = np.array(shares[: len(x)]) + 1e-3
    beta = masses / masses.sum() * y / x_  # any interpolator
    assert problem.sharpness(beta) == pytest.approx(4 * x_**2 @ beta)
    assert problem.sharpness(beta) * beta.sum() >= 4 * y**2 * (1 - 1e-9)
    assert norm.sum() <= beta.sum() * (1 + 1e-9)
    assert problem.sharpness(sharp) <= problem.sharpness(beta) * (1 + 1e-9)


def test_one_sample_of_any_sign_and_with_equal_inputs() -> None:
    problem = Problem([3.0, -2.0, -1.0, 0.0], -1.0)
    assert problem.norm_minimizer().tolist() == [0, 0.5, 0, 0]
    assert problem.sharpness_minimizer().tolist() == [0, 0, 1, 0]
    assert Problem([2.0, 2.0, 1.0], 4.0).norm_minimizer().tolist() == [1, 1, 0]
    flow = Problem([2.0, 2.0, 1.0], 4.0).gradient_flow(1e-6)
    assert flow.beta == pytest.approx([1, 1, 0], abs=1e-5)
    zero = Problem([1.0, 2.0], 0.0)
    assert zero.norm_minimizer().tolist() == zero.sharpness_minimizer().tolist() == [0, 0]
    assert zero.critical_lr() == np.inf


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("samples", "inputs"), [(1, 3), (3, 5), (6, 4)])
def test_sharpness_is_that_of_the_autograd_hessian(seed: int, samples: int, inputs: int) -> None:
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((samples, inputs)), rng.standard_normal(samples)
    betas = rng.exponential(size=(2, 3, inputs))
    betas[0, 0, 0] = 0
    found = Problem(X, y).sharpness(betas)
    assert found.shape == (2, 3)

    def loss(w: torch.Tensor) -> torch.Tensor:
        return ((torch.tensor(X) @ w**2 - torch.tensor(y)) ** 2).mean() / 2

    for at in np.ndindex(2, 3):
        H = torch.autograd.functional.hessian(loss, torch.tensor(betas[at]).sqrt())
        assert found[at] == pytest.approx(float(torch.linalg.eigvalsh(H).abs().max()), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize(("samples", "inputs"), [(2, 3), (3, 6), (4, 7)])
def test_norm_minimizer_is_the_best_vertex(seed: int, positive: bool, samples: int, inputs: int) -> None:
    X, y = several(seed, samples, inputs, positive)
    beta = Problem(X, y).norm_minimizer()
    least = np.inf
    for kept in itertools.combinations(range(inputs), samples):
        vertex = np.linalg.solve(X[:, kept], y)
        if vertex.min() > -1e-12:
            least = min(least, vertex.sum())
    assert beta.min() >= 0
    assert X @ beta == pytest.approx(y, rel=1e-11, abs=1e-11)
    assert beta.sum() == pytest.approx(least, rel=1e-11)
    assert Problem(X, y).critical_lr() == pytest.approx(2 / top_eigenvalue(X, beta), rel=1e-10)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("positive", [True, False])
def test_sharpness_minimizer_where_interpolators_form_a_line(seed: int, positive: bool) -> None:
    X, y = several(seed, 2, 3, positive)
    point = np.linalg.lstsq(X, y, rcond=None)[0]
    along = np.linalg.svd(X)[2][-1]
    ends = -point / along
    low, high = max(ends[along > 0], default=-1e4), min(ends[along < 0], default=1e4)
    high = max(low, high)  # where there is one interpolator they cross by rounding
    line = minimize_scalar(
        lambda t: top_eigenvalue(X, point + t * along), bounds=(low, high), method="bounded", options={"xatol": 1e-13}
    )
    least = min(line.fun, top_eigenvalue(X, point + low * along), top_eigenvalue(X, point + high * along))
    beta = Problem(X, y).sharpness_minimizer()
    assert beta.min() >= 0
    assert X @ beta == pytest.approx(y, rel=1e-11, abs=1e-12)
    assert top_eigenvalue(X, beta) == pytest.approx(least, rel=1e-10)
    assert Problem(X, y).largest_stable_lr() == pytest.approx(2 / least, rel=1e-10)


def cuts(X: np.ndarray, y: np.ndarray, around: np.ndarray) -> float:
    """A lower bound on the least sharpness, by linear programs that cut with eigenvectors, begun at ``around``."""
    vectors = list(np.linalg.eigh((X * around) @ X.T)[1].T)
    inputs, best = X.shape[1], 0.0
    equal = np.hstack([X, np.zeros((len(y), 1))])
    for _ in range(60):
        rows = np.array([np.r_[4 / len(y) * (v @ X) ** 2, -1] for v in vectors])
        found = linprog(np.r_[np.zeros(inputs), 1], rows, np.zeros(len(rows)), equal, y, method="highs")
        best = max(best, found.fun)
        vectors.extend(np.linalg.eigh((X * found.x[:inputs]) @ X.T)[1].T)
    return best


@pytest.mark.parametrize(("seed", "samples", "inputs"), [(0, 3, 8), (1, 4, 15), (2, 2, 12)])
@pytest.mark.parametrize(("unit", "height"), [(1.0, 1.0), (1e-3, 1e3), (1e3, 1e-3)])
def test_sharpness_minimizer_against_a_bound_from_below(
    seed: int, samples: int, inputs: int, unit: float, height: float
) -> None:
    X, y = several(seed, samples, inputs, positive=False)
    beta = Problem(X * unit, y * height).sharpness_minimizer() * unit / height
    assert X @ beta == pytest.approx(y, rel=1e-11, abs=1e-11)
    sharpness, bound = top_eigenvalue(X, beta), cuts(X, y, beta)
    assert bound * (1 - 1e-9) <= sharpness <= bound * (1 + 1e-5)
    if unit == 1:  # no interpolator beside it is flatter
        free = np.linalg.svd(X)[2][samples:]
        for direction in np.random.default_rng(9).standard_normal((200, len(free))) @ free:
            for length in (1e-2, 1e-4):
                beside = beta + length * direction
                if beside.min() >= 0:
                    assert top_eigenvalue(X, beside) >= sharpness * (1 - 1e-11)


def test_samples_that_repeat_inputs_that_are_zero_and_a_single_interpolator() -> None:
    repeated = Problem([[2.0, 1.0], [2.0, 1.0]], [2.0, 2.0])
    assert repeated.norm_minimizer() == pytest.approx([1, 0], abs=1e-12)
    assert repeated.sharpness_minimizer() == pytest.approx([0, 2], abs=1e-9)
    assert repeated.critical_lr() == pytest.approx(0.125)
    zeros = Problem([[2.0, 0.0, 1.0], [1.0, 0.0, 1.0]], [3.0, 2.0])
    assert zeros.norm_minimizer() == pytest.approx([1, 0, 1], abs=1e-12)
    assert zeros.sharpness_minimizer() == pytest.approx([1, 0, 1], abs=1e-12)


def test_edges_are_those_of_the_linearised_step() -> None:
    X, y = several(3, 3, 6, positive=True)
    problem = Problem(X, y)
    for beta, edge in (
        (problem.norm_minimizer(), problem.critical_lr()),
        (problem.sharpness_minimizer(), problem.largest_stable_lr()),
    ):
        rows = X * np.sqrt(beta)
        for share, stable in ((0.999, True), (1.001, False)):
            step = np.eye(6) - share * edge * 4 / 3 * rows.T @ rows
            assert bool(np.abs(np.linalg.eigvalsh(step)).max() <= 1 + 1e-12) is stable
    assert problem.critical_lr() < problem.largest_stable_lr()


def test_risk_for_every_kind_of_covariance() -> None:
    rng = np.random.default_rng(0)
    problem, target = Problem([3.0, 2.0, 1.0], 1.0), rng.standard_normal(3)
    root = rng.standard_normal((3, 3))
    for given_, matrix in (
        (None, np.eye(3)),
        (4.0, 4 * np.eye(3)),
        ([1.0, 2.0, 3.0], np.diag([1.0, 2.0, 3.0])),
        (root @ root.T, root @ root.T),
    ):
        betas = rng.exponential(size=(2, 4, 3))
        risks = problem.risk(betas, target, given_)
        for at in np.ndindex(2, 4):
            apart = betas[at] - target
            assert risks[at] == pytest.approx(
                sum(matrix[i, j] * apart[i] * apart[j] for i in range(3) for j in range(3))
            )
    assert type(problem.risk(target, target)) is float


@pytest.mark.parametrize("covariance", [None, [0.3, 2.0], [[1.0, 0.6], [0.6, 0.5]]])
def test_interior_optimum_and_the_controls(covariance: Any) -> None:
    problem = Problem([2.0, 1.0], 2.0)
    shares = np.linspace(0, 1, 100_001)
    for target in ([0.5, 1.0], [0.1, 1.8], [1.3, -0.6], [-0.2, 2.4], [0.9, 1.7], [0.0, 0.3]):
        optimum = problem.optimum(target, covariance)
        risks = problem.risk(problem.interpolation(shares), target, covariance)
        assert optimum.risk <= risks.min() + 1e-15
        assert optimum.share == pytest.approx(shares[np.argmin(risks)], abs=2e-5)
        assert optimum.lr == pytest.approx(2 / problem.sharpness(optimum.beta))
        if np.dot(target, [2, 1]) == pytest.approx(2):
            assert optimum.interior is (min(target) > 0)
    assert problem.optimum(problem.norm_minimizer(), covariance).share == 0
    assert problem.optimum(problem.sharpness_minimizer(), covariance).share == 1
    assert not problem.optimum(problem.norm_minimizer(), covariance).interior
    assert Problem([1.0, 1.0], 2.0).optimum([3.0, 0.0]).share == 0  # the two minimisers are one


def plain_descent(
    X: np.ndarray, y: np.ndarray, lr: float, w: np.ndarray, tol: float, most: int
) -> tuple[np.ndarray, int, str]:
    for step in range(most + 1):
        residual = X @ (w * w) - y
        loss = np.mean(residual**2) / 2
        if loss < tol:
            return w * w, step, "converged"
        if loss > 1e100:
            return w * w, step, "diverged"
        if step < most:
            w = w - lr * 2 * w * (X.T @ residual) / len(y)
    return w * w, most, "unfinished"


@pytest.mark.parametrize(("samples", "inputs"), [(1, 3), (3, 6)])
def test_descent_is_the_plain_loop(samples: int, inputs: int) -> None:
    X, y = several(5, samples, inputs, positive=True)
    problem = Problem(X, y)
    rates = np.array([[0.05, 0.5], [1.01, 20.0], [0.7, 0.001]]) * problem.critical_lr()
    grid = problem.descend(rates, scale=0.1, tol=1e-9, max_steps=500)
    assert grid.beta.shape == (3, 2, inputs)
    assert grid.steps.shape == grid.status.shape == grid.loss.shape == grid.sharpness.shape == (3, 2)
    seen = set()
    for at in np.ndindex(3, 2):
        beta, steps, status = plain_descent(X, y, rates[at], np.full(inputs, 0.1), 1e-9, 500)
        seen.add(status)
        assert (grid.status[at], grid.steps[at]) == (status, steps)
        one = problem.descend(rates[at], scale=np.full(inputs, 0.1), tol=1e-9, max_steps=500)
        assert one.beta.tolist() == grid.beta[at].tolist()
        assert (one.steps, one.status, one.loss) == (grid.steps[at], grid.status[at], grid.loss[at])
        if status != "diverged":
            assert grid.beta[at] == pytest.approx(beta, rel=1e-9)
            assert grid.loss[at] == pytest.approx(np.mean((X @ beta - y) ** 2) / 2, rel=1e-6)
            assert grid.sharpness[at] == pytest.approx(problem.sharpness(beta), rel=1e-8)
            assert grid.l1_norm[at] == pytest.approx(np.sqrt(beta).sum(), rel=1e-9)
    assert seen == {"converged", "diverged", "unfinished"}
    assert problem.descend(np.empty((0, 2))).beta.shape == (0, 2, inputs)
    assert problem.descend(0.1, scale=0.1, max_steps=0).beta == pytest.approx(np.full(inputs, 0.01))


def test_descent_never_gives_nan() -> None:
    run = Problem([[1.0, -2.0], [3.0, 1.0]], [1.0, 2.0]).descend([1e3, 1e30, 1e300], scale=1.0)
    assert run.status.tolist() == ["diverged"] * 3
    assert np.isfinite(run.beta).all()
    assert (run.loss == np.inf).all()


@pytest.mark.parametrize("x", [[2.0, 1.0], [300.0, 1.0, 0.5], [1e-3, 2e-3], [3.0, -1.0, 2.0, 0.0]])
@pytest.mark.parametrize(("y", "scale"), [(2.0, 1e-3), (1e3, 1e-8), (0.02, 0.02), (0.01, 0.3)])
def test_gradient_flow_of_one_sample_is_a_root(x: list[float], y: float, scale: float) -> None:
    x_, flow = np.array(x), Problem(x, y).gradient_flow(scale)
    assert flow.status == "converged"
    above = np.sign(scale**2 * x_.sum() - y) * np.sqrt(2e-12)

    def beta(z: float) -> np.ndarray:
        return np.exp(2 * np.log(scale) + 4 * x_ * z)

    far = 1.0 / x_.max()
    while x_ @ beta(far) < y:
        far *= 1.2
    near = -far
    while x_ @ beta(near) > y:
        near *= 2
    z = brentq(lambda z: x_ @ beta(z) - y - above, near, far, xtol=1e-300, rtol=1e-15)
    assert flow.beta == pytest.approx(beta(z), rel=1e-9)
    path = np.array([Problem(x, y).sharpness(beta(u * z)) for u in np.linspace(0, 1, 2001)])
    assert flow.max_sharpness == pytest.approx(path.max(), rel=1e-5)
    assert flow.sharpness == pytest.approx(path[-1], rel=1e-9)


@pytest.mark.parametrize(
    ("seed", "samples", "inputs", "positive"), [(0, 2, 5, False), (1, 3, 8, False), (2, 4, 9, True)]
)
def test_gradient_flow_of_several_samples(seed: int, samples: int, inputs: int, positive: bool) -> None:
    X, y = several(seed, samples, inputs, positive)
    problem = Problem(X, y)
    flow = problem.gradient_flow(scale=0.05, tol=1e-8)
    direct = solve_ivp(
        lambda _, w: -2 / samples * w * (X.T @ (X @ (w * w) - y)),
        (0, flow.time),
        np.full(inputs, 0.05),
        method="LSODA",
        rtol=1e-11,
        atol=1e-14,
        dense_output=True,
    )
    assert flow.loss == pytest.approx(1e-8, rel=1e-6)
    assert flow.beta == pytest.approx(direct.y[:, -1] ** 2, rel=1e-7, abs=1e-9)
    times = np.linspace(0, flow.time, 4001)
    assert flow.max_sharpness >= problem.sharpness(direct.sol(times).T ** 2).max() * (1 - 1e-8)
    small = problem.gradient_flow(scale=1e-12)
    assert small.squared_l2_norm == pytest.approx(problem.norm_minimizer().sum(), rel=0.05)
    assert small.squared_l2_norm < flow.squared_l2_norm


def test_descent_at_small_rates_follows_the_flow() -> None:
    X, y = several(4, 2, 5, positive=True)
    problem = Problem(X, y)
    flow = problem.gradient_flow(scale=0.1, tol=1e-6)
    apart = [
        np.abs(problem.descend(share * flow.critical_lr, scale=0.1, tol=1e-6).beta - flow.beta).max()
        for share in (1e-2, 1e-3)
    ]
    assert apart[1] < 0.2 * apart[0] < 1e-2


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: Problem([1.0, np.nan], 1.0), r"x\[1\] is nan"),
    (lambda: Problem([1.0, 2.0], [1.0, 2.0]), r"x of shape \(2,\) with y of shape \(2,\)"),
    (lambda: Problem([], 1.0), r"x of shape \(0,\)"),
    (lambda: Problem("a", 1.0), "x is 'a'"),
    (lambda: Problem([1.0, 2.0], -1.0).norm_minimizer(), "no beta >= 0"),
    (lambda: Problem([1.0, 2.0], -1.0).gradient_flow(), "no beta >= 0"),
    (lambda: Problem([[1.0, 2.0], [2.0, 4.0]], [1.0, 3.0]).critical_lr(), "no beta >= 0"),
    (lambda: Problem([[1.0, 2.0], [2.0, 1.0]], [1.0, 3.0]).sharpness_minimizer(), "no beta >= 0"),
    (lambda: Problem([[0.0, 0.0], [0.0, 0.0]], [1.0, 3.0]).norm_minimizer(), "no beta >= 0"),
    (lambda: Problem([1.0, 2.0], 1.0).sharpness([1.0]), r"beta has shape \(1,\); expected \(2,\)"),
    (lambda: Problem([1.0, 2.0], 1.0).sharpness([1.0, -1.0]), r"beta\[1\] is -1; expected entries of zero or more"),
    (lambda: Problem([1.0, 2.0], 1.0).risk([1.0, 1.0], 1.0), r"beta_star has shape \(\)"),
    (lambda: Problem([1.0, 2.0], 1.0).risk([1, 1], [1, 1], np.eye(3)), r"covariance has shape \(3, 3\)"),
    (lambda: Problem([1.0, 2.0], 1.0).risk([1, 1], [1, 1], -1.0), "not symmetric and positive"),
    (lambda: Problem([1.0, 2.0], 1.0).interpolation(1.5), "share is 1.5"),
    (lambda: Problem([1.0, 2.0], 1.0).descend([0.1, 0.0]), r"lr\[1\] is 0; expected positive"),
    (lambda: Problem([1.0, 2.0], 1.0).descend(0.1, scale=0), "scale is 0"),
    (lambda: Problem([1.0, 2.0], 1.0).descend(0.1, scale=[1, 1, 1]), r"scale has shape \(3,\)"),
    (lambda: Problem([1.0, 2.0], 1.0).descend(0.1, tol=0), "tol is 0"),
    (lambda: Problem([1.0, 2.0], 1.0).descend(0.1, max_steps=-1), "max_steps is -1"),
    (lambda: Problem([1.0, 2.0], 1.0).descend(0.1, max_steps=1.5), "max_steps is 1.5"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=range(len(BAD)))
def test_bad_input_is_named_in_one_line(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
