from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from dense_cases import like_a_hessian, with_spectrum
from edge_network import Live, digits_network

from edgescope.errors import InputError
from edgescope.linalg import DiagonalMetric, EigenTracker, Operator, from_matrix


class Turning:
    """A matrix whose top values crowd, cross and jump with period two, and whose eigenvectors turn."""

    def __init__(self, seed: int, size: int = 120) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.frame = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
        spin = torch.randn(size, size, generator=generator, dtype=torch.float64) / size**0.5
        self.turn = torch.linalg.matrix_exp(0.02 * (spin - spin.T))
        self.bulk = torch.linspace(8, -1, size - 4, dtype=torch.float64)
        self.time = 0

    def step(self) -> None:
        self.time += 1
        self.frame = self.turn @ self.frame

    def matrix(self) -> torch.Tensor:
        t = self.time
        top = [10 + 0.2 * (-1) ** t, 10 - 0.15 * (-1) ** t, 9.8 + 0.02 * t, 9.5]
        values = torch.cat([torch.tensor(top, dtype=torch.float64), self.bulk])
        matrix = (self.frame * values) @ self.frame.T
        return (matrix + matrix.T) / 2

    def operator(self) -> Operator:
        return from_matrix(self.matrix())


RATE = 0.35


@pytest.fixture(scope="module")
def at_the_edge() -> Live:
    live = Live(*digits_network((20, 16), 200, seed=1))
    live.descend(RATE, 600)
    return live


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_follows_the_sharpness_of_a_real_network_at_its_edge(dtype: torch.dtype, at_the_edge: Live) -> None:
    live = Live(at_the_edge.loss, at_the_edge.w, dtype)
    tracker = EigenTracker(live)
    spent, errors, ratios = [], [], []
    for _ in range(24):  # long enough for the seen gaps to be used
        pairs, exact = tracker.update(), live.reference(2)
        assert bool(pairs.converged.all())
        spent.append(pairs.products)
        errors.append(abs(float(pairs.values[0]) / exact[0] - 1))
        ratios.append(exact * RATE / 2)
        live.descend(RATE)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.06)  # it is the edge, and the two crowd there
    assert max(errors) < 1e-3
    assert np.mean(spent[1:]) <= 7


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_values_that_cross_with_period_two_are_not_missed(k: int, seed: int) -> None:
    turning = Turning(seed)
    tracker = EigenTracker(turning, k)
    for _ in range(40):
        exact = np.linalg.eigvalsh(turning.matrix().numpy())[::-1][:k]
        np.testing.assert_allclose(tracker.update().values.numpy(), exact, rtol=1e-3)
        turning.step()


def test_a_direction_that_no_seed_has_is_found_by_the_audit() -> None:
    hidden = with_spectrum([5.0, 4.0, 3.0, *np.linspace(2, 0, 60)], 0)
    block = torch.block_diag(hidden, torch.zeros(1, 1, dtype=torch.float64))
    tracker = EigenTracker(block)
    tracker.update()
    block[-1, -1] = 9.0  # an invariant subspace of its own: residuals never point there
    values = [float(tracker.update(block).values[0]) for _ in range(25)]
    assert values[0] == pytest.approx(5, rel=1e-3)
    assert values[-1] == pytest.approx(9, rel=1e-3)


def test_a_metric_that_moves_is_followed() -> None:
    matrix = with_spectrum(like_a_hessian(100, 0), 0)
    entries = torch.rand(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    tracker = EigenTracker(matrix, 2, metric=DiagonalMetric(entries))
    cold = tracker.update().products
    for step in range(1, 6):
        now = entries * (1 + 0.01 * step)
        pairs = tracker.update(metric=DiagonalMetric(now))
        exact = scipy.linalg.eigh(matrix.numpy(), np.diag(now.numpy()), eigvals_only=True)[::-1][:2]
        np.testing.assert_allclose(pairs.values.numpy(), exact, rtol=1e-3)
    assert pairs.products < cold / 2


def test_pairs_are_added_near_the_threshold_and_given_up_below_it() -> None:
    outliers = np.array([10.0, 9.8, 9.5, 9.2, 6.0, 5.0])

    def at(scale: float) -> torch.Tensor:
        return with_spectrum([*(scale * outliers), *np.linspace(1, 0, 80)], 0)

    tracker = EigenTracker(at(0.5), 1, threshold=10.0)
    assert len(tracker.update().values) == 1
    near = tracker.update(at(1.0))
    np.testing.assert_allclose(near.values.numpy(), outliers[:5], rtol=1e-3)  # four above 9, and one below it
    for _ in range(6):
        last = tracker.update(at(0.5))
    assert len(last.values) == 1
    assert len(EigenTracker(at(1.0), 1, threshold=10.0, max_pairs=2).update().values) == 2
    assert len(EigenTracker(torch.eye(3), 1, threshold=0.5, max_pairs=9).update().values) == 3
    assert len(tracker.update(threshold=math.inf).values) == 1, "as at learning rate 0"


@pytest.mark.parametrize("which", ["largest", "smallest", "both"])
def test_a_resumed_tracker_continues_bit_for_bit(which: str) -> None:
    turning = Turning(3)
    tracker = EigenTracker(turning, 2, which=which)
    for _ in range(7):
        tracker.update()
        turning.step()
    resumed = EigenTracker(turning, 2, which=which)
    resumed.load_state({name: value.clone() for name, value in tracker.state().items()})
    for _ in range(20):
        first, second = tracker.update(), resumed.update()
        assert torch.equal(first.values, second.values)
        assert torch.equal(first.vectors, second.vectors)
        assert first.products == second.products
        turning.step()
    values = np.linalg.eigvalsh(turning.matrix().numpy())[::-1]
    exact = {"largest": values[:2], "smallest": values[-2:], "both": np.r_[values[:2], values[-2:]]}[which]
    np.testing.assert_allclose(resumed.update().values.numpy(), exact, rtol=2e-3)


def test_the_state_keeps_how_many_pairs_there_are() -> None:
    tracker = EigenTracker(with_spectrum([10, 9.9, 9.8, *np.linspace(1, 0, 50)], 0), 1, threshold=10.0)
    tracker.update()
    resumed = EigenTracker(tracker.operator, 1, threshold=10.0)
    resumed.load_state(tracker.state())
    assert resumed.k == tracker.k == 4
    assert all(value.is_contiguous() for value in tracker.state().values())


def test_a_budget_is_kept_and_confessed() -> None:
    tracker = EigenTracker(with_spectrum(np.linspace(1, 2, 300), 0), 1, tol=1e-6, max_products=5)
    for _ in range(3):
        pairs = tracker.update()
        assert pairs.products <= 5
        assert not bool(pairs.converged.all())


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: EigenTracker(torch.eye(4), 0), "k=0"),
        (lambda: EigenTracker(torch.eye(4), 5).update(), "5 eigenpairs"),
        (lambda: EigenTracker(torch.eye(4), which="all"), "which='all'"),
        (lambda: EigenTracker(torch.eye(4), tol=-1), "tol=-1"),
        (lambda: EigenTracker(torch.eye(4), 2, max_pairs=1), "max_pairs=1"),
        (lambda: EigenTracker(torch.eye(4), 2, max_products=1), "max_products=1"),
        (lambda: EigenTracker(torch.eye(4), which="both", threshold=1.0), "threshold"),
        (lambda: EigenTracker(torch.eye(4)).load_state({}), "without 'k'"),
    ],
)
def test_bad_tracker_input_is_one_clear_line(call: object, word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_another_model_is_refused() -> None:
    tracker = EigenTracker(torch.eye(4))
    tracker.update()
    with pytest.raises(InputError, match=r"size 5 .* length 4"):
        tracker.update(torch.eye(5))
