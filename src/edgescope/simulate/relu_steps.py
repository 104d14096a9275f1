"""Compiled steps of SGD and of sharpness-aware minimization (SAM) on ReLU networks, one sample at a time.

For a batch of one sample the gradient of a layer has rank one, and so has the perturbation of SAM: the perturbed
network is evaluated from the pre-activations already computed, without a perturbed copy of the weights. The last
columns of inputs and first-layer weights hold the bias (input 1) and zeros up to a multiple of 8 columns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgescope import extras

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Order = npt.NDArray[np.int64]

# Sums may be reordered, but NaN and infinity are kept, so that divergence can be detected.
_REORDER = {"reassoc", "contract", "nsz", "arcp"}
compiled = extras.compiled(cache=True, nogil=True, error_model="numpy", fastmath=_REORDER)


@compiled
def slope_of_loss(f: float, target: float, smoothing: float) -> float:
    """The derivative in f of (f - y)^2, or of the logistic loss with labels smoothed by ``smoothing`` >= 0."""
    if smoothing < 0:
        return 2 * (f - target)
    wrong = 1 / (1 + np.exp(target * f))  # the probability of the other label
    return target * (smoothing * (1 - wrong) - (1 - smoothing) * wrong)


@compiled
def multiply(weights: Matrix, x: Vector, z: Vector) -> None:
    """z = weights x, four rows at a time, since the additions of a single sum have to wait for each other."""
    rows = len(weights) // 4 * 4
    for j in range(0, rows, 4):
        z0, z1, z2, z3 = 0.0, 0.0, 0.0, 0.0
        for k in range(len(x)):
            z0 += weights[j, k] * x[k]
            z1 += weights[j + 1, k] * x[k]
            z2 += weights[j + 2, k] * x[k]
            z3 += weights[j + 3, k] * x[k]
        z[j], z[j + 1], z[j + 2], z[j + 3] = z0, z1, z2, z3
    for j in range(rows, len(weights)):
        total = 0.0
        for k in range(len(x)):
            total += weights[j, k] * x[k]
        z[j] = total


@compiled
def add_outer(weights: Matrix, scale: float, left: Vector, right: Vector) -> None:
    """weights += scale left right^T, skipping the rows where that is zero."""
    for j in range(len(left)):
        share = scale * left[j]
        if share != 0:
            for k in range(len(right)):
                weights[j, k] += share * right[k]


@compiled
def decay(t: float) -> float:
    """exp(-t) for 0 <= t <= 40, by the series of exp(-t/128) squared seven times, to 4e-14 of itself.

    Plain arithmetic is vectorised, unlike the exponential and the logarithm of the C library.
    """
    y = t * (-1 / 128)
    square = y * y
    # Even and odd powers are summed separately: two short chains of multiplications instead of a long one.
    even, odd = 1 / 479001600, 1 / 39916800
    even = ((((even * square + 1 / 3628800) * square + 1 / 40320) * square + 1 / 720) * square + 1 / 24) * square + 0.5
    odd = ((((odd * square + 1 / 362880) * square + 1 / 5040) * square + 1 / 120) * square + 1 / 6) * square
    p = 1 + (y + (even * square + y * odd))
    for _ in range(7):
        p *= p
    return p


@compiled
def log_above_one(s: float) -> float:
    """log(1 + s) for 0 <= s <= 1, by the series of 2 artanh(s / (2 + s)), to 1e-16."""
    u = s / (2 + s)
    square = u * u
    fourth = square * square
    even, odd = 1.0 / 33, 1.0 / 31
    for k in range(29, 0, -4):
        even = even * fourth + 1.0 / k
    for k in range(27, 0, -4):
        odd = odd * fourth + 1.0 / k
    return 2 * u * (even + square * odd)


@compiled
def activate(z: Vector, smooth: bool, h: Vector, slope: Vector) -> None:
    """h = relu(z), or softplus(z), and its derivative."""
    if smooth:
        for j in range(len(z)):
            t = abs(z[j])
            small = decay(40.0 if t > 40 else t)  # keeps NaN
            h[j] = max(z[j], 0.0) + log_above_one(small)
            slope[j] = (1.0 if z[j] > 0 else small) / (1 + small)
    else:
        for j in range(len(z)):
            h[j] = max(z[j], 0.0)
            slope[j] = 1.0 if z[j] > 0 else 0.0


@compiled
def output(z: Vector, head: Vector, smooth: bool, epsilon: float, h: Vector, g: Vector) -> float:
    """The output f. Writes the inputs of the head into ``h`` and df/dz into ``g``.

    ``epsilon`` is that of the layer normalisation; 0: there is none.
    """
    activate(z, smooth, h, g)
    scale = 1.0
    along = 0.0  # 1 where normalisation removes the component of the gradient along h
    if epsilon > 0:
        square = 0.0
        for j in range(len(z)):
            square += h[j] * h[j]
        long = square > epsilon * epsilon
        scale = 1 / np.sqrt(square) if long else 1 / epsilon
        along = 1.0 if long else 0.0
        for j in range(len(z)):
            h[j] *= scale
    f = 0.0
    for j in range(len(z)):
        f += head[j] * h[j]
    for j in range(len(z)):
        g[j] *= scale * (head[j] - along * f * h[j])
    return f


@compiled
def train_two_layers(
    first: Matrix,
    head: Vector,
    inputs: Matrix,
    order: Order,
    targets: Vector,
    lr: float,
    rho: float,
    decay: float,
    smoothing: float,
    smooth: bool,
    epsilon: float,
) -> None:
    """Train networks of two layers ("no-bias", "bias" or "layernorm") in place, one step for each sample of ``order``.

    SGD where ``rho`` is 0; else SAM with batch size 1: z' = z + kappa |x|^2 df/dz, head' = head + kappa h, where
    kappa = rho sign(l') / ||grad f||.
    """
    width = len(head)
    z, h, g, moved = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    squares = (inputs * inputs).sum(1)
    for t in range(len(order)):
        x = inputs[order[t]]
        multiply(first, x, z)
        f = output(z, head, smooth, epsilon, h, g)
        slope = slope_of_loss(f, targets[t], smoothing)
        if rho > 0 and slope != 0:
            size = 0.0
            for j in range(width):
                size += h[j] * h[j] + squares[order[t]] * g[j] * g[j]
            if size > 0:
                kappa = rho * np.sign(slope) / np.sqrt(size)
                for j in range(width):
                    z[j] += kappa * squares[order[t]] * g[j]
                    moved[j] = head[j] + kappa * h[j]
                f = output(z, moved, smooth, epsilon, h, g)
                slope = slope_of_loss(f, targets[t], smoothing)
        if decay > 0:
            first *= 1 - lr * decay
            head *= 1 - lr * decay
        for j in range(width):
            head[j] -= lr * slope * h[j]
        add_outer(first, -lr * slope, g, x)


@compiled
def train_three_layers(
    first: Matrix,
    middle: Matrix,
    head: Vector,
    inputs: Matrix,
    order: Order,
    targets: Vector,
    lr: float,
    rho: float,
    decay: float,
    smoothing: float,
    smooth: bool,
) -> None:
    """:func:`train_two_layers` for three layers without normalisation.

    With d = df/dz of the second hidden layer and h the activations of the first, the perturbed middle layer is
    M + kappa d h^T, which is applied without being formed.
    """
    width = len(head)
    z1, h1, s1, g1 = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    z2, h2, g2, moved = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    before, across = np.empty(width), np.empty(width)
    squares = (inputs * inputs).sum(1)
    for t in range(len(order)):
        x = inputs[order[t]]
        multiply(first, x, z1)
        activate(z1, smooth, h1, s1)
        multiply(middle, h1, z2)
        f = output(z2, head, smooth, 0.0, h2, g2)
        pull_back(middle, g2, s1, g1)
        slope = slope_of_loss(f, targets[t], smoothing)
        if rho > 0 and slope != 0:
            length = (h1 * h1).sum()
            size = (h2 * h2).sum() + length * (g2 * g2).sum() + squares[order[t]] * (g1 * g1).sum()
            if size > 0:
                kappa = rho * np.sign(slope) / np.sqrt(size)
                before[:], across[:] = h1, g2
                z1 += kappa * squares[order[t]] * g1
                moved[:] = head + kappa * h2
                activate(z1, smooth, h1, s1)
                multiply(middle, h1, z2)
                z2 += kappa * (before * h1).sum() * across
                f = output(z2, moved, smooth, 0.0, h2, g2)
                pull_back(middle, g2, s1, g1)
                g1 += kappa * (across * g2).sum() * before * s1
                slope = slope_of_loss(f, targets[t], smoothing)
        if decay > 0:
            first *= 1 - lr * decay
            middle *= 1 - lr * decay
            head *= 1 - lr * decay
        head -= lr * slope * h2
        add_outer(middle, -lr * slope, g2, h1)
        add_outer(first, -lr * slope, g1, x)


@compiled
def pull_back(middle: Matrix, g2: Vector, s1: Vector, g1: Vector) -> None:
    """Backpropagate df/dz from the second hidden layer (``g2``) to the first (``g1``)."""
    g1[:] = 0
    for j in range(len(g2)):
        if g2[j] != 0:
            for k in range(len(g1)):
                g1[k] += g2[j] * middle[j, k]
    for k in range(len(g1)):
        g1[k] *= s1[k]
