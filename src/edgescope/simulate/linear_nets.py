"""Deep linear networks, simulated step by step: gradient descent, mini-batches, or Langevin noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from edgescope.errors import InputError
from edgescope.extras import compiled
from edgescope.memory import require
from edgescope.options import as_text, checked, each, integer, optional, real
from edgescope.simulate.linear_data import BatchSource, Gaussian, Samples
from edgescope.simulate.replicas import over_threads

Nets = Float[np.ndarray, "R D k k"]
"""Weights of R networks. Layer l of network r is ``nets[r, l, : sizes[l + 1], : sizes[l]]``; all else is zero."""

SIZES: Final = each(integer(1))
"""The check of layer sizes."""

_NEGLIGIBLE = 1e-100
"""Smaller weights are set to 0: their products would be denormal numbers, which are a hundred times slower."""


@dataclass(frozen=True, eq=False)
class Event:
    """The first step at which u' W v crosses ``level``, from either side; W (m, n) is the end-to-end map."""

    u: Float[np.ndarray, " m"]
    v: Float[np.ndarray, " n"]
    level: float


@dataclass(frozen=True, eq=False)
class Trajectories:
    """The results of R simulated networks.

    ``nets`` are the weights after the last step. ``steps`` counts the steps taken: fewer than asked for where the event
    ``happened``. ``times`` are steps times the learning rate. ``maps`` are the end-to-end maps after ``map_steps``
    steps; after the event a network keeps the map that it had when the event happened.
    """

    nets: Nets
    steps: Int[np.ndarray, " R"]
    times: Float[np.ndarray, " R"]
    happened: Bool[np.ndarray, " R"]
    map_steps: Int[np.ndarray, " T"]
    maps: Float[np.ndarray, "R T m n"]


class _LinearNetSettings(NamedTuple):
    """The settings of one simulation, for compiled code; numba compiles no dataclasses.

    ``batch`` is 0 for the mean over all data, ``noise`` the standard deviation of what is added to each weight at each
    step. The event is that the sum of ``watched`` times the end-to-end map crosses ``level`` (NaN: there is none).
    """

    batch: int
    decay: float
    lr: float
    noise: float
    watched: Float[np.ndarray, "m n"]
    level: float
    steps: int
    every: int


@checked(sizes=SIZES, replicas=integer(1))
def random_nets(sizes: Sequence[int], replicas: int = 1, *, seed: int = 0) -> Nets:
    """Networks with independent weights N(0, 1 / inputs of the layer); ``sizes`` runs from inputs to outputs."""
    rng = np.random.default_rng(seed)
    nets = _empty(sizes, replicas)
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        nets[:, layer, :outputs, :inputs] = rng.standard_normal((replicas, outputs, inputs)) / math.sqrt(inputs)
    return nets


@checked(sizes=SIZES, replicas=integer(1))
def balanced_nets(end_to_end: Float[np.ndarray, "m n"], sizes: Sequence[int], replicas: int = 1) -> Nets:
    """Networks of least weight norm for an end-to-end map: each layer has the D-th roots of its singular values.

    Raises :class:`InputError` where a hidden layer is narrower than the rank of the map.
    """
    end_to_end = np.asarray(end_to_end, dtype=np.float64)
    left, values, right = np.linalg.svd(end_to_end)
    rank = int((values > 0).sum())
    if end_to_end.shape != (sizes[-1], sizes[0]) or min(sizes) < rank:
        raise InputError(
            f"a map of shape {end_to_end.shape} and rank {rank} for layers of sizes {tuple(sizes)}",
            expected="outputs x inputs, and no layer narrower than the rank",
        )
    root = values[:rank] ** (1 / (len(sizes) - 1))
    nets = _empty(sizes, replicas)
    nets[:, :, range(rank), range(rank)] = root
    nets[:, 0, :rank, : sizes[0]] = root[:, None] * right[:rank]
    nets[:, -1, : sizes[-1], :rank] = left[:, :rank] * root if len(sizes) > 2 else left[:, :rank]
    if len(sizes) == 2:
        nets[:, 0, : sizes[1], : sizes[0]] = end_to_end
    return nets


def end_to_end(nets: Nets, sizes: Sequence[int]) -> Float[np.ndarray, "R m n"]:
    """The product W_D ... W_1 of each network."""
    product = nets[:, 0, : sizes[1], : sizes[0]]
    for layer in range(1, len(sizes) - 1):
        product = nets[:, layer, : sizes[layer + 1], : sizes[layer]] @ product
    return product


@checked(
    sizes=SIZES,
    decay=real(least=0),
    lr=real(above=0),
    steps=integer(1),
    batch=optional(integer(1)),
    temperature=optional(real(above=0)),
    every=optional(integer(1)),
    threads=optional(integer(1, 1024)),
)
def simulate(
    data: Gaussian | Samples,
    nets: Nets,
    sizes: Sequence[int],
    *,
    decay: float,
    lr: float,
    steps: int,
    batch: int | None = None,
    temperature: float | None = None,
    event: Event | None = None,
    every: int | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> Trajectories:
    """Gradient descent on E |y - W x|^2 / 2 + decay/2 sum_l |W_l|^2, starting from ``nets`` (which are not changed).

    Args:
        data: a joint Gaussian distribution, or fixed samples.
        nets: the weights to start from, as :func:`random_nets` and :func:`balanced_nets` make them.
        sizes: the layer sizes, inputs first; any depth and widths.
        decay: weight decay; 0 for none.
        lr: learning rate.
        steps: the largest number of steps.
        batch: size of the mini-batches. Of a Gaussian distribution they are fresh samples, which enter through the sums
            of x x' and noise x' alone; these are drawn exactly, so that the cost does not depend on the size. Of fixed
            samples they are drawn without replacement, epoch by epoch. None: the mean over all data.
        temperature: Langevin noise: sqrt(2 lr temperature) N(0, 1) is added to every weight at every step. None: no
            noise.
        event: ends the simulation of a network at the step at which it happens.
        every: the end-to-end maps are kept every so many steps; None: none are kept.
        seed: seed of the random streams, one for each network.
        threads: number of threads that share the networks; the results do not depend on it.

    Raises :class:`InputError` for values out of range, and for networks that diverge. Cost: about 1 microsecond a step
    for three layers of width 10 between 2 inputs and 2 outputs, twice that with noise (one core).
    """
    m, n = data.correlation.shape
    if nets.shape != _empty(sizes, len(nets)).shape or (sizes[0], sizes[-1]) != (n, m):
        raise InputError(
            f"networks of shape {nets.shape} and sizes {tuple(sizes)} on {n} inputs and {m} outputs",
            expected="weights as random_nets makes them, with the numbers of inputs and outputs of the data",
        )
    if isinstance(data, Samples) and (batch or 0) > len(data.inputs):
        raise InputError(f"batch={batch}", expected=f"at most {len(data.inputs)}, the number of samples")
    every = steps + 1 if every is None else every
    settings = _LinearNetSettings(
        batch=batch or 0,
        decay=decay,
        lr=lr,
        noise=0.0 if temperature is None else math.sqrt(2 * lr * temperature),
        watched=np.zeros((m, n)) if event is None else np.outer(event.u, event.v),
        level=math.nan if event is None else float(event.level),
        steps=steps,
        every=every,
    )
    source, moments = data.batch_source(batches=settings.batch > 0), (data.correlation, data.covariance)
    kept = steps // every + 1 if every <= steps else 0
    require(8 * kept * (1 + len(nets) * m * n), f"a simulation that keeps {kept:,} maps", hint="a larger every=")
    map_steps = np.arange(0, steps + 1, every) if every <= steps else np.empty(0, dtype=np.int64)
    after, maps = nets.copy(), np.zeros((len(nets), len(map_steps), m, n))
    taken, layers = np.empty(len(nets), dtype=np.int64), np.asarray(sizes)

    def one(replica: int, stream: np.random.Generator) -> None:
        taken[replica] = _simulate_one(after[replica], layers, moments, source, settings, maps[replica], stream)

    over_threads(one, len(nets), seed, threads)
    if not np.isfinite(after).all():
        raise InputError(f"a network diverged at lr={lr:g}", hint="a smaller learning rate")
    happened = np.zeros(len(nets), dtype=bool)
    if event is not None:
        before, now = ((end_to_end(w, sizes) * settings.watched).sum((1, 2)) > event.level for w in (nets, after))
        happened = before != now
    return Trajectories(after, taken, taken * lr, happened, map_steps, maps)


def _empty(sizes: Sequence[int], replicas: int) -> Nets:
    if len(sizes) < 2:
        raise InputError(f"layers of sizes {tuple(sizes)}", expected="at least the numbers of inputs and outputs")
    shape = (replicas, len(sizes) - 1, max(sizes), max(sizes))
    require(8 * math.prod(shape), f"{replicas:,} networks of sizes {as_text(tuple(sizes))}", hint="fewer networks")
    return np.zeros(shape)


@compiled(cache=True, nogil=True, error_model="numpy")
def _simulate_one(
    net: Float[np.ndarray, "D k k"],
    sizes: Int[np.ndarray, " D1"],
    moments: tuple[Float[np.ndarray, "m n"], Float[np.ndarray, "n n"]],
    source: BatchSource,
    settings: _LinearNetSettings,
    maps: Float[np.ndarray, "T m n"],
    rng: np.random.Generator,
) -> int:
    """Train one network, ``net``, and fill its ``maps``, both in place; returns the number of steps.

    ``moments`` are the means of y x' and x x', which the mean over all data needs in place of mini-batches.
    """
    batch, decay, lr, noise = settings.batch, settings.decay, settings.lr, settings.noise
    watched, level, steps, every = settings.watched, settings.level, settings.steps, settings.every
    depth, size = net.shape[0], net.shape[1]
    m, n = moments[0].shape
    forward = np.zeros((depth + 1, size, n))  # W_l ... W_1
    for j in range(n):
        forward[0, j, j] = 1.0
    backward = np.zeros((depth + 1, size, n))  # (W_D ... W_{l+1})' G
    mean_yx, mean_xx = moments[0].copy(), moments[1].copy()
    samples = source.inputs.shape[0]
    order, place = np.arange(samples), samples
    began_above = False
    for step in range(steps + 1):
        for layer in range(depth):
            _multiply(net[layer], forward[layer], forward[layer + 1], sizes[layer + 1], sizes[layer], n)
        W = forward[depth]
        if step % every == 0 and step // every < maps.shape[0]:
            maps[step // every] = W[:m]
        seen = 0.0
        for i in range(m):
            for j in range(n):
                seen += watched[i, j] * W[i, j]
        if step == 0:
            began_above = seen > level
        elif (seen > level) != began_above:
            for kept in range(step // every + 1, maps.shape[0]):
                maps[kept] = W[:m]
            return step
        if step == steps:
            break
        if batch > 0 and samples > 0:
            if place + batch > samples:
                _shuffle(order, rng)
                place = 0
            _moments(source.inputs, source.targets, order[place : place + batch], mean_yx, mean_xx)
            place += batch
        elif batch > 0:
            _fresh_moments(source, batch, mean_yx, mean_xx, rng)
        slope = backward[depth]
        for i in range(m):
            for j in range(n):
                slope[i, j] = -mean_yx[i, j]
                for k in range(n):
                    slope[i, j] += W[i, k] * mean_xx[k, j]
        for layer in range(depth - 1, -1, -1):
            weights, rows, columns = net[layer], sizes[layer + 1], sizes[layer]
            above, below, under = backward[layer + 1], backward[layer], forward[layer]
            for i in range(columns):
                for j in range(n):
                    below[i, j] = 0.0
            for i in range(rows):
                for k in range(columns):
                    old, gradient = weights[i, k], 0.0
                    for j in range(n):
                        below[k, j] += old * above[i, j]
                        gradient += above[i, j] * under[k, j]
                    new = old - lr * (gradient + decay * old)
                    if noise > 0.0:
                        new += noise * rng.standard_normal()
                    weights[i, k] = 0.0 if abs(new) < _NEGLIGIBLE else new
    return steps


@compiled(cache=True, nogil=True)
def _multiply(
    A: Float[np.ndarray, "k k"],
    B: Float[np.ndarray, "k n"],
    out: Float[np.ndarray, "k n"],
    rows: int,
    inner: int,
    n: int,
) -> None:
    for i in range(rows):
        for j in range(n):
            total = 0.0
            for k in range(inner):
                total += A[i, k] * B[k, j]
            out[i, j] = total


@compiled(cache=True, nogil=True)
def _shuffle(order: Int[np.ndarray, " N"], rng: np.random.Generator) -> None:
    for i in range(order.size - 1, 0, -1):
        j = int(rng.random() * (i + 1))
        order[i], order[j] = order[j], order[i]


@compiled(cache=True, nogil=True)
def _moments(
    X: Float[np.ndarray, "N n"],
    Y: Float[np.ndarray, "N m"],
    rows: Int[np.ndarray, " b"],
    mean_yx: Float[np.ndarray, "m n"],
    mean_xx: Float[np.ndarray, "n n"],
) -> None:
    mean_yx[:] = 0.0
    mean_xx[:] = 0.0
    for row in rows:
        for j in range(X.shape[1]):
            for i in range(X.shape[1]):
                mean_xx[i, j] += X[row, i] * X[row, j] / rows.size
            for i in range(Y.shape[1]):
                mean_yx[i, j] += Y[row, i] * X[row, j] / rows.size


@compiled(cache=True, nogil=True)
def _fresh_moments(
    source: BatchSource,
    batch: int,
    mean_yx: Float[np.ndarray, "m n"],
    mean_xx: Float[np.ndarray, "n n"],
    rng: np.random.Generator,
) -> None:
    """Means of x x' and y x' over a fresh batch: a Wishart matrix by its Bartlett triangle A, and noise times A.

    Source: Bartlett 1933.
    """
    regression, root, noise_root = source.regression, source.root, source.noise_root
    n, m = root.shape[0], noise_root.shape[0]
    columns = min(n, batch)
    half = np.zeros((n, columns))  # root A / sqrt(b), so that mean x x' = half half'
    noise = np.empty(m)
    mean_xx[:] = 0.0
    mean_yx[:] = 0.0
    for j in range(columns):
        for i in range(j, n):
            drawn = math.sqrt(rng.chisquare(batch - j)) if i == j else rng.standard_normal()
            for k in range(i, n):
                half[k, j] += root[k, i] * drawn / math.sqrt(batch)
        noise[:] = 0.0
        for i in range(m):
            drawn = rng.standard_normal() / math.sqrt(batch)
            for k in range(m):
                noise[k] += noise_root[k, i] * drawn
        for i in range(n):
            for k in range(n):
                mean_xx[k, i] += half[k, j] * half[i, j]
            for k in range(m):
                mean_yx[k, i] += noise[k] * half[i, j]
    for i in range(m):
        for j in range(n):
            for k in range(n):
                mean_yx[i, j] += regression[i, k] * mean_xx[k, j]
