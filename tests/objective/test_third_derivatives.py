"""Third derivatives against polynomials, and against differentiation of dense Hessians in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import edgescope as es
from edgescope.errors import EdgescopeError, InputError
from edgescope.objective.third import compared, curvature_gradient, kinked_operations


class Cubic(nn.Module):
    """L = sum_abc T_abc w_a w_b w_c / 6 + w^T Q w / 2: the gradient of u^T H v is T(u, v, .)."""

    def __init__(self, size: int = 5) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        t = torch.randn(size, size, size, generator=draw, dtype=torch.float64)
        orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
        self.t = sum(t.permute(order) for order in orders) / 6
        self.w = nn.Parameter(torch.randn(size, generator=draw, dtype=torch.float64))


def cubic_loss(model: Cubic, scale: Tensor) -> Tensor:
    w = model.w
    return scale.sum() * (torch.einsum("abc,a,b,c->", model.t, w, w, w) / 6 + w.square().sum() / 2)


def directions(size: int, k: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(size, k, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("method", ["gradients", "products"])
def test_cubic_polynomial(method: str) -> None:
    model = Cubic()
    objective = es.Objective(model, cubic_loss, torch.ones(1, dtype=torch.float64), threads=1, check=False)
    v = directions(5, 3)
    found = curvature_gradient(objective, v, method=method)
    rows, columns = torch.triu_indices(3, 3)
    wanted = torch.einsum("abc,ap,bp->cp", model.t, v[:, rows], v[:, columns])
    assert torch.allclose(found.vectors, wanted, atol=1e-7)
    assert found.error < 1e-5


class Layers(nn.Module):
    def __init__(self, norm: nn.Module, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(4, 6), norm, nn.Tanh(), nn.Linear(6, 2)).to(dtype)
            self.data = torch.randn(12, 4).to(dtype), torch.randn(12, 2).to(dtype)
            if isinstance(norm, nn.BatchNorm1d):  # statistics that evaluation then uses
                self.layers(self.data[0])
                norm.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def objective(self, **options: object) -> es.Objective:
        return es.Objective(self, es.supervised(es.losses.half_mse), self.data, threads=1, check=False, **options)


def written_out(x: Tensor) -> Tensor:
    """Layer norm in elementary operations, whose third derivatives are right."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


class WrittenOut(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return written_out(x)


def by_autograd(objective: es.Objective, v: Tensor) -> Tensor:
    """Three reverse passes through a model of elementary operations."""
    model = objective.model
    names = [name for name, _ in model.named_parameters()]

    def entry(w: Tensor, u: Tensor, other: Tensor) -> Tensor:
        tensors = dict(zip(names, objective.layout.split(w), strict=True))
        x, y = model.data
        loss = es.losses.half_mse(torch.func.functional_call(model, tensors, (x,)), y)
        (slope,) = torch.autograd.grad(loss, w, create_graph=True)
        (product,) = torch.autograd.grad(slope @ u, w, create_graph=True)
        return product @ other

    found = []
    for i in range(v.shape[1]):
        for j in range(i, v.shape[1]):
            w = objective.parameters().requires_grad_()
            found.append(torch.autograd.grad(entry(w, v[:, i], v[:, j]), w)[0])
    return torch.stack(found, 1)


@pytest.mark.parametrize("method", ["gradients", "products"])
@pytest.mark.parametrize("norm", [nn.Identity(), WrittenOut(), nn.BatchNorm1d(6), nn.GroupNorm(1, 6)])
def test_networks(norm: nn.Module, method: str) -> None:
    """GroupNorm with one group is LayerNorm; batch norm in evaluation is elementwise."""
    model = Layers(norm)
    model.eval()
    objective = model.objective(mode="eval")
    v = directions(objective.size, 2)
    found = curvature_gradient(objective, v, method=method)
    wanted = by_autograd(objective, v)
    assert float((found.vectors - wanted).norm() / wanted.norm()) < 1e-4
    assert found.error < 1e-3
    assert found.cost.gradients + found.cost.products >= 6


@pytest.mark.parametrize("method", ["gradients", "products"])
def test_layer_norm_where_autograd_is_wrong(method: str) -> None:
    model, plain = Layers(nn.LayerNorm(6, elementwise_affine=False)), Layers(WrittenOut())
    objective = model.objective()
    v = directions(objective.size, 2)
    found = curvature_gradient(objective, v, method=method)
    wanted = by_autograd(plain.objective(), v)
    assert float((found.vectors - wanted).norm() / wanted.norm()) < 1e-4
    assert compared(objective, v) < 1e-3


def test_single_precision_takes_products() -> None:
    exact, objective = Layers(nn.Identity()).objective(), Layers(nn.Identity(), torch.float32).objective()
    v = directions(objective.size, 2)
    found = curvature_gradient(objective, v.float())
    wanted = by_autograd(exact, v)
    assert float((found.vectors.double() - wanted).norm() / wanted.norm()) < 3e-3
    assert found.cost.products == 6
    assert compared(objective, v.float()) < 1e-2


def test_cost() -> None:
    objective = Layers(nn.Identity()).objective()
    objective.hvp(directions(objective.size, 1)[:, 0])  # which makes the checks
    for k in (1, 2, 3):
        w = objective.parameters() + 0.1 * k
        assert curvature_gradient(objective, directions(objective.size, k), w).cost.gradients == 1 + k * (k + 1)


def test_methods_that_disagree_are_refused() -> None:
    """A loss with structure below the length of the differences."""
    model = Cubic()

    def rough(model: Cubic, scale: Tensor) -> Tensor:
        return cubic_loss(model, scale) + 1e-7 * (3000 * model.w).sin().sum()

    objective = es.Objective(model, rough, torch.ones(1, dtype=torch.float64), threads=1, check=False)
    with pytest.raises(EdgescopeError, match="apart"):
        compared(objective, directions(5, 1))


def test_bad_arguments() -> None:
    objective = Layers(nn.Identity()).objective()
    with pytest.raises(InputError, match="LayerNorm"):
        curvature_gradient(objective, directions(objective.size, 1), method="autograd")
    with pytest.raises(InputError, match="unknown method"):
        curvature_gradient(objective, directions(objective.size, 1), method="gradient")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="directions of shape"):
        curvature_gradient(objective, directions(3, 1))
    with pytest.raises(InputError, match="zero or not finite"):
        curvature_gradient(objective, torch.zeros(objective.size, 1, dtype=torch.float64))


def test_kinks_are_found() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    data = torch.randn(8, 3), torch.randn(8, 2)
    assert kinked_operations(es.Objective(model, es.supervised(es.losses.half_mse), data, threads=1)) == [
        "the operation 'relu'"
    ]
    assert kinked_operations(Layers(nn.Identity()).objective()) == []
