"""The measures that compete with the dimension, each against its definition in float64 on small networks."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from small_problem import Problem
from torch import Tensor, nn

from edgescope.errors import EdgescopeError, NotKnownError
from edgescope.linalg import to_matrix
from edgescope.losses import cross_entropy, half_mse, supervised
from edgescope.measures import MEASURES, Moment, Reading
from edgescope.objective import Objective, mini_batches
from edgescope.objective.samples import sample_gradients, sample_losses

FLOATS = [torch.float32, torch.float64]


def value(spec: str, problem: Problem, **more: Any) -> float:
    reading = MEASURES.build(spec).take(problem.moment(**more))
    assert reading.note == ""
    return reading.values[""]


def moment_of(model: nn.Module, data: Any, **how: Any) -> Moment:
    objective = Objective(model, how.pop("loss_fn", supervised(half_mse)), data, path="kept", threads=1, **how)
    w = objective.parameters()
    return Moment(step=0, objective=objective, optimizer=None, rule=None, parameters=w, initial=w)


# ------------------------------------------------------------------------------------------------- the Frobenius norm


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("seed", range(3))
def test_frobenius_norm_is_exact_where_probes_span_the_space_and_else_within_its_error(
    seed: int, dtype: torch.dtype
) -> None:
    problem = Problem(seed, dtype)
    exact = float(torch.linalg.matrix_norm(problem.hessian()))
    whole = MEASURES.build("hessian_frobenius:num_matvecs=60").take(problem.moment())
    assert whole.values[""] == pytest.approx(exact, rel=1e-5)
    assert abs(whole.values[""] - exact) < 3 * whole.errors[""]  # rounding alone
    assert whole.errors[""] < (1e-5 if dtype == torch.float32 else 1e-13) * exact
    sampled = MEASURES.build(f"hessian_frobenius:num_matvecs=15,seed={seed}").take(problem.moment())
    assert sampled.cost.products == 15
    assert 0 < abs(sampled.values[""] - exact) < 3 * sampled.errors[""] < 0.45 * exact


# ------------------------------------------------------------------------------------------------- the RDS sharpness


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("lr", [0.05, 0.6, 3.0])
def test_rds_sharpness_is_the_largest_log_singular_value_of_the_jacobian(lr: float, dtype: torch.dtype) -> None:
    for seed in range(3):
        problem = Problem(seed, dtype)
        optimizer = torch.optim.SGD(problem.model.parameters(), lr=lr)
        measure = MEASURES.build("rds_sharpness:tol=1e-4")
        for _ in range(2):
            jacobian = torch.eye(problem.objective.size, dtype=torch.float64) - lr * problem.hessian()
            exact = math.log(float(torch.linalg.matrix_norm(jacobian, 2)))
            reading = measure.take(problem.moment(optimizer))
            assert reading.values[""] == pytest.approx(exact, abs=3e-4)
            assert reading.values[""] == max(reading.values["top"], reading.values["bottom"])
            ends = torch.linalg.eigvalsh(problem.hessian())[[-1, 0]]
            stretches = (1 - lr * ends).abs().log().tolist()
            assert [reading.values["top"], reading.values["bottom"]] == pytest.approx(stretches, abs=1e-3)
            assert 0 <= reading.errors[""] < 1e-3
            problem.train(torch.optim.SGD(problem.model.parameters(), lr=0.3), 2)


def test_rds_sharpness_at_a_learning_rate_of_its_own_needs_no_optimizer() -> None:
    problem = Problem(1)
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.7)
    own = MEASURES.build("rds_sharpness:tol=1e-5").take(problem.moment(optimizer)).values[""]
    assert value("rds_sharpness:tol=1e-5,lr=0.7", problem) == pytest.approx(own, abs=1e-9)
    assert "no optimizer" in MEASURES.build("rds_sharpness").take(problem.moment()).note


def test_rds_sharpness_over_mini_batches_is_the_mean_of_theirs() -> None:
    problem, lr = Problem(3), 1.5
    measure = MEASURES.build(f"rds_sharpness:lr={lr},batch=5,batches=6,seed=2,tol=1e-5")
    reading = measure.take(problem.moment())
    exact = []
    for part in mini_batches(problem.objective, 5, 6, seed=2):
        jacobian = torch.eye(part.size, dtype=torch.float64) - lr * to_matrix(part)
        exact.append(math.log(float(torch.linalg.matrix_norm(jacobian, 2))))
    assert len(set(exact)) == 6
    assert reading.values == pytest.approx({"": np.mean(exact)}, abs=1e-4)
    assert reading.errors[""] == pytest.approx(np.std(exact, ddof=1) / 6**0.5, rel=1e-2)
    assert 0 < reading.cost.products < 6 * 51  # a quarter of what products on all data would cost
    assert "batch size of 21" in MEASURES.build("rds_sharpness:lr=1,batch=21").take(problem.moment()).note


def test_rds_sharpness_where_the_jacobian_vanishes_is_a_note() -> None:
    # loss w^2 / 2 of one weight: H = 1, and I - lr H = 0 at lr = 1.
    model = nn.Linear(1, 1, bias=False)
    moment = moment_of(model, (torch.ones(1, 1), torch.zeros(1, 1)))
    reading = MEASURES.build("rds_sharpness:lr=1").take(moment)
    assert reading.values == {}
    assert "singular" in reading.note
    assert "\n" not in reading.note


# ----------------------------------------------------------------------------------- average and worst-case sharpness


def quadratic(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Problem, Tensor, Tensor, Tensor]:
    """A linear model under half-MSE: its loss is exactly quadratic. With gradient, Hessian and parameters."""
    problem = Problem(seed, dtype, linear=True)
    w = problem.flat().double().requires_grad_()
    (gradient,) = torch.autograd.grad(problem.loss_at(w), w)
    return problem, gradient, problem.hessian(), w.detach()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("adaptive", [True, False])
def test_average_sharpness_of_a_quadratic_loss_is_half_the_scaled_trace(adaptive: bool, dtype: torch.dtype) -> None:
    rho, scores = 0.1, []
    for seed in range(8):
        problem, _, hessian, w = quadratic(seed, dtype)
        scale = w.abs() if adaptive else torch.ones_like(w)
        exact = rho**2 / 2 * float((hessian.diagonal() * scale**2).sum())
        spec = f"average_sharpness:rho={rho},pairs=40,seed={seed},adaptive={str(adaptive).lower()}"
        reading = MEASURES.build(spec).take(problem.moment())
        # The slope of the loss cancels in pairs: what is left to chance is the chi-square of the quadratic form.
        assert 0 < reading.errors[""] < 0.2 * exact
        assert reading.cost.losses == 81
        scores.append((reading.values[""] - exact) / reading.errors[""])
    assert max(map(abs, scores)) < 4
    assert np.mean(np.abs(scores) < 2) >= 0.6


def highest_on_ball(hessian: Tensor, gradient: Tensor, rho: float) -> float:
    """The maximum of <g, u> + u'Hu / 2 over ||u|| <= rho, H positive: at the u = (m - H)^-1 g of that length."""
    values, vectors = torch.linalg.eigh(hessian)
    along = (vectors.T @ gradient).numpy()
    top = float(values[-1])
    values = values.numpy()
    m = brentq(lambda m: np.linalg.norm(along / (m - values)) - rho, top + 1e-12, top + np.linalg.norm(along) / rho + 1)
    u = along / (m - values)
    return float(along @ u + (values * u * u).sum() / 2)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("adaptive", [True, False])
def test_worst_case_sharpness_of_a_quadratic_loss_is_that_of_the_trust_region(
    adaptive: bool, dtype: torch.dtype
) -> None:
    for seed, rho in itertools.product(range(3), (0.05, 1.0)):
        problem, gradient, hessian, w = quadratic(seed, dtype)
        scale = w.abs() if adaptive else torch.ones_like(w)
        exact = highest_on_ball(scale[:, None] * hessian * scale, scale * gradient, rho)
        spec = f"worst_case_sharpness:rho={rho},iterations=60,adaptive={str(adaptive).lower()}"
        reading = MEASURES.build(spec).take(problem.moment())
        assert reading.values[""] == pytest.approx(exact, rel=5e-3)
        assert reading.values[""] <= exact * (1 + 1e-5)
        assert 0 <= reading.errors[""] <= 1e-2 * exact
        assert reading.cost.gradients <= 2 * 60 + 1


@pytest.mark.parametrize("adaptive", [True, False])
def test_worst_case_sharpness_in_a_cube_is_at_the_best_corner(adaptive: bool) -> None:
    # A convex quadratic is largest at a corner; 2^15 of them can be tried.
    for seed, rho in itertools.product(range(2), (0.01, 0.3)):
        problem, gradient, hessian, w = quadratic(seed)
        scale = w.abs() if adaptive else torch.ones_like(w)
        corners = rho * torch.tensor(list(itertools.product((-1.0, 1.0), repeat=15)), dtype=torch.float64) * scale
        exact = float((corners @ gradient + (corners @ hessian * corners).sum(1) / 2).max())
        spec = f"worst_case_sharpness:norm=linf,rho={rho},restarts=60,adaptive={str(adaptive).lower()}"
        reading = MEASURES.build(spec).take(problem.moment())
        assert reading.values[""] == pytest.approx(exact, rel=1e-9)
        assert reading.errors[""] == pytest.approx(0, abs=1e-9)


def test_worst_case_sharpness_climbs_from_a_minimum_where_there_is_no_slope() -> None:
    # Without a residual the gradient is exactly 0, and the maximum rho^2 / 2 times the largest eigenvalue.
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False).double()
    inputs = torch.randn(30, 3, dtype=torch.float64) * torch.tensor([3.0, 1.0, 0.5])
    moment = moment_of(model, (inputs, model(inputs).detach()))
    top = float(torch.linalg.eigvalsh(inputs.T @ inputs / 30)[-1])
    reading = MEASURES.build("worst_case_sharpness:adaptive=false,rho=0.1,iterations=40").take(moment)
    assert reading.values[""] == pytest.approx(0.005 * top, rel=1e-3)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_worst_case_sharpness_of_a_network_is_a_rise_that_is_really_there(norm: str) -> None:
    for seed in range(3):
        problem = Problem(seed)
        rho = 0.5 if norm == "l2" else 0.1
        w, here = problem.flat(), float(problem.objective.loss())
        found = MEASURES.build(f"worst_case_sharpness:norm={norm},rho={rho},restarts=3").take(problem.moment())
        directions = torch.randn(300, len(w), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        order = 2 if norm == "l2" else float("inf")
        directions *= rho / torch.linalg.vector_norm(directions, order, dim=1, keepdim=True)
        sampled = max(float(problem.loss_at(w + w.abs() * d)) for d in directions) - here
        bound = float((problem.objective.gradient() * w).abs().sum() if norm == "linf" else 0)
        assert found.values[""] > max(sampled, bound * rho * 0.5)
        assert 0 <= found.errors[""] < 0.1 * found.values[""]


class TwoLayers(nn.Module):
    """A ReLU network whose layers can be rescaled against each other without changing its function."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Linear(4, 6).double(), nn.Linear(6, 3).double()
        with torch.no_grad():
            self.first.weight *= factor
            self.first.bias *= factor
            self.second.weight /= factor

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


def test_rescaling_that_leaves_the_function_leaves_adaptive_sharpness_and_path_norm() -> None:
    # Dinh et al. 2017: everything that is not adaptive changes.
    data = torch.randn(20, 4, dtype=torch.float64), torch.randint(3, (20,))
    plain, scaled = (moment_of(TwoLayers(factor), data) for factor in (1.0, 20.0))

    def both(spec: str) -> tuple[float, float]:
        return tuple(MEASURES.build(spec).take(moment).values[""] for moment in (plain, scaled))  # type: ignore[return-value]

    for kept in ("average_sharpness", "worst_case_sharpness", "worst_case_sharpness:norm=linf,rho=0.01", "path_norm"):
        one, other = both(kept)
        assert other == pytest.approx(one, rel=1e-6)
    for moved in ("average_sharpness:adaptive=false", "worst_case_sharpness:adaptive=false,rho=0.05"):
        one, other = both(moved)
        assert other > 5 * one
    assert both("hessian_frobenius:num_matvecs=90")[1] > 5 * both("hessian_frobenius:num_matvecs=90")[0]


# ------------------------------------------------------------------------------------------------- the path norm


def by_enumeration(model: nn.Sequential) -> float:
    """The path norm of a fully connected network: every path from an input or a bias, one by one."""
    layers = [part for part in model if isinstance(part, nn.Linear)]
    total = 0.0
    for depth, layer in enumerate(layers):
        sources = range(layer.in_features) if depth == 0 else ()
        weights = layer.weight.detach().double()
        starts = [[weights[j, i].item() for i in sources] for j in range(layer.out_features)]
        if layer.bias is not None:
            for j, start in enumerate(starts):
                start.append(layer.bias[j].item())
        widths = [range(later.out_features) for later in layers[depth + 1 :]]
        for j, start in enumerate(starts):
            for first, rest in itertools.product(start, itertools.product(*widths)):
                product, at = first, j
                for later, to in zip(layers[depth + 1 :], rest, strict=True):
                    product *= later.weight[to, at].item()
                    at = to
                total += product**2
    return math.sqrt(total)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", [nn.ReLU, nn.Tanh, nn.GELU])
@pytest.mark.parametrize("bias", [True, False])
def test_path_norm_is_that_of_all_paths(kind: type[nn.Module], bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    data = torch.randn(5, 4, dtype=dtype), torch.randint(2, (5,))
    layers = [nn.Linear(4, 3, bias), kind(), nn.Linear(3, 3, bias), kind(), nn.Linear(3, 2, bias)]
    model = nn.Sequential(*layers, nn.Dropout(0.5)).to(dtype)
    before = [p.clone() for p in model.parameters()]
    moment = moment_of(model, data)
    reading = MEASURES.build("path_norm").take(moment)
    assert reading.values[""] == pytest.approx(by_enumeration(model), rel=1e-9)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert isinstance(model[1], kind)


def test_path_norm_of_a_convolution_is_that_of_the_matrix_it_is() -> None:
    torch.manual_seed(0)
    conv, head = nn.Conv2d(1, 2, 3, bias=False).double(), nn.Linear(2, 2, bias=False).double()
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), head)
    reading = MEASURES.build("path_norm").take(
        moment_of(model, (torch.randn(4, 1, 3, 3).double(), torch.randint(2, (4,))))
    )
    matrix = conv.weight.detach().reshape(2, 9)
    exact = (head.weight.detach() ** 2 @ matrix**2).sum().sqrt()
    assert reading.values[""] == pytest.approx(float(exact))


class Squeezed(TwoLayers):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 3)), "LayerNorm ('1')"),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), "BatchNorm1d ('1')"),
        (Squeezed(1.0), "not homogeneous"),
        (nn.Sequential(nn.Linear(4, 3), nn.Softplus(), nn.Linear(3, 3)), "not homogeneous"),
    ],
    ids=["layer", "batch", "called", "softplus"],
)
def test_path_norm_of_other_networks_is_a_note(model: nn.Module, words: str) -> None:
    data = torch.randn(6, 4), torch.randint(3, (6,))
    reading = MEASURES.build("path_norm").take(moment_of(model.float(), data))
    assert reading.values == {}
    assert words in reading.note
    assert "\n" not in reading.note


def test_path_norm_of_a_loss_that_hides_the_outputs_is_a_note() -> None:
    model, data = nn.Linear(3, 2), (torch.randn(6, 3), torch.randint(2, (6,)))
    moment = moment_of(model, data, loss_fn=lambda m, batch: half_mse(m(batch[0]), batch[1]))
    assert "try edgescope.supervised" in MEASURES.build("path_norm").take(moment).note


# ------------------------------------------------------------------------------------------------- single samples


def one_by_one(problem: Problem) -> tuple[Tensor, Tensor]:
    """Losses and gradients of each sample, by plain torch."""
    inputs, targets = problem.data
    w = problem.flat().double().requires_grad_()
    losses = [problem.loss_at(w, (inputs[i : i + 1], targets[i : i + 1])) for i in range(len(inputs))]
    gradients = [torch.autograd.grad(loss, w)[0] for loss in losses]
    return torch.stack(losses).detach(), torch.stack(gradients)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_losses_and_gradients_of_single_samples(l2: float, dtype: torch.dtype) -> None:
    problem = Problem(2, dtype)
    batches = [tuple(t[a:b] for t in problem.data) for a, b in ((0, 9), (9, 16), (16, 20))]
    objective = Objective(problem.model, supervised(half_mse), batches, path="kept", threads=1, l2=l2)
    losses, gradients = one_by_one(problem)
    assert torch.allclose(sample_losses(objective), losses, rtol=1e-5, atol=1e-7)
    assert torch.allclose(torch.cat(list(sample_gradients(objective))).double(), gradients, rtol=1e-4, atol=1e-6)
    some = torch.cat(list(sample_gradients(objective, count=8, seed=1))).double()
    matches = [int((gradients - row).abs().sum(1).argmin()) for row in some]
    assert len(set(matches)) == 8
    assert torch.allclose(some, gradients[matches], rtol=1e-4, atol=1e-6)
    assert sorted(matches) != list(range(8))
    assert (objective.spent.losses, objective.spent.gradients) == (1, 2)


def test_single_samples_of_an_operation_that_cannot_be_mapped() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            out = self.layer(x)
            return 2 * out if float(out.detach().sum()) > 1e9 else out

    torch.manual_seed(0)
    model, plain = Branching(), nn.Linear(4, 3)
    plain.load_state_dict(model.layer.state_dict())
    data = torch.randn(7, 4), torch.randint(3, (7,))
    one, other = (Objective(m, supervised(cross_entropy), data, path="kept", threads=1) for m in (model, plain))
    assert torch.allclose(sample_losses(one), sample_losses(other))
    assert torch.allclose(torch.cat(list(sample_gradients(one))), torch.cat(list(sample_gradients(other))), atol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("seed", range(3))
def test_gradient_noise_is_the_trace_of_the_covariance_over_samples(seed: int, dtype: torch.dtype) -> None:
    problem = Problem(seed, dtype)
    _, gradients = one_by_one(problem)
    exact = float(torch.cov(gradients.T).trace())
    length = float(gradients.mean(0).square().sum())
    reading = MEASURES.build("gradient_noise").take(problem.moment())
    assert reading.values == pytest.approx({"trace": exact, "scale": exact / length}, rel=1e-4)
    assert reading.errors == {"trace": 0, "scale": 0}
    assert reading.cost.gradients == 2


def test_gradient_noise_of_some_samples_is_within_its_error_and_unbiased() -> None:
    problem = Problem(4)
    exact = float(torch.cov(one_by_one(problem)[1].T).trace())
    readings = [MEASURES.build(f"gradient_noise:samples=10,seed={i}").take(problem.moment()) for i in range(40)]
    found, errors = (np.array([getattr(r, which)["trace"] for r in readings]) for which in ("values", "errors"))
    assert np.mean(np.abs(found - exact) < 2.3 * errors) > 0.85
    assert abs(found.mean() - exact) < 4 * found.std() / 40**0.5
    assert found.std() == pytest.approx(errors.mean(), rel=0.4)


def test_weight_decay_has_no_noise_but_is_part_of_the_gradient() -> None:
    problem = Problem(0)
    plain = MEASURES.build("gradient_noise").take(problem.moment())
    decayed = moment_of(problem.model, problem.data, l2=0.5)
    reading = MEASURES.build("gradient_noise").take(decayed)
    assert reading.values["trace"] == pytest.approx(plain.values["trace"])
    length = float(decayed.objective.gradient().square().sum())
    assert reading.values["scale"] == pytest.approx(plain.values["trace"] / length)


def token_mean(model: nn.Module, batch: Any) -> Tensor:
    """A mean over the samples that count, which is no mean over samples."""
    inputs, counted = batch
    return (model(inputs).square().sum(1) * counted).sum() / counted.sum()


def noise_of(model: nn.Module, data: Any, **how: Any) -> Reading:
    return MEASURES.build("gradient_noise").take(moment_of(model, data, **how))


def test_where_single_samples_have_no_gradient_the_note_says_why() -> None:
    torch.manual_seed(0)
    data = torch.randn(6, 4), torch.randint(3, (6,))
    single = noise_of(nn.Linear(4, 3), (data[0][:1], data[1][:1]))
    normalised = noise_of(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), data, mode="train")
    weighed = noise_of(nn.Linear(4, 3), (data[0], torch.tensor([1.0, 3.0, 2.0, 1.0, 5.0, 1.0])), loss_fn=token_mean)
    for reading, words in ((single, "single sample"), (normalised, "batch statistics"), (weighed, "not a mean over")):
        assert reading.values == {}
        assert words in reading.note
        assert "\n" not in reading.note
    flat = nn.Linear(4, 3).double()
    exact = noise_of(flat, (data[0].double(), flat(data[0].double()).detach()))
    assert list(exact.values) == ["trace"]
    assert "gradient is zero" in exact.note


def test_after_divergence_only_what_needs_no_derivative_is_taken() -> None:
    problem = Problem()
    for name in ("average_sharpness", "gradient_noise", "hessian_frobenius", "rds_sharpness", "worst_case_sharpness"):
        reading = MEASURES.build(name).take(problem.moment(diverged=True))
        assert reading.values == {}
        assert "diverged" in reading.note


def test_a_loss_that_is_not_finite_nearby_is_a_note() -> None:
    def steep(model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch).square().mean().mul(200).exp()

    torch.manual_seed(0)
    moment = moment_of(nn.Linear(3, 1), torch.randn(5, 3) * 0.1, loss_fn=steep)
    for spec in ("average_sharpness:rho=100", "worst_case_sharpness:rho=100"):
        reading = MEASURES.build(spec).take(moment)
        assert reading.values == {}
        assert "not finite within rho" in reading.note


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("average_sharpness:rho=0", "'average_sharpness' with rho=0; expected a finite number above 0; try rho=0.05"),
        ("average_sharpness:pairs=1", "pairs=1"),
        ("worst_case_sharpness:rho=-1", "'worst_case_sharpness' with rho=-1"),
        ("worst_case_sharpness:norm=l1", "norm='l1'; expected one of l2, linf"),
        ("worst_case_sharpness:restarts=0", "restarts=0"),
        ("gradient_noise:samples=1", "samples=1"),
        ("rds_sharpness:lr=0", "lr=0;"),
        ("rds_sharpness:batches=1", "batches=1"),
        ("persistent_homology:iterates=19", "iterates=19; expected a whole number of at least 20"),
        ("persistent_homology:stride=0", "stride=0"),
        ("persistent_homology:alpha=nan", "alpha=nan"),
        ("persistent_homology:metric=cosine", "metric='cosine'"),
    ],
)
def test_bad_options_are_one_line_that_names_the_fault(spec: str, words: str) -> None:
    with pytest.raises(EdgescopeError) as caught:
        MEASURES.build(spec)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rds_sharpness_continues_bit_for_bit_from_its_state() -> None:
    problem = Problem(6)
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.3)
    measure, resumed = MEASURES.build("rds_sharpness"), MEASURES.build("rds_sharpness")
    for _ in range(3):
        problem.train(optimizer, 2)
        measure.take(problem.moment(optimizer))
    resumed.load_state(measure.state())
    problem.train(optimizer, 2)
    a, b = measure.take(problem.moment(optimizer)), resumed.take(problem.moment(optimizer))
    assert a.values == b.values
    assert a.cost.products == b.cost.products
    fresh = MEASURES.build("rds_sharpness").take(problem.moment(optimizer))
    assert fresh.cost.products > a.cost.products  # so the state did matter


def test_sharded_samples_are_refused_in_one_line() -> None:
    problem = Problem()
    problem.objective.group = object()  # type: ignore[assignment]
    with pytest.raises(NotKnownError, match="sharded") as caught:
        sample_losses(problem.objective)
    assert "\n" not in str(caught.value)
