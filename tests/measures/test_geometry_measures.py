"""Measures in the optimizer's own geometry, against dense float64 matrices, closed forms and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_problem import Problem

from edgescope.errors import EdgescopeError, InputError
from edgescope.measures import MEASURES, Previous
from edgescope.optim import SteepestDescent

LR = 0.05
SHAPES = [(6, 4), (6,), (3, 6), (3,)]
GEOMETRIES = ["euclidean", "diagonal", "linf", "blocks", "spectral"]


def pieces(vector: torch.Tensor) -> list[np.ndarray]:
    """The tensors of a vector as matrices, vectors as columns."""
    parts = vector.double().split([math.prod(shape) for shape in SHAPES])
    return [part.reshape(shape[0], -1).numpy() for part, shape in zip(parts, SHAPES, strict=True)]


def norms(name: str, vector: torch.Tensor) -> tuple[float, float]:
    """Norm and dual norm, as NumPy writes them."""
    flat, parts = vector.double().numpy(), pieces(vector)
    fan_in = np.concatenate([np.full(math.prod(s), math.prod(s[1:]), float) for s in SHAPES])
    lengths = [np.linalg.norm(part) for part in parts]
    return {
        "euclidean": (np.linalg.norm(flat), np.linalg.norm(flat)),
        "diagonal": (np.sqrt((fan_in * flat**2).sum()), np.sqrt((flat**2 / fan_in).sum())),
        "linf": (np.abs(flat).max(), np.abs(flat).sum()),
        "blocks": (sum(lengths), max(lengths)),
        "spectral": (max(np.linalg.norm(p, 2) for p in parts), sum(np.linalg.norm(p, "nuc") for p in parts)),
    }[name]


def descent(problem: Problem, geometry: str, normalized: bool = False, lr: float = LR) -> SteepestDescent:
    return SteepestDescent(problem.model.parameters(), lr=lr, geometry=geometry, normalized=normalized)


def previous(problem: Problem) -> Previous:
    objective = problem.objective
    return Previous(objective.parameters(), objective.loss(), objective.gradient())


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_bracket_holds_against_the_dense_hessian_and_the_threshold_is_that_of_the_gradient(
    geometry: str, normalized: bool
) -> None:
    problem = Problem(1)
    problem.train(torch.optim.SGD(problem.model.parameters(), lr=0.3), 5)
    hessian = problem.hessian()
    reading = MEASURES.build("generalized_sharpness").take(problem.moment(descent(problem, geometry, normalized)))
    lower, upper = reading.values["lower"], reading.values["upper"]
    assert lower <= upper * (1 + 1e-9)
    assert reading.errors["lower"] == pytest.approx(upper - lower)
    generator = torch.Generator().manual_seed(0)
    highest = 0.0
    for _ in range(2000):  # d'Hd over ||d||^2 of points that power steps, which do not know the library, improve
        d = torch.randn(51, generator=generator, dtype=torch.float64)
        d = torch.sign(hessian @ d) if geometry == "linf" else hessian @ d
        highest = max(highest, float(d @ hessian @ d) / norms(geometry, d)[0] ** 2)
    assert upper >= highest
    assert lower >= 0.8 * highest
    exact = {"euclidean": hessian, "diagonal": None}
    if geometry == "diagonal":
        fan_in = torch.cat([torch.full((math.prod(s),), float(math.prod(s[1:]))) for s in SHAPES]).double()
        exact["diagonal"] = hessian / fan_in.sqrt()[:, None] / fan_in.sqrt()
    if geometry in exact:
        top = np.linalg.eigvalsh(exact[geometry].numpy())[-1]
        assert lower == pytest.approx(top, rel=1e-3)
        assert upper >= top * (1 - 1e-9)
    dual = norms(geometry, problem.objective.gradient())[1]
    threshold = 2 * dual / LR if normalized else 2 / LR
    assert reading.values["threshold"] == pytest.approx(threshold, rel=1e-9)
    assert reading.values["ratio"] == pytest.approx(lower / threshold, rel=1e-9)
    assert reading.errors["ratio"] == pytest.approx((upper - lower) / threshold, rel=1e-9, abs=1e-12)


def test_block_sharpness_lies_above_the_largest_eigenvalue_of_a_block() -> None:
    problem = Problem(2)
    hessian, end = problem.hessian(), 0
    tops = []
    for shape in SHAPES:
        place, end = slice(end, end + math.prod(shape)), end + math.prod(shape)
        tops.append(np.linalg.eigvalsh(hessian[place, place].numpy())[-1])
    reading = MEASURES.build("generalized_sharpness").take(problem.moment(descent(problem, "blocks")))
    assert reading.values["lower"] >= max(tops) * (1 - 1e-3)
    assert reading.values["upper"] <= max(np.linalg.eigvalsh(hessian.numpy())) * (1 + 1e-6)


def test_adaptive_methods_are_measured_in_the_norm_of_their_preconditioner() -> None:
    problem = Problem(3)
    optimizer = torch.optim.RMSprop(problem.model.parameters(), lr=0.01, eps=1e-3)
    assert "before its first step" in MEASURES.build("generalized_sharpness").take(problem.moment(optimizer)).note
    problem.train(optimizer, 4)
    entries = torch.cat([optimizer.state[p]["square_avg"].sqrt().flatten() for p in problem.model.parameters()]) + 1e-3
    exact = np.linalg.eigvalsh((problem.hessian() / entries.sqrt()[:, None] / entries.sqrt()).numpy())[-1]
    reading = MEASURES.build("generalized_sharpness").take(problem.moment(optimizer))
    assert reading.values["lower"] == pytest.approx(exact, rel=1e-3)
    assert reading.values["ratio"] == pytest.approx(exact * 0.01 / 2, rel=1e-3)


def test_a_named_geometry_needs_no_optimizer_and_has_no_threshold() -> None:
    problem = Problem(4)
    own = MEASURES.build("generalized_sharpness").take(problem.moment(descent(problem, "mixed")))
    named = MEASURES.build("generalized_sharpness:geometry=mixed:matrices=spectral;vectors=linf")
    reading = named.take(problem.moment())
    assert set(reading.values) == {"lower", "upper"}
    assert reading.values["lower"] == pytest.approx(own.values["lower"], rel=1e-3)
    assert "no optimizer" in MEASURES.build("generalized_sharpness").take(problem.moment()).note


def test_certificates_come_as_often_as_asked_and_a_zero_gradient_has_no_ratio() -> None:
    problem = Problem(5)
    optimizer = descent(problem, "linf", normalized=True)
    found = {}
    for every in (0, 1, 2):
        measure = MEASURES.build(f"generalized_sharpness:certificate={every}")
        found[every] = ["upper" in measure.take(problem.moment(optimizer)).values for _ in range(4)]
    # A matrix this small is formed anyway, and then a certificate is only left out.
    assert found == {0: [False] * 4, 1: [True] * 4, 2: [True, False, True, False]}
    with torch.no_grad():  # a network of zeros that fits targets of zeros
        for p in problem.model.parameters():
            p.zero_()
    problem.data[1].zero_()
    still = Problem(5, linear=True)
    with torch.no_grad():
        for p in still.model.parameters():
            p.zero_()
    targets = torch.zeros(20, 3, dtype=torch.float64)
    from edgescope.losses import half_mse, supervised
    from edgescope.objective import Objective

    still.objective = Objective(still.model, supervised(half_mse), (still.data[0], targets), path="kept", threads=1)
    reading = MEASURES.build("generalized_sharpness").take(still.moment(descent(still, "linf", normalized=True)))
    assert set(reading.values) == {"lower", "upper"}


def wide(seed: int = 0) -> Problem:
    """A network with more parameters than the size up to which matrices are formed."""
    problem = Problem(seed)
    torch.manual_seed(seed)
    problem.model = torch.nn.Sequential(torch.nn.Linear(4, 25), torch.nn.Tanh(), torch.nn.Linear(25, 3)).double()
    from edgescope.losses import half_mse, supervised
    from edgescope.objective import Objective

    problem.objective = Objective(problem.model, supervised(half_mse), problem.data, path="kept", threads=1)
    problem.initial = problem.objective.parameters()
    return problem


@pytest.mark.parametrize("geometry", ["linf", "blocks", "spectral"])
def test_sharpness_is_followed_for_sixty_products_and_continues_bit_for_bit(geometry: str) -> None:
    problem = wide()
    optimizer = descent(problem, geometry, lr=1e-3)
    measure, resumed = (MEASURES.build("generalized_sharpness") for _ in range(2))
    for _ in range(3):
        reading = measure.take(problem.moment(optimizer))
        problem.train(optimizer, 3)
    assert 0 < reading.cost.products <= 60
    resumed.load_state(measure.state())
    a, b = measure.take(problem.moment(optimizer)), resumed.take(problem.moment(optimizer))
    assert a.values == b.values
    assert a.cost.products == b.cost.products
    fresh = MEASURES.build("generalized_sharpness").take(problem.moment(optimizer))
    assert fresh.cost.products > a.cost.products
    assert a.values["lower"] == pytest.approx(fresh.values["lower"], rel=0.05)


@pytest.mark.parametrize("normalized", [False, True])
def test_effective_sharpness_and_ratio_know_every_geometry(normalized: bool) -> None:
    problem = wide(1)
    optimizer = descent(problem, "linf", normalized)
    moment = problem.moment(optimizer)
    whole = MEASURES.build("generalized_sharpness").take(moment)
    dual = float(problem.objective.gradient().abs().sum())
    for name, value in (("effective_sharpness", whole.values["ratio"] * 2 / LR), ("ratio", whole.values["ratio"])):
        alone = MEASURES.build(name).take(moment)
        assert alone.values[""] == pytest.approx(value, rel=0.02)
        assert 0 < alone.cost.products < whole.cost.products
        moment.shared.clear()
        moment.shared["generalized_sharpness"] = whole
        shared = MEASURES.build(name).take(moment)
        assert shared.values[""] == pytest.approx(value, rel=1e-9)
        assert shared.cost.products == 0
        assert shared.errors[""] == pytest.approx(value / whole.values["lower"] * whole.errors["lower"])
        moment.shared.clear()
    effective = MEASURES.build("effective_sharpness").take(moment).values[""]
    assert effective == pytest.approx(whole.values["lower"] / (dual if normalized else 1.0), rel=0.02)
    measure = MEASURES.build("effective_sharpness")
    measure.take(moment)
    resumed = MEASURES.build("effective_sharpness")
    resumed.load_state(measure.state())
    assert resumed.take(moment).values == measure.take(moment).values


@pytest.mark.parametrize("rate", [0.3, 2.5])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_smoothness_in_the_geometry_of_the_step_gives_its_loss_change_and_its_sign(
    geometry: str, normalized: bool, rate: float
) -> None:
    problem = Problem(6)
    gradient = problem.objective.gradient()
    dual = norms(geometry, gradient)[1]
    sharp = MEASURES.build("generalized_sharpness").take(problem.moment(descent(problem, geometry))).values["lower"]
    lr = rate * 2 / sharp * (dual if normalized else 1.0)
    optimizer = descent(problem, geometry, normalized, lr)
    before, old = previous(problem), problem.loss_at(problem.flat()).item()
    problem.train(optimizer, 1)
    change = problem.loss_at(problem.flat()).item() - old
    values = MEASURES.build("directional_smoothness").take(problem.moment(optimizer, 1, previous=before)).values
    assert values["dual_norm"] == pytest.approx(dual, rel=1e-9)
    identity = lr * (dual - lr * values[""] / 2) if normalized else lr * (1 - lr * values[""] / 2) * dual**2
    assert change == pytest.approx(-identity, rel=1e-8)
    assert values["threshold"] == pytest.approx(2 * dual / lr if normalized else 2 / lr, rel=1e-9)
    assert values["ratio"] == pytest.approx(values[""] / values["threshold"], rel=1e-12)
    assert (change > 0) == (values["ratio"] > 1)
    assert (change > 0) == (rate > 1) or geometry in ("blocks", "linf"), "the case is there"


def test_smoothness_has_no_threshold_with_momentum_or_decay_and_says_where_it_falls_back() -> None:
    problem = Problem(7)
    for more in ({"momentum": 0.9}, {"weight_decay": 0.1}):
        optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1, **more)
        before = previous(problem)
        problem.train(optimizer, 1)
        reading = MEASURES.build("directional_smoothness").take(problem.moment(optimizer, 1, previous=before))
        assert set(reading.values) == {"", "predicted", "actual"}
        assert reading.note == "by differences"
    before = previous(problem)
    problem.train(torch.optim.SGD(problem.model.parameters(), lr=0.1), 1)
    unknown = problem.moment(torch.optim.LBFGS(problem.model.parameters()), 1, previous=before)
    reading = MEASURES.build("directional_smoothness").take(unknown)
    assert "Euclidean" in reading.note
    assert "LBFGS" in reading.note
    step = problem.flat() - before.parameters
    euclidean = reading.values[""] * float(step @ step)
    linf = (
        MEASURES.build("directional_smoothness:geometry=linf").take(unknown).values[""] * float(step.abs().max()) ** 2
    )
    assert euclidean == pytest.approx(linf, rel=1e-9)


def test_oscillation_is_the_cosine_of_successive_output_changes_and_resumes() -> None:
    problem = Problem(8)
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.8)
    measure, outputs = MEASURES.build("oscillation"), []
    for step in range(5):
        outputs.append(problem.model(problem.data[0]).detach().flatten().numpy())
        reading = measure.take(problem.moment(optimizer, step))
        if step < 2:
            assert "third reading" in reading.note
        else:
            a, b = outputs[-2] - outputs[-3], outputs[-1] - outputs[-2]
            assert reading.values[""] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-9)
        problem.train(optimizer, 1)
    resumed = MEASURES.build("oscillation")
    resumed.load_state(measure.state())
    assert resumed.take(problem.moment(optimizer)).values == measure.take(problem.moment(optimizer)).values
    assert "did not change" in measure.take(problem.moment(optimizer)).note


@pytest.mark.parametrize("kind", ["momentum", "linf"])
def test_the_quadratic_model_is_followed_as_the_dense_hessian_says(kind: str) -> None:
    problem = Problem(9)
    weights = problem.model.parameters()
    optimizer = (
        torch.optim.SGD(weights, lr=0.2, momentum=0.5) if kind == "momentum" else SteepestDescent(weights, 1e-3, "linf")
    )
    problem.train(optimizer, 3)
    origin, hessian, gradient = problem.flat(), problem.hessian(), problem.objective.gradient()
    loss = problem.loss_at(origin).item()
    w, buffer = origin.clone(), torch.zeros(51, dtype=torch.float64)
    if kind == "momentum":
        buffer = torch.cat([optimizer.state[p]["momentum_buffer"].flatten() for p in problem.model.parameters()])
    expected = []
    for _ in range(9):
        away = w - origin
        slope = gradient + hessian @ away
        expected.append(loss + float(gradient @ away + away @ hessian @ away / 2))
        buffer = 0.5 * buffer + slope
        w = w - (0.2 * buffer if kind == "momentum" else 1e-3 * slope.abs().sum() * slope.sign())
    reading = MEASURES.build("quadratic_model:steps=8").take(problem.moment(optimizer))
    np.testing.assert_allclose(reading.arrays["model"], expected, rtol=1e-8)
    assert reading.values["model"] == pytest.approx(max(expected) / loss)
    assert torch.equal(problem.flat(), origin)
    real = []
    for _ in range(9):
        real.append(problem.loss_at(problem.flat()).item())
        problem.train(optimizer, 1)
    np.testing.assert_allclose(reading.arrays["network"], real, rtol=1e-8)


def test_a_model_that_is_lost_is_infinite_from_there_on() -> None:
    problem = Problem(10, linear=True)  # a quadratic loss: network and model are the same
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=50.0)
    losses = MEASURES.build("quadratic_model:steps=30").take(problem.moment(optimizer)).arrays
    assert losses["model"][0] == pytest.approx(float(problem.objective.loss()))
    assert np.isinf(losses["model"]).any()
    np.testing.assert_allclose(losses["model"], losses["network"], rtol=1e-6)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("generalized_sharpness:geometry=lindf", "lindf"),
        ("generalized_sharpness:restarts=0", "restarts=0"),
        ("generalized_sharpness:iterations=0", "iterations=0"),
        ("generalized_sharpness:certificate=-1", "certificate=-1"),
        ("generalized_sharpness:tol=2", "tol=2"),
        ("directional_smoothness:geometry=nope", "nope"),
        ("quadratic_model:steps=0", "steps=0"),
    ],
)
def test_options_that_cannot_be_used_are_one_line(spec: str, word: str) -> None:
    with pytest.raises(InputError) as error:
        MEASURES.build(spec)
    assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, EdgescopeError)
