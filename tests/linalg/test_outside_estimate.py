from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_cases import with_spectrum

from edgescope.linalg import EigenTracker, from_matrix
from edgescope.linalg.basis import Basis
from edgescope.linalg.outside_estimate import OutsideEstimate


def orthonormal(rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(columns, rows, generator=generator, dtype=torch.float64)).Q.T


@pytest.mark.parametrize("seed", range(3))
def test_corrections_solve_the_shifted_system(seed: int) -> None:
    turn = orthonormal(6, 6, seed)
    values = torch.tensor([7.0, 5.0, 2.0, 0.0, 0.0, -1.0], dtype=torch.float64)
    matrix = turn.T @ torch.diag(values) @ turn
    estimate = OutsideEstimate(matrix, 0.0)
    residual = torch.randn(2, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ends, largest = torch.tensor([10.0, -3.0], dtype=torch.float64), torch.tensor([True, False])
    found = estimate.corrections(residual, ends, largest, 1e-9)
    above = 10 * torch.linalg.solve(10 * torch.eye(6, dtype=torch.float64) - matrix, residual[0])
    below = 3 * torch.linalg.solve(matrix + 3 * torch.eye(6, dtype=torch.float64), residual[1])
    torch.testing.assert_close(found, torch.stack([above, below]))
    unknown = OutsideEstimate(torch.zeros(6, 6, dtype=torch.float64), 0.0)
    torch.testing.assert_close(unknown.corrections(residual, ends, largest, 1e-9), residual)


@pytest.mark.parametrize("seed", range(2))
def test_an_exact_estimate_stays_exact_while_the_basis_grows_and_restarts(seed: int) -> None:
    # The rows outside are combinations of eigenvectors all along, but for what products lead to: so leave none.
    values = torch.tensor([9.0, 8.0, 6.0, 5.0, 4.0, 3.0, *[0.0] * 94], dtype=torch.float64)
    matrix = with_spectrum(values.numpy(), seed)
    vectors = torch.linalg.eigh(matrix).eigenvectors.flip(1).T[:6]
    mixed = orthonormal(6, 6, seed) @ vectors
    basis = Basis(from_matrix(matrix), 8, 7)
    within = mixed @ matrix @ mixed.T
    exact, axes = torch.linalg.eigh(within)
    coordinates = basis.append_known(axes.T @ mixed, exact, 0.0, 1e-3)

    def check() -> None:
        assert basis.estimate is not None
        assert basis.estimate.matrix.shape == (basis.outward, basis.outward)
        torch.testing.assert_close(basis.estimate.matrix, basis.outside @ matrix @ basis.outside.T, atol=1e-9, rtol=0)

    check()
    torch.testing.assert_close(coordinates @ basis.outside, axes.T @ mixed, atol=1e-9, rtol=0)
    basis.expand(torch.linalg.qr(coordinates[[1, 4]].T).Q.T)
    check()
    basis.expand(orthonormal(1, basis.outward, seed))
    check()
    ritz = basis.ritz()
    basis.compress(ritz.values[:2], ritz.coordinates[:, :2])
    check()


@pytest.mark.parametrize("which", ["largest", "smallest", "both"])
def test_what_an_update_knows_saves_products_and_changes_no_result(which: str) -> None:
    outer = [10.0, 9.2, 8.8, 8.5, 8.2, 8.0]
    matrix = with_spectrum([*outer, *np.linspace(0.5, -0.5, 188), *(-v for v in reversed(outer))], 0)
    known, unknown = EigenTracker(matrix, which=which), EigenTracker(matrix, which=which)
    generator = torch.Generator().manual_seed(1)
    products = {known: 0, unknown: 0}
    for update in range(5):
        exact = torch.linalg.eigvalsh(matrix).flip(0)
        wanted = {"largest": exact[:1], "smallest": exact[-1:], "both": exact[[0, -1]]}[which]
        for tracker in products:
            found = tracker.update(matrix)
            assert bool(found.converged.all())
            torch.testing.assert_close(found.values, wanted, rtol=1e-3, atol=0)
            products[tracker] += found.products if update else 0
        state = unknown.state()  # without all but the first values next to those tracked
        unknown.load_state(state | {name: state[name][: 2 * len(wanted)] for name in ("vectors", "values", "tracked")})
        noise = torch.randn(200, 200, generator=generator, dtype=torch.float64)
        matrix = matrix + 0.03 * (noise + noise.T)
    assert products[known] < 0.8 * products[unknown]
