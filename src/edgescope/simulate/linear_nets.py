"""Deep linear networks of matrices, step by step: descent, mini-batches fresh or from fixed samples, Langevin noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Bool, Float, Int

from edgescope.errors import InputError
from edgescope.simulate.linear_data import Gaussian, Samples
from edgescope.simulate.replicas import over_threads
from edgescope.theory.arguments import one_number, positive_number, whole_number

Nets = Float[np.ndarray, "R D k k"]
"""Weights of R networks: layer l of one is ``nets[r, l, : sizes[l + 1], : sizes[l]]``, the rest is zero."""


_NOTHING = 1e-100
"""Weights that decay below this are 0: their products would be denormal numbers, at a hundredth of the speed."""


@dataclass(frozen=True, eq=False)
class Event:
    """The moment at which u' W v, with W the end-to-end map, first passes ``level``, from whichever side it starts."""

    u: Float[np.ndarray, " m"]
    v: Float[np.ndarray, " n"]
    level: float


@dataclass(frozen=True, eq=False)
class Followed:
    """R networks after their run.

    ``nets`` are their weights; ``steps`` those taken, fewer where the event ``happened``; ``times`` are steps times
    the learning rate. ``maps`` are the end-to-end maps after ``at`` steps, of the last moment before the event there.
    """

    nets: Nets
    steps: Int[np.ndarray, " R"]
    times: Float[np.ndarray, " R"]
    happened: Bool[np.ndarray, " R"]
    at: Int[np.ndarray, " T"]
    maps: Float[np.ndarray, "R T m n"]


def random_nets(sizes: Sequence[int], replicas: int = 1, *, seed: int = 0) -> Nets:
    """Weights N(0, 1/inputs of the layer), for layers from ``sizes[0]`` inputs to ``sizes[-1]`` outputs."""
    rng = np.random.default_rng(seed)
    nets = _empty(sizes, replicas)
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        nets[:, layer, :outputs, :inputs] = rng.standard_normal((replicas, outputs, inputs)) / math.sqrt(inputs)
    return nets


def balanced_nets(end_to_end: Float[np.ndarray, "m n"], sizes: Sequence[int], replicas: int = 1) -> Nets:
    """Networks of least weight for an end-to-end map: each layer carries the D-th root of its singular values.

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
    """The products W_D ... W_1."""
    product = nets[:, 0, : sizes[1], : sizes[0]]
    for layer in range(1, len(sizes) - 1):
        product = nets[:, layer, : sizes[layer + 1], : sizes[layer]] @ product
    return product


def follow(
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
) -> Followed:
    """Descend E |y - W x|^2 / 2 + decay/2 sum_l |W_l|^2 from ``nets``, which are left as they are.

    Args:
        data: a joint Gaussian, or fixed samples.
        sizes: of the layers, inputs first; any depth and widths.
        decay: weight decay; 0 for none.
        lr: learning rate.
        steps: at most so many.
        batch: mini-batches of so many: fresh ones of a Gaussian (they act through sum x x' and sum noise x', which are
            drawn exactly, so that any batch costs the same), or of the fixed samples, without replacement in epochs.
            None takes the mean over all.
        temperature: adds sqrt(2 lr temperature) N(0, 1) to every weight at every step; None adds none.
        event: stop a network when it happens; it is looked for at every step.
        every: keep the end-to-end maps after so many steps each; None keeps none.
        seed: of the random streams, one a network.
        threads: to spread the networks over; the result does not depend on it.

    Raises :class:`InputError` for values out of range, and for networks that diverge. Cost: about 1 us a step for
    three layers of width 10 between 2 inputs and 2 outputs, twice that with noise (one core).
    """
    decay = one_number(decay, "decay")
    if decay < 0:
        raise InputError(f"decay is {decay:g}", expected="zero or more")
    lr, steps = positive_number(lr, "learning rate"), whole_number(steps, "steps", 1)
    jump = 0.0 if temperature is None else math.sqrt(2 * lr * positive_number(temperature, "temperature"))
    m, n = data.correlation.shape
    if nets.shape != _empty(sizes, len(nets)).shape or (sizes[0], sizes[-1]) != (n, m):
        raise InputError(
            f"networks of shape {nets.shape} and sizes {tuple(sizes)} on {n} inputs and {m} outputs",
            expected="weights as random_nets makes them, for the sizes of these data",
        )
    size = 0 if batch is None else whole_number(batch, "batch", 1)
    if isinstance(data, Samples) and size > len(data.inputs):
        raise InputError(f"batch = {size}", expected=f"at most {len(data.inputs)}, the number of samples")
    X, Y, regression, root, noise_root = data.sources(batches=size > 0)
    watched = np.zeros((m, n)) if event is None else np.outer(event.u, event.v)
    every = steps + 1 if every is None else whole_number(every, "every", 1)
    at = np.arange(0, steps + 1, every) if every <= steps else np.empty(0, dtype=np.int64)
    after, maps = nets.copy(), np.zeros((len(nets), len(at), m, n))
    taken = np.empty(len(nets), dtype=np.int64)
    layers, level = np.asarray(sizes), math.nan if event is None else float(event.level)

    def one(replica: int, stream: np.random.Generator) -> None:
        taken[replica] = _descend(
            after[replica], layers, data.correlation, data.covariance, X, Y, regression, root, noise_root, size, decay,
            lr, jump, watched, level, steps, every, maps[replica], stream,
        )  # fmt: skip

    over_threads(one, len(nets), seed, threads)
    if not np.isfinite(after).all():
        raise InputError(f"a network diverged at lr={lr:g}", hint="a smaller learning rate")
    happened = np.zeros(len(nets), dtype=bool)
    if event is not None:
        begun, ended = ((end_to_end(w, sizes) * watched).sum((1, 2)) > event.level for w in (nets, after))
        happened = begun != ended
    return Followed(after, taken, taken * lr, happened, at, maps)


def _empty(sizes: Sequence[int], replicas: int) -> Nets:
    for size in sizes:
        whole_number(size, "layer size", 1)
    if len(sizes) < 2:
        raise InputError(f"layers of sizes {tuple(sizes)}", expected="at least inputs and outputs")
    return np.zeros((whole_number(replicas, "replicas", 1), len(sizes) - 1, max(sizes), max(sizes)))


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _descend(
    nets: Float[np.ndarray, "D k k"],
    sizes: Int[np.ndarray, " D1"],
    correlation: Float[np.ndarray, "m n"],
    covariance: Float[np.ndarray, "n n"],
    X: Float[np.ndarray, "N n"],
    Y: Float[np.ndarray, "N m"],
    regression: Float[np.ndarray, "m n"],
    root: Float[np.ndarray, "n n"],
    noise_root: Float[np.ndarray, "m m"],
    batch: int,
    decay: float,
    lr: float,
    jump: float,
    watched: Float[np.ndarray, "m n"],
    level: float,
    steps: int,
    every: int,
    maps: Float[np.ndarray, "T m n"],
    rng: np.random.Generator,
) -> int:
    """Steps taken, ``nets`` changed and ``maps`` filled in place; batches come from X and Y where these have rows."""
    depth, size = nets.shape[0], nets.shape[1]
    m, n = correlation.shape
    forward = np.zeros((depth + 1, size, n))  # W_l ... W_1
    for j in range(n):
        forward[0, j, j] = 1.0
    back = np.zeros((depth + 1, size, n))  # (W_D ... W_{l+1})' G
    mean_yx, mean_xx = correlation.copy(), covariance.copy()
    order, place = np.arange(X.shape[0]), X.shape[0]
    began_above = False
    for step in range(steps + 1):
        for layer in range(depth):
            _multiply(nets[layer], forward[layer], forward[layer + 1], sizes[layer + 1], sizes[layer], n)
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
        if batch > 0 and X.shape[0] > 0:
            if place + batch > X.shape[0]:
                _shuffle(order, rng)
                place = 0
            _moments(X, Y, order[place : place + batch], mean_yx, mean_xx)
            place += batch
        elif batch > 0:
            _fresh_moments(regression, root, noise_root, batch, mean_yx, mean_xx, rng)
        slope = back[depth]
        for i in range(m):
            for j in range(n):
                slope[i, j] = -mean_yx[i, j]
                for k in range(n):
                    slope[i, j] += W[i, k] * mean_xx[k, j]
        for layer in range(depth - 1, -1, -1):
            weights, rows, columns = nets[layer], sizes[layer + 1], sizes[layer]
            above, below, under = back[layer + 1], back[layer], forward[layer]
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
                    if jump > 0.0:
                        new += jump * rng.standard_normal()
                    weights[i, k] = 0.0 if abs(new) < _NOTHING else new
    return steps


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
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


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _shuffle(order: Int[np.ndarray, " N"], rng: np.random.Generator) -> None:
    for i in range(order.size - 1, 0, -1):
        j = int(rng.random() * (i + 1))
        order[i], order[j] = order[j], order[i]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
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


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fresh_moments(
    regression: Float[np.ndarray, "m n"],
    root: Float[np.ndarray, "n n"],
    noise_root: Float[np.ndarray, "m m"],
    batch: int,
    mean_yx: Float[np.ndarray, "m n"],
    mean_xx: Float[np.ndarray, "n n"],
    rng: np.random.Generator,
) -> None:
    """Mean x x' and y x' of a batch of Gaussians: Wishart by Bartlett's triangle A, noise times A (Bartlett 1933)."""
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
