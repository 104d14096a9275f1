"""Headroom and batch sharpness of random networks with their stated errors, against what all samples say."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import torch
from error_trials import Figure, Trial
from random_networks import RandomNetwork
from torch import Tensor
from torch.func import grad, vjp, vmap

import edgescope as es
from edgescope.errors import NotKnownError

LONGEST = 64.0
"""The longest multiple of a step that is tried."""

POPULATION, SAMPLE = 400, 100
"""Samples in all, and those that the headroom is measured on."""

BATCHES, MANY = 30, 3000
"""Mini-batches of a batch sharpness, and those of which the truth is the mean, where there are so many."""


# Headroom


def first_rise(network: RandomNetwork, data: tuple[Tensor, Tensor], w: Tensor, step: Tensor) -> float | None:
    """The first multiple at which the loss of the data rises, in float64: a scan in steps of 2%, and finer ones."""
    losses = vmap(lambda s: network.loss_at(w + s * step, *data))
    before = losses(torch.zeros(1, dtype=torch.float64))

    def first_above(multiples: Tensor) -> int | None:
        for start in range(0, len(multiples), 40):
            above = torch.nonzero(losses(multiples[start : start + 40]) > before)
            if len(above):
                return start + int(above[0])
        return None

    multiples = torch.from_numpy(np.geomspace(1e-2, LONGEST, 440))
    place = first_above(multiples)
    if not place:
        return None
    for _ in range(2):
        multiples = torch.linspace(float(multiples[place - 1]), float(multiples[place]), 21, dtype=torch.float64)
        place = first_above(multiples)
        if not place:
            return None if place is None else float(multiples[0])
    return float(multiples[place])


def step_of(network: RandomNetwork) -> Tensor:
    """A step near the gradient, from a tenth of the longest stable one to twice as long."""
    draw = np.random.default_rng(network.number)
    gradient = network.objective.gradient()
    noise = torch.as_tensor(draw.normal(size=network.size)).to(gradient)
    direction = -gradient + 0.3 * gradient.norm() / math.sqrt(network.size) * noise
    return 10 ** float(draw.uniform(-1, 0.3)) * 2 / max(float(network.eigenvalues[-1]), 1e-3) * direction


def of_headroom(network: RandomNetwork) -> Trial | None:
    w, step = network.objective.parameters(), step_of(network)
    found = es.headroom(network.objective, w, step)
    truth = first_rise(network, (network.data[0].double(), network.data[1]), w.double(), step.double())
    return Trial(found.value, found.error, truth) if math.isfinite(found.value) and truth else None


def of_sampled_headroom(network: RandomNetwork) -> Trial | None:
    """Of the gradient of many samples as a step, measured on a part of them."""
    draw = torch.Generator().manual_seed(network.number)
    inputs = torch.randn(POPULATION, network.data[0].shape[1], generator=draw, dtype=torch.float64)
    targets = torch.randint(int(network.data[1].max()) + 1, (POPULATION,), generator=draw)
    w = network.exact.parameters()
    gradient = grad(lambda w: network.loss_at(w, inputs, targets))(w)
    step = -gradient / max(float(network.eigenvalues[-1]), 1e-3)
    chosen = torch.randperm(POPULATION, generator=draw)[:SAMPLE]
    part = es.Objective(
        network.model,
        es.supervised(network.criterion),
        (inputs[chosen], targets[chosen]),
        dtype=torch.float64,
        path="kept",
        threads=1,
        check=False,
    )
    found = es.headroom(part, w, step, population=POPULATION)
    truth = first_rise(network, (inputs, targets), w, step)
    return Trial(found.value, found.error, truth) if math.isfinite(found.value) and truth else None


# Batch sharpness


@functools.cache
def forms(network: RandomNetwork) -> tuple[np.ndarray, np.ndarray]:
    """g_i'H_k g_j and g_i'g_j of single samples, in float64."""
    inputs, targets = network.data[0].double(), network.data[1]
    w = network.exact.parameters()

    def loss(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return network.loss_at(w, x[None], y[None])

    gradients = vmap(grad(loss), (None, 0, 0))(w, inputs, targets)

    def product(g: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return vjp(grad(lambda w: loss(w, x, y)), w)[1](g)[0]

    products = vmap(vmap(product, (0, None, None)), (None, 0, 0))(gradients, inputs, targets)
    along = torch.einsum("ip,kjp->kij", gradients, products)
    return along.numpy(), (gradients @ gradients.T).numpy()


@functools.cache
def mini_batches(network: RandomNetwork, size: int) -> tuple[np.ndarray, np.ndarray]:
    """g'Hg and |g|² of mini-batches: of all there are, or of many drawn at random."""
    along, squares = forms(network)
    samples = len(squares)
    if math.comb(samples, size) <= MANY:
        chosen = np.array(list(itertools.combinations(range(samples), size)))
    else:
        draw = np.random.default_rng(network.number)
        chosen = draw.permuted(np.tile(np.arange(samples), (MANY, 1)), axis=1)[:, :size]
    weights = np.zeros((len(chosen), samples))
    np.put_along_axis(weights, chosen, 1 / size, axis=1)
    inner = np.tensordot(weights, along, 1)
    return np.einsum("mij,mi,mj->m", inner, weights, weights), np.einsum("ij,mi,mj->m", squares, weights, weights)


@functools.cache
def measured(network: RandomNetwork, size: int) -> es.sharpness.BatchSharpness | None:
    """None: the gradient of a mini-batch is zero."""
    try:
        return es.batch_sharpness(network.objective, size, BATCHES, seed=network.number)
    except NotKnownError:
        return None


def of_batch_sharpness(share: float | None, weighted: bool) -> Figure:
    """Of mini-batches of a ``share`` of the samples, or of two samples."""

    def figure(network: RandomNetwork) -> Trial | None:
        size = 2 if share is None else max(2, round(share * len(network.data[0])))
        found = measured(network, size)
        if found is None:
            return None
        products, squares = mini_batches(network, size)
        if weighted:
            return Trial(found.weighted, found.weighted_error, float(products.mean() / squares.mean()))
        return Trial(found.value, found.error, float((products / squares).mean()))

    return figure


EDGE: dict[str, Figure] = {
    "headroom": of_headroom,
    "headroom, on 100 of 400 samples": of_sampled_headroom,
    "batch sharpness, 30 mini-batches": of_batch_sharpness(0.25, weighted=False),
    "weighted batch sharpness, 30 mini-batches": of_batch_sharpness(0.25, weighted=True),
}
PAIRS: dict[str, Figure] = {
    "batch sharpness, 30 mini-batches of 2": of_batch_sharpness(None, weighted=False),
    "weighted batch sharpness, 30 mini-batches of 2": of_batch_sharpness(None, weighted=True),
}
"""Of mini-batches so small that some have much the longest gradients, for the benchmark alone: errors are too small."""
