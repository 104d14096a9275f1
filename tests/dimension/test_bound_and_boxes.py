from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from edgescope.dimension import RandomAttractor, box_dimension, dimension_bound, kaplan_yorke, stability_bound
from edgescope.dimension.particle_steps import advance
from edgescope.errors import InputError

GIVEN = {"delta": 0.01, "lipschitz": 3.0, "bound": 2.0}


def test_every_term_of_the_theorem() -> None:
    found = dimension_bound(50.0, 10_000, information=7.0, zeta=0.05, constant=1.5, **GIVEN)
    assert found.terms == pytest.approx(
        {
            "covering": 0.06,
            "dimension": 4 * math.sqrt(200 * math.log(100) / 10_000),
            "information": 0.07,
            "confidence": math.log(20) / 100,
            "constant": 0.06,
        }
    )
    assert found.value == pytest.approx(sum(found.terms.values()))
    assert not found.vacuous
    assert dimension_bound(5000.0, 10_000, information=7.0, zeta=0.05, constant=1.5, **GIVEN).vacuous


def test_every_term_of_the_version_with_stability() -> None:
    found = stability_bound(50.0, 10_000, stability=1e-6, **GIVEN)
    root = math.sqrt(200 * math.log(100))
    assert found.value == pytest.approx(2 * (2 / 10_000 + 0.03 + 0.01 * (1 + 2 * root)))
    assert found.terms["dimension"] == pytest.approx(0.04 * root)
    assert stability_bound(50.0, 100, stability=0.0, **GIVEN).value == pytest.approx(0.1)


def on_a_cantor_set(count: int, rng: np.random.Generator) -> np.ndarray:
    digits = 2 * rng.integers(0, 2, (count, 30))
    return digits @ (1 / 3.0 ** np.arange(1, 31))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("cloud", "dimension", "slack"),
    [
        ("cantor", math.log(2) / math.log(3), 0.05),
        ("square", 2.0, 0.03),
        ("line", 1.0, 0.03),
        ("cantor x line", 1 + math.log(2) / math.log(3), 0.1),
    ],
)
def test_boxes_know_sets_of_known_dimension(cloud: str, dimension: float, slack: float, seed: int) -> None:
    rng, count = np.random.default_rng(seed), 100_000
    points = {
        "square": lambda: rng.random((count, 2)),
        "line": lambda: np.outer(rng.random(count), [3.0, 1.0]) + 5,
        "cantor": lambda: on_a_cantor_set(count, rng)[:, None],
        "cantor x line": lambda: np.stack([on_a_cantor_set(count, rng), rng.random(count)], axis=1),
    }[cloud]()
    found = box_dimension(points)
    assert found.dimension == pytest.approx(dimension, abs=slack)
    assert abs(found.dimension - dimension) < 3 * found.error + 0.01
    slopes = np.diff(np.log(found.counts[found.fitted])) / np.diff(-np.log(found.sides[found.fitted]))
    assert found.error == pytest.approx(np.ptp(slopes) / 2)
    assert found.counts[0] <= 2 ** points.shape[1]
    assert bool((np.diff(found.counts) >= 0).all())


def test_boxes_of_a_single_point_and_of_few_scales() -> None:
    assert box_dimension(np.ones((2000, 3))).dimension == 0
    with pytest.raises(InputError, match="box sizes lie between 16 boxes and 20 points a box"):
        box_dimension(np.random.default_rng(0).random((1000, 2)))


def test_a_step_of_the_toy_is_gradient_descent_and_its_exponents_are_those_of_its_jacobian() -> None:
    toy, rng = RandomAttractor(), np.random.default_rng(0)
    x, shift = rng.uniform(-2, 2, (50, 2)), rng.normal(size=2)

    def moved(z: torch.Tensor) -> torch.Tensor:
        loss = 0.5 * z.square().sum() - toy.amplitude * torch.cos(toy.frequency * z).prod()
        (gradient,) = torch.autograd.grad(loss, z, create_graph=True)
        return z - toy.lr * gradient + torch.as_tensor(shift)

    start = [torch.tensor(point, requires_grad=True) for point in x]
    ends = np.stack([moved(z).detach().numpy() for z in start])
    sigma = np.stack([torch.linalg.svdvals(torch.autograd.functional.jacobian(moved, z)).numpy() for z in start])
    *highest, mean_1, mean_2 = advance(x, shift, toy.amplitude, toy.frequency, toy.lr)
    np.testing.assert_allclose(x, ends, rtol=1e-12)
    np.testing.assert_allclose(highest, sigma.max(axis=0), rtol=1e-10)
    np.testing.assert_allclose([mean_1, mean_2], np.log(sigma).mean(axis=0), rtol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_attractor_of_the_toy_has_a_box_dimension_below_the_one_of_its_exponents(seed: int) -> None:
    """Claim 2 of the paper, with fewer particles and steps."""
    found = RandomAttractor().run(30_000, 120, seed=seed)
    assert 1 < found.boxes.dimension <= found.dimension + 0.1
    assert found.dimension == kaplan_yorke(found.exponents)
    assert bool((found.exponents >= found.mean_exponents).all())
    assert found.points.shape == (30_000, 2)


def test_without_corrugation_all_particles_meet() -> None:
    found = RandomAttractor(amplitude=0.0).run(1000, 400, seed=0)
    np.testing.assert_allclose(found.exponents, math.log(0.85), rtol=1e-12)
    assert (found.dimension, found.mean_dimension) == (0, 0)
    assert np.ptp(found.points, axis=0).max() < 1e-9


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: dimension_bound(-1.0, 10, information=0.0, zeta=0.1, constant=0.0, **GIVEN), "dimension=-1"),
        (lambda: dimension_bound(1.0, 0, information=0.0, zeta=0.1, constant=0.0, **GIVEN), "n=0"),
        (lambda: dimension_bound(1.0, 10, information=-1.0, zeta=0.1, constant=0.0, **GIVEN), "information=-1"),
        (lambda: dimension_bound(1.0, 10, information=0.0, zeta=1.0, constant=0.0, **GIVEN), "zeta=1"),
        (lambda: stability_bound(1.0, 10, stability=math.nan, **GIVEN), "stability=nan"),
        (lambda: stability_bound(1.0, 10, stability=0.1, **(GIVEN | {"delta": 1.0})), "delta=1"),
        (lambda: box_dimension(np.zeros((10, 2))), "points of shape"),
        (lambda: box_dimension(np.full((2000, 2), np.nan)), "NaN"),
        (lambda: box_dimension(np.zeros((2000, 2)), levels=40), "40 levels in 2 dimensions"),
        (lambda: RandomAttractor(lr=0.0), "lr=0;"),
        (lambda: RandomAttractor(noise=-1.0), "noise=-1"),
        (lambda: RandomAttractor().run(10), "particles=10"),
        (lambda: RandomAttractor().run(1000, 10, warmup=10), "warmup of 10"),
        (lambda: RandomAttractor(lr=50.0).run(1000, 400), "diverge at lr=50"),
    ],
)
def test_bad_bounds_boxes_and_toys_are_one_clear_line(call: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
