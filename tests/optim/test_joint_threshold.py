"""Several optimizers, momenta and learning rates on one coupled quadratic: where the real optimizers turn unstable."""

from __future__ import annotations

import pytest
import torch
from linear_system import System, draw_system, ratio, step_matrix
from torch import Tensor

from edgescope.linalg import from_matrix
from edgescope.optim import JointRule, rule_for


def positive(size: int, seed: int) -> Tensor:
    A = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return A @ A.T / size + 0.1 * torch.eye(size, dtype=torch.float64)


def affine(system: System, H: Tensor) -> tuple[Tensor, Tensor]:
    """The step matrix on s H is the first plus s times the second."""
    start = step_matrix(system, 0 * H)
    slope = step_matrix(system, H) - start
    torch.testing.assert_close(step_matrix(system, 3 * H), start + 3 * slope, rtol=1e-11, atol=1e-12)
    return start, slope


def radius(matrix: Tensor) -> float:
    return float(torch.linalg.eigvals(matrix).abs().max())


def edge(start: Tensor, slope: Tensor) -> float:
    """The smallest s at which the spectral radius reaches 1, by bisection."""
    low, high = 0.0, 1e-3
    while radius(start + high * slope) < 1:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if radius(start + middle * slope) < 1 else (low, middle)
    return high


@pytest.mark.parametrize("seed", range(40))
def test_the_spectral_radius_reaches_one_where_the_joint_ratio_does(seed: int) -> None:
    system = draw_system(seed, optimizers=1 + seed % 3, unheld=seed // 10 % 2, still=seed // 20)
    H = positive(system.size, seed)
    critical = edge(*affine(system, H))
    rule = rule_for(system.optimizers, system.tensors)
    assert ratio(rule, critical * H) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_with_negative_curvature_an_eigenvalue_passes_minus_one_there(seed: int) -> None:
    """Negative curvature has real eigenvalues above 1 from the start; the first to join them outside is below -1."""
    system = draw_system(100 + seed, optimizers=1 + seed % 3, unheld=seed % 2)
    draws = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(system.size, system.size, dtype=torch.float64, generator=draws))[0]
    signs = torch.where(torch.rand(system.size, generator=draws, dtype=torch.float64) < 0.3, -1.0, 1.0)
    H = Q @ torch.diag(signs * torch.linspace(0.2, 2, system.size, dtype=torch.float64)) @ Q.T
    H = (H + H.T) / 2
    start, slope = affine(system, H)
    identity = torch.eye(len(start), dtype=torch.float64)
    found = torch.linalg.eigvals(-torch.linalg.solve(start + identity, slope))  # at s = 1/found there is one of -1
    critical = 1 / float(found.real[found.imag.abs() < 1e-9].max())
    rule = rule_for(system.optimizers, system.tensors)
    assert ratio(rule, critical * H) == pytest.approx(1, abs=1e-9)
    for share, below in ((0.999, 0), (1.001, 1)):
        outside = torch.linalg.eigvals(start + share * critical * slope)
        outside = outside[outside.abs() > 1 + 1e-9]
        assert bool((outside.imag.abs() < 1e-9).all())
        assert int((outside.real < 0).sum()) == below


def test_separate_thresholds_are_not_the_joint_one() -> None:
    """Blocks that are stable each for itself are unstable together."""
    a, b = (torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizers = [torch.optim.SGD([a], lr=0.1), torch.optim.SGD([b], lr=0.2, momentum=0.9)]
    H = torch.tensor([[18.0, 12.0], [12.0, 17.0]], dtype=torch.float64)
    rule = rule_for(optimizers, [a, b])
    assert isinstance(rule, JointRule)
    alone = [float(H[i, i]) / own.threshold().value for i, own in enumerate(rule.rules)]
    torch.testing.assert_close(torch.tensor(alone), torch.tensor([18 / 20, 17 / 19]))
    # M = diag(20, 19), so the ratio is the larger root of (18/20 - x)(17/19 - x) = 144/380
    x, y = 18 / 20, 17 / 19
    expected = (x + y) / 2 + ((x - y) ** 2 / 4 + 144 / 380) ** 0.5
    assert ratio(rule, H) == pytest.approx(expected, rel=1e-12)
    system = System([a, b], optimizers, [False, False])
    optimizers[1].state[b] = {"momentum_buffer": torch.zeros_like(b)}
    assert radius(step_matrix(system, H)) > 1 > radius(step_matrix(system, H / expected * 0.999))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_with_gradients_that_training_scales(seed: int, scale: float) -> None:
    """Steps on the gradients of s H times ``scale``, which enter beside a coupled decay that is not scaled."""
    system = draw_system(200 + seed, optimizers=1 + seed % 3)
    H = positive(system.size, seed)
    critical = edge(*affine(system, H)) / scale  # of the loss itself
    rule = rule_for(system.optimizers, system.tensors)
    identity, metric = torch.eye(system.size, dtype=torch.float64), rule.metric()
    effective = rule.effective(from_matrix(critical * H), scale) @ identity
    whitened = metric.inverse_root(metric.inverse_root(effective).T)
    threshold = rule.threshold().scaled(scale)
    assert float(torch.linalg.eigvalsh(whitened)[-1]) / threshold.value == pytest.approx(1, abs=1e-9)
