"""Every measure against plain torch in float64 on a network whose Hessian can be written down."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_problem import Problem

from edgescope.errors import UnknownNameError
from edgescope.measures import MEASURES, Previous
from edgescope.optim import GradientFlow

FLOATS = [torch.float32, torch.float64]


def eigenvalues(matrix: torch.Tensor) -> np.ndarray:
    return np.linalg.eigvalsh(matrix.numpy())[::-1]


def previous(problem: Problem) -> Previous:
    objective = problem.objective
    return Previous(objective.parameters(), objective.loss(), objective.gradient())


@pytest.mark.parametrize("name", MEASURES.names())
def test_every_measure_says_what_it_is(name: str) -> None:
    measure = MEASURES.build(name)
    assert measure.name == name
    assert all((measure.title, measure.unit, measure.source, measure.needs))
    assert all(used in MEASURES for used in measure.uses)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("seed", range(3))
def test_sharpness_is_the_top_of_the_dense_spectrum_and_follows_it(seed: int, dtype: torch.dtype) -> None:
    problem = Problem(seed, dtype)
    measure = MEASURES.build("sharpness:k=3,tol=1e-5")
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.3)
    for _ in range(3):
        reading = measure.take(problem.moment())
        assert list(reading.values) == list(reading.errors) == ["1", "2", "3"]
        for i, exact in enumerate(eigenvalues(problem.hessian())[:3]):
            assert reading.values[str(i + 1)] == pytest.approx(exact, rel=1e-5)
        problem.train(optimizer, 3)


def test_sharpness_grows_by_what_comes_near_the_threshold() -> None:
    problem = Problem(0)
    top = eigenvalues(problem.hessian())
    moment = problem.moment(torch.optim.SGD(problem.model.parameters(), lr=2 / (top[2] / 0.95)))
    near = [str(i + 1) for i in range(len(top)) if top[i] >= 0.9 * top[2] / 0.95]
    grown = MEASURES.build("sharpness:grow=true").take(moment)
    assert list(grown.values) == [*near, str(len(near) + 1)]
    assert [*grown.values.values()] == pytest.approx(top[: len(near) + 1], rel=1e-3)
    for optimizer in (None, torch.optim.Adam(problem.model.parameters(), lr=1e-3), torch.optim.LBFGS([torch.ones(1)])):
        assert list(MEASURES.build("sharpness:grow=true").take(problem.moment(optimizer)).values) == ["1"]


@pytest.mark.parametrize("dtype", FLOATS)
def test_loss_accuracy_and_gradient_norm(dtype: torch.dtype) -> None:
    problem = Problem(1, dtype)
    problem.train(torch.optim.SGD(problem.model.parameters(), lr=0.5), 20)
    w = problem.flat().double().requires_grad_()
    loss, test_loss = problem.loss_at(w), problem.loss_at(w, problem.test_data)
    (gradient,) = torch.autograd.grad(loss, w)
    names = ("loss", "accuracy", "gradient_norm", "training_loss")
    values = {name: MEASURES.build(name).take(problem.moment()).values for name in names}
    assert values["training_loss"][""] == values["loss"]["train"]
    assert values["loss"] == pytest.approx({"train": loss.item(), "test": test_loss.item()}, rel=1e-6)
    assert values["gradient_norm"][""] == pytest.approx(float(gradient.norm()), rel=1e-5)
    right = [
        float((problem.model(inputs).argmax(1) == targets).double().mean())
        for inputs, targets in (problem.data, problem.test_data)
    ]
    assert [values["accuracy"]["train"], values["accuracy"]["test"]] == pytest.approx(right)


@pytest.mark.parametrize("dtype", FLOATS)
def test_norms_of_all_parameters_and_of_each_tensor(dtype: torch.dtype) -> None:
    problem = Problem(2, dtype)
    start = problem.flat().double().numpy()
    problem.train(torch.optim.SGD(problem.model.parameters(), lr=0.5), 5)
    w = problem.flat().double().numpy()
    expected = {"l1": np.abs(w).sum(), "l2": np.sqrt((w**2).sum()), "distance": np.sqrt(((w - start) ** 2).sum())}
    for name, p in problem.model.named_parameters():
        expected[f"l2/{name}"] = np.sqrt((p.detach().double().numpy() ** 2).sum())
    assert MEASURES.build("norms").take(problem.moment()).values == pytest.approx(expected, rel=1e-6)


def test_trace_is_exact_where_products_span_the_space_and_else_within_its_error() -> None:
    for seed in range(4):
        problem = Problem(seed)
        exact = float(problem.hessian().trace())
        whole = MEASURES.build("hessian_trace:num_matvecs=60").take(problem.moment())
        assert whole.values[""] == pytest.approx(exact, rel=1e-10)
        assert abs(whole.values[""] - exact) < 3 * whole.errors[""] < 1e-11  # rounding alone
        sampled = MEASURES.build(f"hessian_trace:num_matvecs=24,seed={seed}").take(problem.moment())
        assert sampled.cost.products == 24
        assert 0 < abs(sampled.values[""] - exact) < 5 * sampled.errors[""]


def test_the_spectrum_is_a_quadrature_of_all_eigenvalues() -> None:
    problem = Problem(1)
    exact = problem.hessian()
    reading = MEASURES.build("spectrum:probes=4,steps=51").take(problem.moment())
    nodes, weights = reading.arrays["nodes"], reading.arrays["weights"]
    assert weights.sum() == pytest.approx(1)
    assert nodes.max() == pytest.approx(eigenvalues(exact)[0], rel=1e-6)
    assert abs(reading.values["trace"] - float(exact.trace())) < 5 * reading.errors["trace"]


def adam_entries(optimizer: torch.optim.Optimizer, problem: Problem, eps: float) -> torch.Tensor:
    state = [optimizer.state[p] for p in problem.model.parameters()]
    root = torch.cat([(s["exp_avg_sq"] / (1 - 0.99 ** float(s["step"]))).sqrt().flatten() for s in state])
    return (root + eps) * (1 - 0.9 ** float(state[0]["step"]))


def rmsprop_entries(optimizer: torch.optim.Optimizer, problem: Problem, eps: float) -> torch.Tensor:
    return torch.cat([optimizer.state[p]["square_avg"].sqrt().flatten() for p in problem.model.parameters()]) + eps


@pytest.mark.parametrize("kind", ["adam", "rmsprop"])
@pytest.mark.parametrize("seed", range(2))
def test_effective_sharpness_is_that_of_the_preconditioned_hessian(seed: int, kind: str) -> None:
    problem = Problem(seed)
    eps, lr = 1e-3, 0.01
    weights = problem.model.parameters()
    optimizer = (
        torch.optim.Adam(weights, lr=lr, betas=(0.9, 0.99), eps=eps)
        if kind == "adam"
        else torch.optim.RMSprop(weights, lr=lr, alpha=0.9, eps=eps)
    )
    measure, ratio = MEASURES.build("effective_sharpness:tol=1e-6"), MEASURES.build("ratio:tol=1e-6")
    for _ in range(2):
        problem.train(optimizer, 4)
        entries = (adam_entries if kind == "adam" else rmsprop_entries)(optimizer, problem, eps)
        matrix = problem.hessian() / entries.sqrt()[:, None] / entries.sqrt()
        exact = eigenvalues((matrix + matrix.T) / 2)[0]
        limit = (2 + 2 * 0.9) / (1 - 0.9) / lr if kind == "adam" else 2 / lr
        moment = problem.moment(optimizer, step=4)
        found = measure.take(moment)
        assert found.values[""] == pytest.approx(exact, rel=1e-6)
        assert MEASURES.build("threshold").take(moment).values[""] == pytest.approx(limit)
        # On its own, and from what the other measure found at the same moment.
        assert ratio.take(moment).values[""] == pytest.approx(exact / limit, rel=1e-6)
        moment.shared["effective_sharpness"] = found
        shared = ratio.take(moment)
        assert shared.values[""] == pytest.approx(exact / limit, rel=1e-6)
        assert shared.errors[""] == pytest.approx(found.errors[""] / limit)
        assert shared.cost.products == 0


def test_effective_sharpness_without_a_preconditioner_costs_nothing_beside_the_sharpness() -> None:
    problem = Problem(3)
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1, weight_decay=0.25)
    moment = problem.moment(optimizer)
    exact = eigenvalues(problem.hessian())[0] + 0.25
    alone = MEASURES.build("effective_sharpness:tol=1e-5").take(moment)
    assert alone.values[""] == pytest.approx(exact, rel=1e-5)
    assert alone.cost.products > 0
    moment.shared["sharpness"] = MEASURES.build("sharpness:tol=1e-5").take(moment)
    shared = MEASURES.build("effective_sharpness").take(moment)
    assert shared.values[""] == pytest.approx(exact, rel=1e-5)
    assert shared.cost.products == 0


def test_weight_decay_that_differs_between_parameters_is_added_where_it_belongs() -> None:
    problem = Problem(4)
    first, last = problem.model[0], problem.model[2]
    groups = [{"params": first.parameters(), "weight_decay": 3.0}, {"params": last.parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    decays = torch.cat([torch.full((p.numel(),), 3.0 * (m is first)) for m in (first, last) for p in m.parameters()])
    exact = eigenvalues(problem.hessian() + torch.diag(decays.double()))[0]
    reading = MEASURES.build("effective_sharpness:tol=1e-6").take(problem.moment(optimizer))
    assert reading.values[""] == pytest.approx(exact, rel=1e-5)


@settings(max_examples=15)
@given(seed=st.integers(0, 50), lr=st.floats(0.01, 2.0), products=st.booleans())
def test_directional_smoothness_of_a_quadratic_loss_is_its_curvature_along_the_step(
    seed: int, lr: float, products: bool
) -> None:
    problem = Problem(seed, linear=True)
    before = previous(problem)
    problem.train(torch.optim.SGD(problem.model.parameters(), lr=lr), 1)
    step = problem.flat() - before.parameters
    exact = float(step @ problem.hessian() @ step / (step @ step))
    measure = MEASURES.build("directional_smoothness" + (":method=products" if products else ""))
    reading = measure.take(problem.moment(step=1, previous=before))
    assert reading.values[""] == pytest.approx(exact, rel=1e-6)
    g = before.gradient
    assert reading.values["predicted"] == pytest.approx(float(-lr * (1 - lr * exact / 2) * (g @ g)), rel=1e-6, abs=1e-9)
    assert reading.values["actual"] == pytest.approx(reading.values["predicted"], rel=1e-6, abs=1e-9)
    assert reading.note == ("by products" if products else "by differences")


@pytest.mark.parametrize("dtype", FLOATS)
def test_products_along_the_step_predict_the_loss_change_of_a_network(dtype: torch.dtype) -> None:
    problem = Problem(5, dtype)
    before = previous(problem)
    old = problem.loss_at(problem.flat().double()).item()
    problem.train(torch.optim.SGD(problem.model.parameters(), lr=0.5), 1)
    change = problem.loss_at(problem.flat().double()).item() - old
    reading = MEASURES.build("directional_smoothness:method=products").take(problem.moment(step=1, previous=before))
    for part in ("predicted", "actual"):
        assert abs(reading.values[part] - change) <= reading.errors[part] + 1e-12
        assert reading.errors[part] < 1e-2 * abs(change)


def test_learning_rate_and_time() -> None:
    problem = Problem()
    take = MEASURES.build("learning_rate").take
    assert take(problem.moment(torch.optim.SGD(problem.model.parameters(), lr=0.25))).values == {"": 0.25}
    groups = [{"params": problem.model[0].parameters(), "lr": 0.5}, {"params": problem.model[2].parameters()}]
    assert take(problem.moment(torch.optim.SGD(groups, lr=0.25))).values == {"0": 0.5, "1": 0.25}
    assert MEASURES.build("time").take(problem.moment(time=3.5)).values == {"": 3.5}


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("threshold", "no optimizer"),
        ("effective_sharpness", "no optimizer"),
        ("ratio", "no optimizer"),
        ("learning_rate", "no optimizer"),
        ("time", "not known"),
        ("directional_smoothness", "no step"),
    ],
)
def test_what_cannot_be_had_is_a_note_and_no_error(name: str, word: str) -> None:
    reading = MEASURES.build(name).take(Problem().moment())
    assert reading.values == {}
    assert word in reading.note
    assert "\n" not in reading.note


def test_the_note_names_an_optimizer_that_is_not_known_and_a_step_that_is_missing() -> None:
    problem = Problem()
    weights = list(problem.model.parameters())
    for name in ("threshold", "effective_sharpness", "ratio"):
        assert "LBFGS" in MEASURES.build(name).take(problem.moment(torch.optim.LBFGS(weights))).note
    adam = problem.moment(torch.optim.Adam(weights, lr=0.1))
    for name in ("effective_sharpness", "ratio"):
        assert "before its first step" in MEASURES.build(name).take(adam).note
    assert "no learning rate" in MEASURES.build("learning_rate").take(problem.moment(GradientFlow(weights))).note


def test_after_divergence_only_what_needs_no_derivative_is_taken() -> None:
    problem = Problem()
    moment = problem.moment(torch.optim.SGD(problem.model.parameters(), lr=0.1), diverged=True)
    before = problem.objective.spent
    for name in (
        "sharpness",
        "effective_sharpness",
        "ratio",
        "hessian_trace",
        "spectrum",
        "gradient_norm",
        "directional_smoothness",
    ):
        reading = MEASURES.build(name).take(moment)
        assert reading.values == {}
        assert "diverged" in reading.note
    assert problem.objective.spent == before
    assert MEASURES.build("loss").take(moment).values
    assert MEASURES.build("norms").take(moment).values


def test_a_reading_carries_what_all_objectives_spent_on_it() -> None:
    problem = Problem()
    before = problem.objective.spent + problem.test.spent
    readings = [
        MEASURES.build(name).take(problem.moment()) for name in ("sharpness", "gradient_norm", "loss", "accuracy")
    ]
    assert sum((r.cost for r in readings), before) == problem.objective.spent + problem.test.spent
    sharpness, gradient_norm, loss, accuracy = (r.cost for r in readings)
    assert (sharpness.gradients, sharpness.products > 0) == (1, True)
    assert (gradient_norm.gradients, gradient_norm.losses) == (0, 0)  # known from the products
    assert (loss.losses, accuracy.losses) == (1, 2)  # the loss on the training data too
    assert all(r.seconds > 0 for r in readings)


@pytest.mark.parametrize("name", ["sharpness:k=2", "effective_sharpness", "ratio"])
def test_a_measure_continues_bit_for_bit_from_its_state(name: str) -> None:
    problem = Problem(6)
    optimizer = torch.optim.RMSprop(problem.model.parameters(), lr=0.01)
    measure, resumed = MEASURES.build(name), MEASURES.build(name)
    for _ in range(3):
        problem.train(optimizer, 2)
        measure.take(problem.moment(optimizer))
    resumed.load_state(measure.state())
    problem.train(optimizer, 2)
    a, b = measure.take(problem.moment(optimizer)), resumed.take(problem.moment(optimizer))
    assert a.values == b.values
    assert a.cost.products == b.cost.products
    fresh = MEASURES.build(name).take(problem.moment(optimizer))
    assert fresh.cost.products > a.cost.products  # so the state did matter


def test_unknown_measures_and_options_suggest_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="try 'sharpness'"):
        MEASURES.build("sharpnes")
    with pytest.raises(UnknownNameError, match="no option 'kk'"):
        MEASURES.build("sharpness:kk=3")
