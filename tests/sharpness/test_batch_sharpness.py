"""Batch sharpness against dense float64 on its own mini-batches, its intervals, and where SGD settles."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from edge_net import LOSS, digits, flat, network, objective_of
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jvp, vmap

import edgescope as es
from edgescope.errors import InputError, NotKnownError
from edgescope.sharpness.batch_sharpness import mean_over_batches, ratio_of_means

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


class Small:
    """A network of 23 parameters on 40 samples, whose loss plain torch writes down."""

    def __init__(self, seed: int = 0, l2: float = 0.0, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).to(dtype)
        self.data = torch.randn(40, 3, dtype=dtype), torch.randn(40, 1, dtype=dtype)
        self.l2 = l2
        self.objective = es.Objective(self.model, es.supervised(self.criterion), self.data, l2=l2, path="kept")

    @staticmethod
    def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * (outputs - targets).square().sum(1).mean()

    def loss_at(self, w: Tensor, chosen: Tensor) -> Tensor:
        named, start = {}, 0
        for name, p in self.model.named_parameters():
            named[name] = w[start : start + p.numel()].view(p.shape)
            start += p.numel()
        inputs, targets = (part.double()[chosen] for part in self.data)
        return self.criterion(functional_call(self.model, named, (inputs,)), targets) + self.l2 / 2 * w @ w

    def dense(
        self, size: int, count: int, seed: int, decay: float = 0.0
    ) -> tuple[list[float], list[float], list[float]]:
        """g_B'H_B g_B, g_B'H g_B and ||g_B||² of the mini-batches that are drawn from this seed."""
        w, generator = flat(self.model).double(), torch.Generator().manual_seed(seed)
        identity = decay * torch.eye(len(w), dtype=torch.float64)
        whole = hessian(self.loss_at)(w, torch.arange(40)) + identity
        found: tuple[list[float], list[float], list[float]] = ([], [], [])
        for _ in range(count):
            chosen = torch.randperm(40, generator=generator)[:size]
            g = grad(self.loss_at)(w, chosen) + decay * w
            H = hessian(self.loss_at)(w, chosen) + identity
            for list_, number in zip(found, (g @ H @ g, g @ whole @ g, g @ g), strict=True):
                list_.append(float(number))
        return found


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["float64", "float32"])
@pytest.mark.parametrize(("l2", "decay"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.3)])
def test_it_is_the_mean_over_its_mini_batches(dtype: torch.dtype, rel: float, l2: float, decay: float) -> None:
    small = Small(1, l2, dtype)
    found = es.batch_sharpness(small.objective, 5, 12, seed=3, interaction=True, decay=decay)
    products, full, squares = map(np.array, small.dense(5, 12, 3, decay))
    assert found.products == pytest.approx(products, rel=10 * rel, abs=rel)
    assert found.squares == pytest.approx(squares, rel=rel, abs=rel)
    assert found.value == pytest.approx((products / squares).mean(), rel=10 * rel)
    assert found.weighted == pytest.approx(products.mean() / squares.mean(), rel=10 * rel)
    assert found.interaction == pytest.approx((full / squares).mean(), rel=10 * rel)
    assert found.error == pytest.approx((products / squares).std(ddof=1) / 12**0.5, rel=1e-2)
    assert found.cost.products == 12 + 2  # 12 whole ones, and 12 of 5 of 40 samples
    assert found.cost.gradients <= 1 + 3  # for the graph of the whole, and two of each mini-batch


def test_of_the_full_batch_there_is_one_and_no_error() -> None:
    small = Small()
    (product,), _, (square,) = small.dense(40, 1, 0)
    found = es.batch_sharpness(small.objective, 40, interaction=True)
    assert found.value == found.weighted == pytest.approx(product / square, rel=1e-9)
    assert found.interaction == pytest.approx(found.value, rel=1e-9)
    assert found.error == found.weighted_error == found.interaction_error == 0
    assert found.interval.low == found.interval.high == found.value
    assert len(found.products) == 1


def test_the_error_of_the_ratio_of_means_is_that_of_the_delta_method() -> None:
    draw = np.random.default_rng(0)
    below = draw.gamma(3, size=400)
    above = 2 * below + draw.normal(size=400)
    value, error, interval = ratio_of_means(above, below)
    assert value == pytest.approx(above.mean() / below.mean())
    again = [above[p].mean() / below[p].mean() for p in draw.integers(400, size=(2000, 400))]
    assert error == pytest.approx(float(np.std(again)), rel=0.1)
    assert interval.low < value < interval.high


@functools.cache
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """g_B'H_B g_B and ||g_B||² of 3,000 mini-batches of 8, of a network on the way to the edge, by plain torch."""
    model, (inputs, targets) = network(), digits(random_labels=True)
    optimizer, generator = torch.optim.SGD(model.parameters(), lr=0.2), torch.Generator().manual_seed(0)
    for _ in range(300):
        chosen = torch.randperm(100, generator=generator)[:8]
        optimizer.zero_grad()
        LOSS(model, (inputs[chosen], targets[chosen])).backward()
        optimizer.step()
    names = [name for name, _ in model.named_parameters()]
    tensors = tuple(p.detach() for p in model.parameters())

    def one(places: Tensor) -> tuple[Tensor, Tensor]:
        def loss(*w: Tensor) -> Tensor:
            outputs = functional_call(model, dict(zip(names, w, strict=True)), (inputs[places],))
            return 0.5 * (outputs - onehot[places]).square().sum(1).mean()

        gradient = grad(loss, argnums=tuple(range(len(tensors))))
        g, product = jvp(gradient, tensors, gradient(*tensors))
        return sum((a * b).sum() for a, b in zip(g, product, strict=True)), sum((a * a).sum() for a in g)

    onehot = nn.functional.one_hot(targets, 10).double()
    places = torch.stack([torch.randperm(100, generator=generator)[:8] for _ in range(3000)])
    parts = [vmap(one)(some) for some in places.split(500)]
    return tuple(torch.cat(each).numpy() for each in zip(*parts, strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize("weighted", [False, True], ids=["mean", "ratio of means"])
def test_intervals_cover(weighted: bool) -> None:
    """100 times 30 mini-batches against the mean over all 3,000; 95% intervals: 90 of 100 at least."""
    products, squares = drawn()
    truth = products.mean() / squares.mean() if weighted else (products / squares).mean()
    inside = 0
    for n, d in zip(products.reshape(100, 30), squares.reshape(100, 30), strict=True):
        _, _, interval = ratio_of_means(n, d) if weighted else mean_over_batches(n / d)
        inside += interval.low <= truth <= interval.high
    assert inside >= 90


def trained(batch: int, steps: int, lr: float = 0.2, momentum: float = 0.0) -> tuple[float, float, float, float]:
    """lr times batch sharpness, the weighted one, the largest eigenvalue and the interaction, over the second half."""
    model, (inputs, targets) = network(), digits(random_labels=True)
    objective, generator = objective_of(model, (inputs, targets)), torch.Generator().manual_seed(7)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    found = []
    for number in range(steps):
        chosen = torch.randperm(100, generator=generator)[:batch]
        optimizer.zero_grad()
        LOSS(model, (inputs[chosen], targets[chosen])).backward()
        optimizer.step()
        if number >= steps // 2 and number % (steps // 12) < 2:  # two in a row, as the full batch alternates
            one = es.batch_sharpness(objective, batch, 16, seed=number, interaction=True)
            top = float(es.top_eigenpairs(objective, seed=number).values[0])
            found.append((one.value, one.weighted, top, one.interaction or 0.0))
    values = lr * np.array(found).mean(0)
    return tuple(values.tolist())  # type: ignore[return-value]


@pytest.mark.slow
def test_what_settles_at_the_edge_on_mini_batches_is_not_the_largest_eigenvalue() -> None:
    """On the full batch all are at 2/lr; the smaller the batch, the lower the eigenvalue beside batch sharpness."""
    full, sixteen, four = (trained(batch, 2400) for batch in (100, 16, 4))
    assert full == pytest.approx((2.0, 2.0, 2.04, 2.0), abs=0.1)
    assert full[2] > sixteen[2] > four[2]
    assert full[3] > sixteen[3] > four[3]
    value, weighted, top, interaction = four
    assert value <= weighted <= 2.1
    assert interaction < top < weighted


def test_bad_arguments_are_refused() -> None:
    small = Small()
    with pytest.raises(InputError, match="batch size of 41"):
        es.batch_sharpness(small.objective, 41)
    with pytest.raises(InputError, match="count=1"):
        es.batch_sharpness(small.objective, 4, 1)
    model = nn.Linear(2, 1).double()
    data = torch.zeros(6, 2, dtype=torch.float64), torch.zeros(6, 10, dtype=torch.float64)
    flat_loss = es.Objective(model, es.supervised(lambda out, y: 0 * out.sum() / len(y)), data, path="kept")
    with pytest.raises(NotKnownError, match="gradient of a mini-batch is zero"):
        es.batch_sharpness(flat_loss, 2, 3)
