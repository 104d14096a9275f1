"""Noise in the targets: its distribution, its reproducibility, and what it minimises."""

from __future__ import annotations

import copy

import pytest
import torch
from scipy.stats import chisquare

from edgescope.errors import InputError
from edgescope.optim import LabelNoiseSGD, rule_for

W = torch.ones(1, requires_grad=True)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_real_targets_move_by_sigma_either_way(dtype: torch.dtype) -> None:
    optimizer = LabelNoiseSGD([W], lr=0.1, sigma=0.25, generator=seeded())
    targets = torch.linspace(-1, 1, 4000, dtype=dtype)[:, None]
    noise = optimizer.noisy(targets) - targets
    assert noise.dtype == dtype
    assert noise.shape == targets.shape
    torch.testing.assert_close(noise.abs(), torch.full_like(noise, 0.25), rtol=1e-5, atol=1e-6)
    up = int((noise > 0).sum())
    assert chisquare([up, 4000 - up]).pvalue > 1e-3
    assert not torch.equal(optimizer.noisy(targets), targets + noise)


def test_class_indices_flip_to_every_other_class_alike() -> None:
    optimizer = LabelNoiseSGD([W], lr=0.1, flip=0.3, classes=4, generator=seeded(1))
    targets = torch.full((20_000,), 2)
    counts = torch.bincount(optimizer.noisy(targets), minlength=4).tolist()
    assert chisquare(counts, [2000, 2000, 14_000, 2000]).pvalue > 1e-3
    assert optimizer.noisy(targets).dtype == torch.int64


def test_signs_flip_with_their_probability() -> None:
    optimizer = LabelNoiseSGD([W], lr=0.1, flip=0.2, generator=seeded(2))
    targets = torch.tensor([-1.0, 1.0]).repeat(5000)
    flipped = int((optimizer.noisy(targets) == -targets).sum())
    assert chisquare([flipped, 10_000 - flipped], [2000, 8000]).pvalue > 1e-3


def test_the_generator_decides() -> None:
    targets = torch.zeros(50)
    first, again = (LabelNoiseSGD([W], lr=0.1, sigma=1.0, generator=seeded(3)).noisy(targets) for _ in range(2))
    assert torch.equal(first, again)
    torch.manual_seed(7)
    free = LabelNoiseSGD([W], lr=0.1, sigma=1.0)
    drawn = free.noisy(targets)
    torch.manual_seed(7)
    assert torch.equal(free.noisy(targets), drawn)


def test_a_copy_draws_the_same_noise() -> None:
    optimizer = LabelNoiseSGD([W], lr=0.1, flip=0.5, generator=seeded(5))
    twin = copy.deepcopy(optimizer)
    targets = torch.ones(50)
    assert torch.equal(optimizer.noisy(targets), twin.noisy(targets))


def test_the_step_is_that_of_sgd_on_noisy_targets() -> None:
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    v = copy.deepcopy(w)
    x, y = torch.randn(5, 2, generator=seeded()), torch.randn(5, generator=seeded(1))
    noisy = LabelNoiseSGD([w], lr=0.1, sigma=0.5, momentum=0.9, generator=seeded(4))
    plain = torch.optim.SGD([v], lr=0.1, momentum=0.9)
    draws = LabelNoiseSGD([v], lr=0.1, sigma=0.5, generator=seeded(4))
    for _ in range(3):
        for optimizer, p, source in ((noisy, w, noisy), (plain, v, draws)):
            optimizer.zero_grad()
            (x @ p - source.noisy(y)).square().mean().backward()
            optimizer.step()
    assert torch.equal(w, v)
    assert rule_for(noisy, [w]).threshold().value == pytest.approx((2 + 1.8) / 0.1)


def test_it_finds_the_flattest_interpolator() -> None:
    # f = a b with target 1: interpolators lie on a hyperbola, Tr H = 2 (a^2 + b^2) is least, 4, at a = b = +-1.
    a, b = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (2.0, 0.5))
    optimizer = LabelNoiseSGD([a, b], lr=0.04, sigma=0.5, generator=seeded(5))
    target = torch.ones((), dtype=torch.float64)
    traces = []
    for step in range(1600):
        optimizer.zero_grad()
        (a * b - optimizer.noisy(target)).square().backward()
        optimizer.step()
        if step >= 1000:
            traces.append(float(2 * (a * a + b * b).detach()))
    assert 3.9 < sum(traces) / len(traces) < 4.6  # 8.5 at the start, and without noise


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "sigma=None and flip=None; expected one of the two"),
        ({"sigma": 1.0, "flip": 0.1}, "sigma=1.0 and flip=0.1"),
        ({"sigma": 0.0}, "sigma=0; expected a finite number above 0"),
        ({"sigma": float("nan")}, "sigma=nan"),
        ({"flip": 1.0}, "flip=1; expected a finite number above 0 and below 1"),
        ({"flip": -0.1}, "flip=-0.1"),
        ({"flip": 0.1, "classes": 1}, "classes=1"),
    ],
)
def test_noise_that_cannot_be_is_named(options: dict[str, float], fault: str) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        LabelNoiseSGD([W], lr=0.1, **options)
    assert "\n" not in str(caught.value)


def test_targets_that_do_not_fit_the_noise_are_named() -> None:
    labels = torch.tensor([0, 1])
    with pytest.raises(InputError, match=r"targets of type torch\.int64; expected real targets; try flip="):
        LabelNoiseSGD([W], lr=0.1, sigma=1.0).noisy(labels)
    with pytest.raises(InputError, match="without their number; expected classes="):
        LabelNoiseSGD([W], lr=0.1, flip=0.1).noisy(labels)
    with pytest.raises(InputError, match="outside 0 to 1"):
        LabelNoiseSGD([W], lr=0.1, flip=0.1, classes=2).noisy(labels + 1)
