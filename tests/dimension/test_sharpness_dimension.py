"""The sharpness dimension and its estimators against dense Hessians, Jacobians and the formula by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor
from trained_network import network

import edgescope as es
from edgescope.dimension.estimators import default_bandwidth, exponents_of, smoothed

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def dense_hessian(model: torch.nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """In float64, by torch.func alone."""
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]

    def loss_of(w: Tensor) -> Tensor:
        pieces = w.split([shape.numel() for shape in shapes])
        values = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        return torch.nn.functional.cross_entropy(torch.func.functional_call(model, values, (x,)), y)

    w = torch.cat([p.detach().double().flatten() for p in model.parameters()])
    return torch.func.hessian(loss_of)(w)


def by_hand(logs: list[np.ndarray]) -> float:
    """Sorted logarithms, then the mean, then the formula."""
    exponents = np.mean([np.sort(one)[::-1] for one in logs], axis=0)
    if exponents[0] < 0:
        return 0.0
    sums = exponents.cumsum()
    order = int(np.flatnonzero(sums >= 0)[-1]) + 1
    return float(order) if order == len(sums) else order + sums[order - 1] / abs(exponents[order])


@pytest.mark.parametrize(("seed", "lr"), [(0, 0.3), (1, 2.0), (2, 30.0)])
def test_exact_dimension_against_a_dense_hessian(seed: int, lr: float) -> None:
    model, objective = network(seed)
    x, y = next(iter(objective._problem.batches))
    hessian = dense_hessian(model, x.double(), y)
    logs = torch.linalg.svdvals(torch.eye(51).double() - lr * hessian).log().numpy()
    found = es.sharpness_dimension(objective, lr)
    np.testing.assert_allclose(found.exponents.numpy(), logs, atol=1e-9)  # claim 1: sorted ln|1 - lr a|
    assert found.dimension == pytest.approx(by_hand([logs]), abs=1e-5)
    assert found.order == math.floor(by_hand([logs]))
    assert found.deficit == pytest.approx(51 - found.dimension)
    assert found.ratio == pytest.approx(found.dimension / 51)
    assert found.contraction == pytest.approx(logs.sum(), abs=1e-9)
    assert found.sharpness == pytest.approx(logs[0])
    assert (found.standard_error, found.drift, found.bias, found.converged) == (0, 0, 0, True)
    assert found.error < 1e-11
    assert (found.size, found.products, found.precision, found.batches) == (51, 51, "float64", 1)
    assert found.by_averaging == pytest.approx(dict.fromkeys(("sorted", "pooled", "each"), found.dimension))
    assert objective.spent.products == 51
    assert next(model.parameters()).dtype == torch.float32


def test_mini_batches_average_sorted_logarithms_first() -> None:
    model, objective = network(0)
    drawn = list(es.objective.mini_batches(objective, 10, 6, seed=3, dtype=torch.float64))
    logs = []
    for batch in drawn:
        x, y = next(iter(batch._problem.batches))
        assert x.shape == (10, 4)
        hessian = dense_hessian(model, x, y)
        logs.append((1 - 2.0 * torch.linalg.eigvalsh(hessian)).abs().log().numpy())
    found = es.sharpness_dimension(objective, 2.0, batch_size=10, batches=6, seed=3)
    assert found.dimension == pytest.approx(by_hand(logs), abs=1e-6)
    each = [by_hand([one]) for one in logs]
    pooled = by_hand([np.sort(np.concatenate(logs))]) / 6
    assert found.by_averaging == pytest.approx(
        {"sorted": by_hand(logs), "pooled": pooled, "each": np.mean(each)}, abs=1e-6
    )
    assert len({round(value, 4) for value in found.by_averaging.values()}) == 3  # claim 9
    for order in ("pooled", "each"):
        other = es.sharpness_dimension(objective, 2.0, batch_size=10, batches=6, seed=3, averaging=order)
        assert other.dimension == pytest.approx(found.by_averaging[order])
    student = scipy.stats.t.ppf(scipy.stats.norm.cdf(1), 5)  # 68.3% of both sides, from six
    assert other.standard_error == pytest.approx(student * np.std(each, ddof=1) / 6**0.5, abs=1e-6)
    left_out = [by_hand(logs[:i] + logs[i + 1 :]) for i in range(6)]
    assert found.standard_error == pytest.approx(student * np.std(left_out) * 5**0.5, abs=1e-6)
    assert found.contraction_error == pytest.approx(student * np.std([one.sum() for one in logs], ddof=1) / 6**0.5)
    assert (found.batches, found.products, found.cost.products) == (6, 6 * 51, 6 * math.ceil(51 / 4))
    matrices = [dense_hessian(model, *next(iter(batch._problem.batches))) for batch in drawn]
    for form in (matrices, iter(matrices), drawn, [es.linalg.from_matrix(m) for m in matrices]):
        assert es.sharpness_dimension(form, 2.0).dimension == pytest.approx(found.dimension, abs=1e-6)


def test_mini_batches_are_drawn_by_their_seed_from_all_samples() -> None:
    _, objective = network(0)
    first, again, other = (
        [next(iter(b._problem.batches))[0] for b in es.objective.mini_batches(objective, 15, 3, seed=seed)]
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])
    assert all(len(one.unique(dim=0)) == 15 for one in first)
    (whole,) = es.objective.mini_batches(objective, 40, 1)
    torch.testing.assert_close(whole.gradient(), objective.gradient())
    split = es.Objective(
        objective.model,
        objective.loss_fn,
        [
            next(iter(b._problem.batches))
            for b in (*es.objective.mini_batches(objective, 3, 1), *es.objective.mini_batches(objective, 5, 1, seed=1))
        ],
    )
    (joined,) = es.objective.mini_batches(split, 8, 1)
    torch.testing.assert_close(joined.loss(), split.loss())


def like_trained(size: int, seed: int) -> Tensor:
    """Eigenvalues as trained networks have them: a few large, a bulk around zero, a third of it negative."""
    rng = np.random.default_rng(seed)
    top, bulk = rng.uniform(2, 12, 10), np.exp(rng.normal(-4, 2, size - 10)) * rng.choice([-0.3, 1, 1], size - 10)
    return torch.diag(torch.as_tensor(np.r_[top, bulk]))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_quadrature_agrees_with_exact_within_its_error_on_networks(seed: int) -> None:
    _, objective = network(seed, (12, 24, 20, 10), samples=60, steps=150)
    assert objective.size == 1022
    exact = es.sharpness_dimension(objective, 0.3)
    found = es.sharpness_dimension(objective, 0.3, method="slq", seed=seed)
    assert found.converged
    assert found.precision == "float64"
    assert abs(found.dimension - exact.dimension) < 0.02 * 1022
    assert abs(found.dimension - exact.dimension) < 2.5 * found.error
    assert abs(found.contraction - exact.contraction) < 3.5 * found.contraction_error
    assert found.products == 16 * found.steps
    assert float(found.directions.sum()) == pytest.approx(1022)


def test_too_shallow_a_quadrature_says_so() -> None:
    matrix = like_trained(600, 0)
    exact = es.sharpness_dimension(matrix, 0.2)
    shallow = es.sharpness_dimension(matrix, 0.2, method="slq", steps=8, max_steps=8)
    assert not shallow.converged
    assert abs(shallow.dimension - exact.dimension) > 5 * shallow.standard_error
    assert abs(shallow.dimension - exact.dimension) < 2 * shallow.error
    deep = es.sharpness_dimension(matrix, 0.2, method="slq", steps=8)
    assert deep.converged
    assert deep.steps > 8
    assert abs(deep.dimension - exact.dimension) < 2.5 * deep.error
    assert es.sharpness_dimension(matrix, 0.2, method="slq", steps=1, max_steps=1).drift == math.inf


@pytest.mark.parametrize("method", ["exact", "slq", "kde", "ps"])
@pytest.mark.parametrize("seed", [0, 3])
def test_a_spectrum_gives_the_dimension_of_its_operator_at_any_rate(method: str, seed: int) -> None:
    members, fixed = [like_trained(80, number) for number in range(3)], {"probes": 3, "steps": 20, "seed": seed}
    kind = "exact" if method == "exact" else "slq"
    spectra = [es.spectrum(m, method=kind, **fixed | {"seed": seed + number}) for number, m in enumerate(members)]
    for lr in (0.2, 0.9):
        for of_spectra, of_members in ((spectra, members), (spectra[0], members[0])):
            found = es.sharpness_dimension(of_spectra, lr, method=method)
            expected = es.sharpness_dimension(of_members, lr, method=method, max_steps=20, **fixed)
            for name in ("dimension", "error", "contraction", "by_averaging", "dead_zones", "probes", "steps"):
                assert getattr(found, name) == getattr(expected, name)
            assert torch.equal(found.exponents, expected.exponents)
            assert (found.products, found.batches) == (0, expected.batches)


@pytest.mark.parametrize("method", ["slq", "kde", "ps"])
def test_estimators_over_mini_batches(method: str) -> None:
    members, fixed = [like_trained(200, seed) for seed in range(5)], {"probes": 4, "steps": 60, "max_steps": 60}
    exact = es.sharpness_dimension(members, 0.2, averaging="pooled")
    found = es.sharpness_dimension(members, 0.2, method=method, **fixed)
    assert abs(found.dimension - exact.dimension) < 0.05 * 200
    assert (found.batches, found.probes, found.products) == (5, 4, 5 * 4 * 60)
    assert 0 < found.standard_error < 0.05 * 200
    assert 0 <= found.dimension <= 200
    each = es.sharpness_dimension(members, 0.2, method=method, averaging="each", **fixed)
    assert each.dimension == pytest.approx(found.by_averaging["each"])
    if method != "slq":
        unsmoothed = es.sharpness_dimension(members, 0.2, method=method, bandwidth=0.0, quantiles=50_000, **fixed)
        plain = es.sharpness_dimension(members, 0.2, method="slq", **fixed)
        assert unsmoothed.dimension == pytest.approx(plain.dimension, abs=0.5)
        assert found.bandwidth > 0


def test_kde_is_the_papers_integral_of_the_smoothed_density() -> None:
    """By trapezoids from the top, until the weighted integral returns to 0."""
    rng = np.random.default_rng(0)
    nodes, shares = torch.as_tensor(rng.normal(0.4, 0.5, 40)), torch.as_tensor(rng.dirichlet(np.ones(40)))
    width = 0.1
    values, directions = exponents_of(nodes, shares, 100, lambda x: (1 - x).abs().log(), "kde", width)
    centres = np.log(np.abs(1 - nodes.numpy()))
    t = np.linspace(centres.max() + 1, centres.min() - 1, 200_001)
    bells = (
        np.exp(-0.5 * ((t[:, None] - centres) / width) ** 2) @ (100 * shares.numpy()) / (width * math.sqrt(2 * math.pi))
    )
    step = t[0] - t[1]
    mass, weighted = (np.cumsum((f[1:] + f[:-1]) / 2) * step for f in (bells, t * bells))
    end = np.flatnonzero((weighted <= 0) & (t[1:] < 0))[0]  # before it t > 0 and nothing has been summed
    assert es.kaplan_yorke(values, directions) == pytest.approx(mass[end], abs=0.3)


def test_quantiles_are_of_equal_mass_and_smoothing_keeps_mean_and_adds_variance() -> None:
    nodes, shares = torch.tensor([0.0, 1.0]).double(), torch.tensor([0.25, 0.75]).double()
    points, directions = exponents_of(nodes, shares, 8, lambda x: x, "ps", 0.0, 4)
    assert points.tolist() == [0, 1, 1, 1]
    assert directions.tolist() == [2, 2, 2, 2]
    for width in (0.0, 0.5, 1.0, 2.0):
        wide, masses = smoothed(nodes, shares, width)
        assert float(masses.sum()) == pytest.approx(1)
        assert float(wide @ masses) == pytest.approx(0.75)
        assert float((wide - 0.75) ** 2 @ masses) == pytest.approx(0.1875 + width**2)
    normal = torch.as_tensor(np.random.default_rng(0).normal(3, 2, 20_000))
    width = default_bandwidth(normal, torch.full((20_000,), 1 / 20_000).double(), lambda x: x, "kde")
    assert width == pytest.approx(0.9 * 2 * 20_000**-0.2, rel=0.03)


def test_a_dead_zone_makes_tiny_exponents_neutral() -> None:
    curvatures = torch.tensor([1.0, 1e-5, -1e-5, -1e-7, 0.0]).double()
    found = es.sharpness_dimension(torch.diag(curvatures), 0.5, dead_zones=[1e-6, 1e-3, 0.9])
    assert [zone.neutral for zone in found.dead_zones] == pytest.approx([2, 4, 5])
    # -1e-5 and -1e-7 expand, 0 is neutral, 1e-5 contracts: 4 directions and 1e-7 / ln 2 of the fifth, roughly
    assert found.dimension == pytest.approx(4 + 5e-8 / math.log(2), abs=1e-6)
    assert [zone.dimension for zone in found.dead_zones] == pytest.approx([4 - 5e-11 / 5e-6, 4, 5], abs=2e-5)
    contracting = es.sharpness_dimension(torch.diag(torch.tensor([1.0, 1e-3]).double()), 0.5, dead_zones=[1e-2])
    assert contracting.dimension == 0
    assert contracting.dead_zones[0].dimension == 1


@pytest.mark.parametrize(
    "name",
    [
        "sgd:weight_decay=0.1",
        "sgd:momentum=0.9",
        "rmsprop",
        "adamw:weight_decay=0.1,eps=0.1",
        "sgd:momentum=0.9,nesterov=true",
    ],
)
def test_the_optimizers_own_jacobian(name: str) -> None:
    model, objective = network(0)
    optimizer = es.OPTIMIZERS.build(name).build(model.parameters(), lr=0.05)
    for _ in range(3):
        for tensor, piece in zip(objective.tensors, objective.layout.split(objective.gradient()), strict=True):
            tensor.grad = piece.clone()
        optimizer.step()
    found = es.sharpness_dimension(objective, optimizer=optimizer)
    x, y = next(iter(objective._problem.batches))
    hessian, rule = dense_hessian(model, x.double(), y), es.rule_for(optimizer, objective.tensors)
    names = rule.vectors()
    state = {k: v if k == "step" else v.double() for k, v in rule.state().items()}
    w = objective.parameters().double()
    gradient = es.objective.in_precision(objective, torch.float64).gradient()

    def step(z: Tensor) -> Tensor:  # the loss replaced by its quadratic model at w
        here, *pieces = z.split(51)
        given = dict(zip(names, pieces, strict=True)) | {"step": state["step"]}
        new, after = rule.update(here, given, gradient + hessian @ (here - w))
        return torch.cat([new, *(after[one] for one in names)])

    jacobian = torch.func.jacrev(step)(torch.cat([w, *(state[one] for one in names)]))
    logs = torch.linalg.svdvals(jacobian).log().numpy()
    np.testing.assert_allclose(found.exponents.numpy(), logs, atol=1e-6)
    assert found.dimension == pytest.approx(by_hand([logs]), abs=1e-3)
    assert (found.size, found.lr) == (51 * (1 + len(names)), 0.05)


def test_plain_descent_as_an_optimizer_is_the_papers_jacobian() -> None:
    model, objective = network(1)
    own = es.sharpness_dimension(objective, optimizer=torch.optim.SGD(model.parameters(), lr=0.7), batch_size=20)
    paper = es.sharpness_dimension(objective, 0.7, batch_size=20)
    assert own.dimension == pytest.approx(paper.dimension, abs=1e-6)
    torch.testing.assert_close(own.exponents, paper.exponents, atol=1e-9, rtol=0)


def test_golden_mlp_orders_of_averaging_differ_by_little() -> None:
    """312 parameters, as in the science notes: the three orders lie within about 1 % of each other, and differ."""
    _, objective = network(0, (9, 16, 8, 2), samples=64)
    assert objective.size == 314
    found = es.sharpness_dimension(objective, 0.3, batch_size=16, batches=5)
    values = list(found.by_averaging.values())
    assert 0 < max(values) - min(values) < 0.03 * 314
