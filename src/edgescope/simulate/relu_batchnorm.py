"""Compiled one-sample steps on a ReLU network whose neurons are normalised over the whole training set."""

from __future__ import annotations

import numpy as np

from edgescope.simulate.relu_steps import Matrix, Order, Vector, compiled, slope_of_loss


@compiled
def mean_square(z: Vector) -> float:
    """Of relu(z) over the training set."""
    total = 0.0
    for k in range(len(z)):
        positive = max(z[k], 0.0)
        total += positive * positive
    return total / len(z)


@compiled
def direction(z: Vector, columns: Matrix, i: int, square: float, positive: Vector, found: Vector) -> None:
    """The gradient of relu(z_i) / rms in the weights of a neuron, rms over all samples: x_i/rms - z_i q / (n rms^3),
    where z_i > 0, with q = sum_k relu(z_k) x_k. ``columns`` are those of the inputs, as rows; four at a time."""
    for k in range(len(z)):
        positive[k] = max(z[k], 0.0)
    rms = np.sqrt(square)
    share = z[i] / (len(z) * square)
    for c in range(0, len(found), 4):
        q0, q1, q2, q3 = 0.0, 0.0, 0.0, 0.0
        for k in range(len(z)):
            q0 += positive[k] * columns[c, k]
            q1 += positive[k] * columns[c + 1, k]
            q2 += positive[k] * columns[c + 2, k]
            q3 += positive[k] * columns[c + 3, k]
        found[c] = (columns[c, i] - share * q0) / rms
        found[c + 1] = (columns[c + 1, i] - share * q1) / rms
        found[c + 2] = (columns[c + 2, i] - share * q2) / rms
        found[c + 3] = (columns[c + 3, i] - share * q3) / rms


@compiled
def add_images(columns: Matrix, scale: float, along: Vector, z: Vector) -> None:
    """z += scale X along, with the columns of X as rows, four at a time."""
    for c in range(0, len(along), 4):
        a0, a1, a2, a3 = scale * along[c], scale * along[c + 1], scale * along[c + 2], scale * along[c + 3]
        for k in range(len(z)):
            z[k] += a0 * columns[c, k] + a1 * columns[c + 1, k] + a2 * columns[c + 2, k] + a3 * columns[c + 3, k]


@compiled
def follow_batchnorm(
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
    """Steps on the samples ``order`` with these targets; SGD where ``rho`` is 0, else 1-SAM; in place.

    A neuron that is silent at the sample has gradient zero in all of its weights, also through its root mean square, so
    only those that fire are touched. Their pre-activations at all samples are carried along.
    """
    width, columns = len(head), np.ascontiguousarray(inputs.T)
    z = first @ columns  # at every training sample
    perturbed, along = np.empty((width, len(inputs))), np.empty((width, inputs.shape[1]))
    h, firing = np.empty(width), np.empty(width, dtype=np.int64)
    head_moved, gamma_moved, positive = np.empty(width), np.empty(width), np.empty(len(inputs))
    for t in range(len(order)):
        i, f, count, size = order[t], 0.0, 0, 0.0
        for j in range(width):
            if z[j, i] > 0:
                firing[count] = j
                count += 1
                square = mean_square(z[j])
                h[j] = z[j, i] / np.sqrt(square)
                f += head[j] * gamma[j] * h[j]
                head_moved[j], gamma_moved[j] = head[j], gamma[j]
                if rho > 0:
                    direction(z[j], columns, i, square, positive, along[j])
                    both = head[j] * gamma[j]
                    size += h[j] ** 2 * (head[j] ** 2 + gamma[j] ** 2) + both**2 * (along[j] * along[j]).sum()
        slope = slope_of_loss(f, targets[t], smoothing)
        kappa = rho * np.sign(slope) / np.sqrt(size) if size > 0 else 0.0
        if kappa != 0:
            f = 0.0
        for position in range(count):
            j = firing[position]
            perturbed[j] = z[j]
            if kappa != 0:
                head_moved[j] += kappa * gamma[j] * h[j]
                gamma_moved[j] += kappa * head[j] * h[j]
                add_images(columns, kappa * head[j] * gamma[j], along[j], perturbed[j])
                square = mean_square(perturbed[j])
                h[j] = perturbed[j, i] / np.sqrt(square) if perturbed[j, i] > 0 else 0.0
                f += head_moved[j] * gamma_moved[j] * h[j]
        if kappa != 0:
            slope = slope_of_loss(f, targets[t], smoothing)
        if decay > 0:
            kept = 1 - lr * decay
            first *= kept
            gamma *= kept
            head *= kept
            z *= kept
        for position in range(count):
            j = firing[position]
            if perturbed[j, i] > 0:
                direction(perturbed[j], columns, i, mean_square(perturbed[j]), positive, along[j])
                step = -lr * slope * head_moved[j] * gamma_moved[j]
                head[j] -= lr * slope * gamma_moved[j] * h[j]
                gamma[j] -= lr * slope * head_moved[j] * h[j]
                for c in range(inputs.shape[1]):
                    first[j, c] += step * along[j, c]
                add_images(columns, step, along[j], z[j])
