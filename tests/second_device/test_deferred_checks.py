"""On an accelerator products are checked with what is read of them anyway: the same is refused as on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from second_device import second_device
from second_device_problem import objective
from torch import Tensor

import edgescope as es
from edgescope.linalg import BlockMetric, DiagonalMetric, Operator, frobenius, from_matrix
from edgescope.linalg.basis import Basis

SIZE = 130  # no matrix is formed of so many rows
SOLVERS: dict[str, Callable[[Operator], Any]] = {
    "eigenpairs": es.top_eigenpairs,
    "eigenpairs in blocks": lambda operator: es.top_eigenpairs(operator, 2, block=3),
    "eigenpairs in a metric": lambda operator: es.top_eigenpairs(operator, metric=without_the_last()),
    "tracker": lambda operator: es.EigenTracker(operator).update(),
    "bound": lambda operator: es.linalg.EigenvalueBound(operator).extend(8),
    "spectrum": lambda operator: es.spectrum(operator, method="slq", probes=2, steps=8),
    "spectrum, deflated": lambda operator: es.spectrum(operator, method="slq", probes=2, steps=8, deflate=1),
    "trace": lambda operator: es.trace(operator, num_matvecs=12, block=2),
    "Frobenius norm": lambda operator: frobenius(operator, num_matvecs=12, block=2),
    "sharpness": lambda operator: es.generalized_sharpness(operator, es.geometry.Linf()),
}


@pytest.fixture
def device() -> Iterator[torch.device]:
    with second_device() as device:
        yield device


def without_the_last() -> BlockMetric:
    """A metric in which the last parameter is constant: what a product has there is dropped."""
    known = DiagonalMetric(torch.linspace(1, 2, SIZE - 1, dtype=torch.float64))
    return BlockMetric(SIZE, [(known, [slice(0, SIZE - 1)])])


def failing(where: torch.device | str, bad: float, after: int) -> Operator:
    """An operator whose products have one bad number, in their last row, after so many blocks."""
    matrix = torch.diag(torch.linspace(1, 3, SIZE, dtype=torch.float64)).to(where)
    blocks = 0

    def apply(block: Tensor) -> Tensor:
        nonlocal blocks
        blocks += 1
        found = matrix @ block
        if blocks > after:
            found[-1] = bad
        return found

    return Operator(SIZE, apply, device=where)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("solver", SOLVERS)
def test_products_that_are_not_finite_are_refused(solver: str, after: int, bad: float, device: torch.device) -> None:
    for where in ("cpu", device):
        with pytest.raises(es.errors.InputError, match=r"curvature product is not finite \(NaN or infinity\)"):
            SOLVERS[solver](failing(where, bad, after))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_vectors_that_are_not_finite_are_refused(bad: float, device: torch.device) -> None:
    for where in ("cpu", device):
        there = objective(where)
        V = torch.ones(there.size, 2, dtype=torch.float64, device=where)
        V[3, 1] = bad
        derived = there.operator().derived(lambda block, there=there: there.operator() @ block)
        for product in (there.hvp, there.operator().__matmul__, derived.__matmul__):
            with pytest.raises(es.errors.InputError, match="a block of vectors with NaN or infinity"):
                product(V)
        with pytest.raises(es.errors.InputError, match="start vectors with entries that are NaN or infinite"):
            es.top_eigenpairs(there, start=V)


def test_large_finite_products_pass_though_their_sum_overflows(device: torch.device) -> None:
    for where in ("cpu", device):
        matrix = (1e38 * torch.eye(SIZE)).to(where)
        assert float(es.top_eigenpairs(matrix).values) == pytest.approx(1e38)
        products, finite = from_matrix(matrix).unchecked(torch.full((SIZE, 1), 2.0, device=where))
        assert (finite is None) == (where == "cpu")
        assert finite is None or bool(finite)
        assert not bool(products.sum().isfinite())


def test_rows_that_two_sweeps_do_not_resolve_are_orthonormal(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    known = torch.randn(6, SIZE, generator=generator, dtype=torch.float64)
    mixed = torch.randn(4, 6, generator=generator, dtype=torch.float64) @ known
    mixed += 1e-13 * torch.randn(4, SIZE, generator=generator, dtype=torch.float64)
    found = []
    for where in ("cpu", device):
        basis = Basis(from_matrix(torch.eye(SIZE, dtype=torch.float64).to(where)), 12, 12)
        counts = [basis.append(rows.to(where)) for rows in (known, mixed)]
        rows = basis.outside.cpu()
        assert float((rows @ rows.T - torch.eye(len(rows), dtype=torch.float64)).abs().max()) < 1e-14
        found.append(counts)
    assert found[0] == found[1]


def test_an_exact_spectrum_is_found_there(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(3)
    turn = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)).Q
    values = torch.cat([torch.tensor([5.0, 5.0, 3.0, 1e-9], dtype=torch.float64), torch.zeros(SIZE - 4)])
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        matrix = ((turn * values) @ turn.T).to(dtype).to(device)
        for block in (1, 3):
            pairs = es.top_eigenpairs(matrix, 3, block=block, tol=1e-5)
            assert bool(pairs.converged.all())
            assert torch.allclose(pairs.values, values[:3], rtol=tolerance, atol=0)
