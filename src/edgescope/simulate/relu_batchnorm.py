"""Compiled steps on single samples for a ReLU network with batch normalisation over the whole training set.

The normalisation of a neuron w depends only on the samples at which it is active. They rarely change between two steps,
and while they do not, they enter only through M = sum of x x^T: w.M w is n times the mean square, and 2 M w its
gradient. M is kept for every neuron, and changes by one outer product where a sample becomes active or inactive. To
find these samples it is not necessary to visit all: it can happen only to samples that are no farther from the kink
than the weights have moved since the last full pass, plus the perturbation of SAM. M w is updated at each step, and
recomputed in each full pass.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgescope.simulate.relu_steps import Matrix, Order, Vector, add_outer, compiled, multiply, slope_of_loss

AHEAD = 8.0
"""A list of samples near the kink is long enough for about this many steps of the present length."""

Fires = npt.NDArray[np.bool_]


@compiled
def dot(one: Vector, other: Vector) -> float:
    total = 0.0
    for c in range(len(one)):
        total += one[c] * other[c]
    return total


@compiled
def look(
    w: Vector, inputs: Matrix, squares: Vector, radius: float, fires: Fires, moment: Matrix, image: Vector, near: Order
) -> int:
    """A full pass: updates the samples at which the neuron is active (``fires``), M (``moment``) and M w (``image``).

    Writes into ``near`` the samples that a move of the weights by ``radius`` could change, and returns their number.
    """
    count = 0
    for k in range(len(inputs)):
        z = dot(w, inputs[k])
        if (z > 0) != fires[k]:
            fires[k] = z > 0
            add_outer(moment, 1.0 if z > 0 else -1.0, inputs[k], inputs[k])
        if z * z <= radius * radius * squares[k]:
            near[count] = k
            count += 1
    multiply(moment, w, image)
    return count


@compiled
def point_along(x: Vector, z: float, square: float, count: int, image: Vector, along: Vector) -> None:
    """The gradient of z / rms with respect to w, where z = w.x, ``square`` = ``count`` rms^2 and ``image`` = M w."""
    scale = np.sqrt(count / square)
    for c in range(len(x)):
        along[c] = scale * (x[c] - z / square * image[c])


@compiled
def train_batchnorm(
    first: Matrix,
    gamma: Vector,
    head: Vector,
    inputs: Matrix,
    order: Order,
    targets: Vector,
    lr: float,
    rho: float,
    decay: float,
    smoothing: float,
) -> None:
    """Train a network in place, one step for each sample of ``order``: SGD where ``rho`` is 0, else SAM.

    A neuron that is inactive at the sample has zero gradient in all of its weights, also through its root mean square,
    so that only active neurons are updated.
    """
    (width, size), samples = first.shape, len(inputs)
    squares = (inputs * inputs).sum(1)
    fires = np.zeros((samples, width), dtype=np.bool_)
    moments, images = np.zeros((width, size, size)), np.empty((width, size))
    near, listed = np.empty((width, samples), dtype=np.int64), np.zeros(width, dtype=np.int64)
    # The radius that the list covers; how far the weights have moved since; the perturbation of SAM.
    radius, moved, ahead = np.zeros(width), np.zeros(width), np.zeros(width)
    along, z, h, active = np.empty((width, size)), np.empty(width), np.empty(width), np.empty(width, dtype=np.int64)
    head_there, gamma_there, w, image, push = head.copy(), gamma.copy(), np.empty(size), np.empty(size), np.empty(size)
    pushes = np.empty((width, size))  # M times ``along``, computed while M is in the cache: loading M costs the most
    for j in range(width):
        listed[j] = look(first[j], inputs, squares, 0.0, fires[:, j], moments[j], images[j], near[j])
    for t in range(len(order)):
        x, f, count, norm = inputs[order[t]], 0.0, 0, 0.0
        for j in range(width):
            if fires[order[t], j]:
                active[count] = j
                count += 1
                z[j], square = dot(first[j], x), dot(first[j], images[j])
                h[j] = z[j] * np.sqrt(samples / square)
                f += head[j] * gamma[j] * h[j]
                head_there[j], gamma_there[j] = head[j], gamma[j]
                point_along(x, z[j], square, samples, images[j], along[j])
                both = head[j] * gamma[j]
                ahead[j] = abs(both) * np.sqrt(dot(along[j], along[j]))
                norm += h[j] ** 2 * (head[j] ** 2 + gamma[j] ** 2) + ahead[j] ** 2
        slope = slope_of_loss(f, targets[t], smoothing)
        kappa = rho * np.sign(slope) / np.sqrt(norm) if norm > 0 else 0.0
        if kappa != 0:
            f = 0.0
            for position in range(count):
                j = active[position]
                ahead[j] *= abs(kappa)
                if moved[j] + ahead[j] > radius[j]:
                    radius[j], moved[j] = AHEAD * ahead[j], 0.0
                    listed[j] = look(first[j], inputs, squares, radius[j], fires[:, j], moments[j], images[j], near[j])
                head_there[j] += kappa * gamma[j] * h[j]
                gamma_there[j] += kappa * head[j] * h[j]
                multiply(moments[j], along[j], push)
                scale = kappa * head[j] * gamma[j]
                for c in range(size):
                    w[c] = first[j, c] + scale * along[j, c]
                    image[c] = images[j, c] + scale * push[c]
                for place in range(listed[j]):
                    k = near[j, place]
                    there = dot(w, inputs[k])
                    if (there > 0) != fires[k, j]:
                        for c in range(size):
                            image[c] += abs(there) * inputs[k, c]  # a sample added, or one with w.x < 0 removed
                z[j] = dot(w, x)
                h[j] = 0.0
                if z[j] > 0:
                    square = dot(w, image)
                    h[j] = z[j] * np.sqrt(samples / square)
                    f += head_there[j] * gamma_there[j] * h[j]
                    point_along(x, z[j], square, samples, image, along[j])
                    multiply(moments[j], along[j], pushes[j])
            slope = slope_of_loss(f, targets[t], smoothing)
        if decay > 0:
            kept = 1 - lr * decay
            first *= kept
            gamma *= kept
            head *= kept
            images *= kept
            radius *= kept
            moved *= kept
        for position in range(count):
            j = active[position]
            if z[j] > 0:
                step = -lr * slope * head_there[j] * gamma_there[j]
                head[j] -= lr * slope * gamma_there[j] * h[j]
                gamma[j] -= lr * slope * head_there[j] * h[j]
                if kappa == 0:
                    multiply(moments[j], along[j], pushes[j])
                far = 0.0
                for c in range(size):
                    far += along[j, c] * along[j, c]
                    first[j, c] += step * along[j, c]
                    images[j, c] += step * pushes[j, c]
                far = abs(step) * np.sqrt(far)
                moved[j] += far
                if moved[j] > radius[j]:
                    radius[j], moved[j] = AHEAD * max(far, ahead[j] if kappa != 0 else 0.0), 0.0
                    listed[j] = look(first[j], inputs, squares, radius[j], fires[:, j], moments[j], images[j], near[j])
                    continue
                for place in range(listed[j]):
                    k = near[j, place]
                    here = dot(first[j], inputs[k])
                    if (here > 0) != fires[k, j]:
                        fires[k, j] = here > 0
                        add_outer(moments[j], 1.0 if here > 0 else -1.0, inputs[k], inputs[k])
                        for c in range(size):
                            images[j, c] += abs(here) * inputs[k, c]
