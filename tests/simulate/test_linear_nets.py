"""Simulated linear networks: against autograd, moments of sampled batches, stationary variances, and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgescope.errors import InputError
from edgescope.simulate.linear_data import Gaussian, Samples
from edgescope.simulate.linear_nets import Event, balanced_nets, end_to_end, random_nets, simulate
from edgescope.theory.deep_linear import Mode

CASES = [(3, 2), (2, 4, 3), (3, 5, 4, 2), (2, 3, 3, 6, 2)]


def gaussian(n: int, m: int, seed: int = 0) -> Gaussian:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((n, n)) / 2 + np.eye(n)
    return Gaussian(0.1 * rng.standard_normal((m, n)), root @ root.T)


def by_autograd(data: Gaussian | Samples, nets: np.ndarray, sizes: tuple[int, ...], decay: float, steps: int) -> Any:
    layers = [torch.tensor(nets[0, i, : sizes[i + 1], : sizes[i]], requires_grad=True) for i in range(len(sizes) - 1)]
    optimizer = torch.optim.SGD(layers, lr=0.05, weight_decay=decay)
    C, covariance = torch.tensor(data.correlation), torch.tensor(data.covariance)
    for _ in range(steps):
        W = torch.eye(sizes[0], dtype=torch.float64)
        for layer in layers:
            W = layer @ W
        loss = ((W @ covariance) * W).sum() / 2 - (C * W).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [layer.detach().numpy() for layer in layers]


@pytest.mark.parametrize("sizes", CASES, ids=str)
@pytest.mark.parametrize("fixed", [False, True])
def test_descent_is_that_of_torch(sizes: tuple[int, ...], fixed: bool) -> None:
    population = gaussian(sizes[0], sizes[-1])
    data = population.draw(30, seed=4) if fixed else population
    nets = random_nets(sizes, 2, seed=1)
    found = simulate(data, nets, sizes, decay=0.07, lr=0.05, steps=40)
    for layer, expected in enumerate(by_autograd(data, nets, sizes, 0.07, 40)):
        np.testing.assert_allclose(found.nets[0, layer, : sizes[layer + 1], : sizes[layer]], expected, rtol=1e-10)
    assert found.nets[0, 0, sizes[1] :].tolist() == np.zeros_like(found.nets[0, 0, sizes[1] :]).tolist()


def test_a_batch_of_all_samples_is_descent_and_epochs_leave_no_sample_out() -> None:
    sizes = (3, 4, 2)
    data, nets = gaussian(3, 2).draw(12, seed=2), random_nets(sizes, 3, seed=3)
    options: dict[str, Any] = {"decay": 0.0, "steps": 6}
    whole = simulate(data, nets, sizes, lr=0.05, **options)
    batches = simulate(data, nets, sizes, lr=0.05, batch=12, **options)
    np.testing.assert_allclose(batches.nets, whole.nets, rtol=1e-12)
    # At a vanishing rate an epoch of 3 batches moves as 3 steps on all samples do.
    slow = simulate(data, nets, sizes, lr=1e-7, batch=4, **options)
    exact = simulate(data, nets, sizes, lr=1e-7, **options)
    np.testing.assert_allclose(slow.nets - nets, exact.nets - nets, rtol=1e-4, atol=1e-13)
    part = simulate(data, nets, sizes, lr=1e-7, batch=4, decay=0.0, steps=4)
    assert np.abs((part.nets - nets) / 4 - (exact.nets - nets) / 6).max() > 1e-9


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_fresh_batches_have_the_moments_of_sampled_ones(batch: int) -> None:
    """The change of a one-layer net in one step, against batches that NumPy draws sample by sample."""
    sizes, count = (3, 2), 20_000
    data = gaussian(3, 2, seed=5)
    nets = random_nets(sizes, 1, seed=6)
    W = nets[0, 0, :2, :3]
    found = simulate(data, np.repeat(nets, count, 0), sizes, decay=0.0, lr=1.0, steps=1, batch=batch, seed=7, threads=1)
    slopes = (nets - found.nets)[:, 0, :2, :3].reshape(count, -1)
    drawn = data.draw(count * batch, seed=8)
    misfit = drawn.inputs @ W.T - drawn.targets
    each = np.einsum("ki,kj->kij", misfit, drawn.inputs).reshape(count, batch, -1).mean(1)
    scale = each.std(0)
    np.testing.assert_allclose(
        slopes.mean(0), (W @ data.covariance - data.correlation).ravel(), atol=5 * scale.max() / count**0.5
    )
    np.testing.assert_allclose(np.cov(slopes.T), np.cov(each.T), atol=0.1 * scale.max() ** 2)
    kurtosis = [((s - s.mean(0)) ** 4).mean() for s in (slopes, each)]
    assert kurtosis[0] == pytest.approx(kurtosis[1], rel=0.25)


def test_langevin_noise_reaches_the_stationary_variance() -> None:
    """One layer: w' = w - lr (1 + decay) (w - ridge) + noise, an autoregression."""
    data, lr, decay, temperature = Gaussian(np.array([[0.4]])), 0.2, 0.5, 0.03
    found = simulate(
        data,
        np.zeros((4000, 1, 1, 1)),
        (1, 1),
        decay=decay,
        lr=lr,
        steps=60,
        temperature=temperature,
        seed=9,
        threads=1,
    )
    w = found.nets.ravel()
    factor = 1 - lr * (1 + decay)
    variance = 2 * lr * temperature / (1 - factor**2)
    assert w.mean() == pytest.approx(0.4 / 1.5, abs=5 * (variance / 4000) ** 0.5)
    assert w.var() == pytest.approx(variance, rel=0.07)


def test_balanced_networks_stay_where_the_theory_has_its_states() -> None:
    modes = [Mode(3, 0.9), Mode(3, 0.6)]
    products = [mode.minimum_product(0.2) for mode in modes]
    sizes = (3, 5, 5, 2)
    C = np.zeros((2, 3))
    C[0, 2], C[1, 0] = 0.9, 0.6
    nets = balanced_nets(np.where(C == 0.9, products[0], np.where(C == 0.6, products[1], 0.0)), sizes, 2)
    found = simulate(Gaussian(C), nets, sizes, decay=0.2, lr=0.1, steps=200)
    np.testing.assert_allclose(found.nets, nets, atol=1e-12)
    np.testing.assert_allclose(end_to_end(found.nets, sizes)[0][[0, 1], [2, 0]], products, rtol=1e-9)
    for layer in range(2):
        left, right = nets[0, layer + 1], nets[0, layer]
        np.testing.assert_allclose(left.T @ left, right @ right.T, atol=1e-12)
    np.testing.assert_allclose(end_to_end(balanced_nets(C, (3, 2)), (3, 2))[0], C)


def test_an_event_stops_a_network_and_maps_show_its_way() -> None:
    sizes, first = (2, 4, 4, 2), np.array([1.0, 0.0])
    nets = random_nets(sizes, 3, seed=2)
    event = Event(first, first, 0.5)
    run = simulate(Gaussian(np.diag([0.9, 0.5])), nets, sizes, decay=0.05, lr=0.1, steps=3000, event=event, every=10)
    whole = simulate(Gaussian(np.diag([0.9, 0.5])), nets, sizes, decay=0.05, lr=0.1, steps=3000, every=1)
    assert run.happened.all()
    overlaps = whole.maps[:, :, 0, 0] > 0.5
    began = overlaps[:, :1]
    assert run.steps.tolist() == np.argmax(overlaps != began, axis=1).tolist()
    np.testing.assert_allclose(run.maps[0, : run.steps[0] // 10 + 1], whole.maps[0, : run.steps[0] + 1 : 10], rtol=1e-9)
    assert run.map_steps.tolist() == list(range(0, 3001, 10))


def test_losses_are_those_of_samples() -> None:
    data = gaussian(3, 2, seed=1)
    W = random_nets((3, 2), 2, seed=4)[:, 0, :2, :3]
    drawn = data.draw(200_000, seed=2)
    direct = ((drawn.targets - drawn.inputs @ W[1].T) ** 2).sum(1).mean() / 2
    assert drawn.loss(W)[1] == pytest.approx(direct)
    assert data.loss(W)[1] == pytest.approx(direct, rel=0.02)


def test_results_do_not_depend_on_threads() -> None:
    nets, sizes = random_nets((2, 3, 2), 5, seed=0), (2, 3, 2)
    one, two = (
        simulate(gaussian(2, 2), nets, sizes, decay=0.1, lr=0.1, steps=50, batch=3, temperature=0.01, threads=t)
        for t in (1, 2)
    )
    assert one.nets.tolist() == two.nets.tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decay": -0.1}, "decay=-0.1"),
        ({"temperature": 0.0}, "temperature=0;"),
        ({"sizes": (2, 4, 3)}, "2 inputs and 2 outputs"),
        ({"batch": 0}, "batch=0"),
        ({"lr": 100.0}, "diverged"),
        ({"data": Gaussian(np.diag([1.2, 0.5])), "batch": 2}, "noise of the targets has variance -0.44"),
        ({"data": Gaussian(np.diag([0.9, 0.5])).draw(5), "batch": 6}, "at most 5"),
    ],
    ids=["decay", "temperature", "sizes", "batch", "rate", "noise", "samples"],
)
def test_bad_input_is_named_in_one_line(change: dict[str, Any], words: str) -> None:
    options: dict[str, Any] = {"data": Gaussian(np.diag([0.9, 0.5])), "sizes": (2, 3, 2), "decay": 0.1, "lr": 0.1}
    options |= {"steps": 100} | change
    nets = random_nets((2, 3, 2), 1)
    with pytest.raises(InputError, match=words) as caught:
        simulate(nets=nets, **options)
    assert "\n" not in str(caught.value)


def test_data_that_cannot_be_are_refused() -> None:
    for make, words in (
        (lambda: Gaussian(np.ones(3)), "correlation of shape"),
        (lambda: Gaussian(np.ones((2, 3)), np.eye(2)), "covariance of shape"),
        (lambda: Samples(np.ones((4, 2)), np.ones((3, 2))), "one row for each sample"),
        (lambda: balanced_nets(np.eye(3), (3, 2, 3)), "rank 3"),
        (lambda: random_nets((2, 0, 2)), r"sizes\[1\]=0"),
    ):
        with pytest.raises(InputError, match=words):
            make()
