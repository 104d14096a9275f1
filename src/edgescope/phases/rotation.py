"""Initial paths between solutions of a deep linear network that differ by rotations of its hidden layers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError
from edgescope.linalg.arguments import as_tensor
from edgescope.objective import Objective
from edgescope.options import checked, instance_of, integer
from edgescope.theory.arguments import Array

SWEEPS = 30
"""Passes over the layers; in each, every layer is rotated to its optimum given its neighbours."""

STARTS = 6
"""Starts of the optimisation: the layers as they are, and five random rotations of them."""


@checked(objective=instance_of(Objective), points=integer(2))
def rotation(
    objective: Objective, start: Float[Tensor, " P"], end: Float[Tensor, " P"], points: int = 12
) -> Float[Tensor, "points P"]:
    """A path at the loss of ``end``, from the rotation of its hidden layers nearest to ``start`` back to ``end``.

    It is made for ``barrier(through=)``. W_l becomes Q_l W_l Q_{l-1}' with rotations Q_l of the hidden layers, which
    changes neither the end-to-end map nor the weight norms. The nearest rotation is computed layer by layer
    (Procrustes) from several starts, and may not be the global optimum. Reflections are excluded, since no path of
    equal loss leads to them.

    Raises :class:`InputError` for models that are not a chain of matrices, and where the loss changes under such
    rotations. Cost: two losses, and 180 singular value decompositions of each hidden layer.
    """
    shapes = objective.shapes
    chain = all(len(shape) == 2 for shape in shapes) and all(a[0] == b[1] for a, b in pairwise(shapes))
    if not chain or len(shapes) < 2:
        raise InputError("a model that is not a chain of matrices", expected="a deep linear network without biases")
    here, there = (_matrices(objective, name, point) for name, point in (("start", start), ("end", end)))
    angles = [_logarithm(turn) for turn in _alignment(here, there)]
    way = [
        _turned(there, [scipy.linalg.expm(share * angle) for angle in angles]) for share in np.linspace(1, 0, points)
    ]
    found = torch.tensor(np.array([np.concatenate([W.ravel() for W in matrices]) for matrices in way]))
    found = found.to(objective.device, objective.dtype)
    apart = abs(float(objective.loss(found[points // 2]) - objective.loss(end)))
    if not apart <= 1e-4 * float(objective.loss(end)) + 1e-12:
        raise InputError(
            f"the loss changes by {apart:.3g} when hidden layers are rotated", expected="a deep linear network"
        )
    return found


def _alignment(here: list[Array], there: list[Array]) -> list[Array]:
    """The rotations that bring ``there`` nearest to ``here``: the best result of several starts."""
    sizes, rng = [len(W) for W in here[:-1]], np.random.default_rng(0)
    found = []
    for start in range(STARTS):
        turns = [_nearest_rotation(rng.standard_normal((n, n)) if start else np.eye(n)) for n in sizes]
        for _ in range(SWEEPS):
            for layer, size in enumerate(sizes):
                both = _turned(there, [*turns[:layer], np.eye(size), *turns[layer + 1 :]])
                wanted = here[layer] @ both[layer].T + here[layer + 1].T @ both[layer + 1]
                # The small multiple of the identity leaves directions unrotated that the objective does not depend on.
                turns[layer] = _nearest_rotation(wanted + 1e-6 * np.abs(wanted).max() * np.eye(size))
        apart = sum(float(((A - B) ** 2).sum()) for A, B in zip(here, _turned(there, turns), strict=True))
        found.append((apart, start, turns))
    return min(found)[2]


def _matrices(objective: Objective, name: str, point: Float[Tensor, " P"]) -> list[Array]:
    point = as_tensor(name, point, "a parameter vector")
    if point.shape != (objective.size,):
        raise InputError(f"{name} of shape {tuple(point.shape)}", expected=f"({objective.size},)")
    return [piece.detach().double().cpu().numpy() for piece in objective.layout.split(point)]


def _turned(matrices: list[Array], turns: list[Array]) -> list[Array]:
    """The matrices after each layer is rotated, and the layer above it is rotated back."""
    turned = list(matrices)
    for layer, turn in enumerate(turns):
        turned[layer] = turn @ turned[layer]
        turned[layer + 1] = turned[layer + 1] @ turn.T
    return turned


def _nearest_rotation(wanted: Array) -> Array:
    """The rotation Q with the largest tr(Q' wanted) (Kabsch 1976)."""
    left, _, right = np.linalg.svd(wanted)
    left[:, -1] *= np.sign(np.linalg.det(left @ right))
    return np.asarray(left @ right)


def _logarithm(rotation: Array) -> Array:
    """A skew-symmetric logarithm, also for rotations by half a circle, which have no principal logarithm."""
    blocks, basis = scipy.linalg.schur(rotation)
    angles, place, opposite = np.zeros_like(blocks), 0, []
    while place < len(blocks):
        if place + 1 < len(blocks) and abs(blocks[place + 1, place]) > 1e-9:
            angles[place + 1, place] = np.arctan2(blocks[place + 1, place], blocks[place, place])
            place += 2
        else:
            opposite += [place] if blocks[place, place] < 0 else []
            place += 1
    for one, other in zip(opposite[::2], opposite[1::2], strict=True):
        angles[other, one] = np.pi
    return np.asarray(basis @ (angles - angles.T) @ basis.T)
