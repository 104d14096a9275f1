"""The parts of a certificate by themselves: a bracket would hide their faults, its upper end never being the lower."""

from __future__ import annotations

import pytest
import torch
from quadratic_forms import GEOMETRIES, KINDS, SHAPES, SIZE, form, products_only

import edgescope as es
from edgescope.geometry import Blocks, Scaled
from edgescope.linalg import EigenvalueBound, from_matrix
from edgescope.sharpness.by_blocks import _BlockSearch
from edgescope.sharpness.majorant import majorant
from edgescope.sharpness.solver_options import SolverOptions

SLACK = 1e-9


@pytest.mark.parametrize("by_products", [False, True])
def test_pairs_of_coupled_blocks_are_bounded(by_products: bool) -> None:
    """[[a I, C], [C', a I]] with C orthogonal: S = (1 + a) / 2, shared by both blocks; the coupling alone is 1."""
    rotation = torch.linalg.qr(form("gaussian", 3, 0)).Q
    corner = 0.9 * torch.eye(3, dtype=torch.float64)
    matrix = torch.cat([torch.cat([corner, rotation], dim=1), torch.cat([rotation.T, corner], dim=1)])
    shapes = [(3,), (3,)]
    operator = products_only(matrix, shapes=shapes) if by_products else from_matrix(matrix, shapes)
    search = _BlockSearch(Blocks().bind(shapes), SolverOptions(operator, 8, 50, 0, None, True, 1e-3, "ascent", {}))
    search.run()
    assert search.lower() == pytest.approx(0.9, rel=1e-6)
    assert search.upper() == pytest.approx(1, rel=1e-6)
    found = es.generalized_sharpness(operator, "blocks")
    assert 0.94 <= found.lower <= 0.95 + SLACK


@pytest.mark.parametrize("name", GEOMETRIES)
def test_forms_stay_within_their_budget_on_the_sphere(name: str) -> None:
    geometry = GEOMETRIES[name].bind(SHAPES)
    geometry = geometry.inner if isinstance(geometry, Scaled) else geometry
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(SIZE, 4, generator=generator, dtype=torch.float64)
    fitted = majorant(geometry, SIZE).fitted(gradients).fitted(gradients)
    for chosen in (fitted, fitted.regularized(0.3), fitted.restored(fitted.multipliers())):
        d = geometry.steepest(torch.randn(SIZE, 500, generator=generator, dtype=torch.float64))
        values = (d * chosen.power(d, 1.0)).sum(0)
        assert float(values.max()) <= chosen.budget * (1 + 1e-9)
        there_and_back = chosen.root(chosen.inverse_root(d))
        torch.testing.assert_close(there_and_back, d)


@pytest.mark.parametrize("kind", KINDS)
def test_eigenvalue_bound_encloses_the_largest_eigenvalue_at_every_stage(kind: str) -> None:
    for seed in range(3):
        matrix = form(kind, 60, seed)
        truth = float(torch.linalg.eigvalsh(matrix)[-1])
        bound = EigenvalueBound(products_only(matrix), max_steps=60, seed=seed)
        for _ in range(20):
            bound.extend(3)
            assert bound.lower <= truth + SLACK
            assert bound.upper >= truth - SLACK
        assert bound.upper - bound.lower <= 1e-6 * abs(truth)
        assert bound.products == 60
