"""What tasks on deep linear networks share: the sizes of the paper's network, its weaker mode, jitter of weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from jaxtyping import Float

from edgescope.simulate.linear_nets import Nets

SIZES: Final = (2, 10, 10, 2)
"""Units of the paper's network, from inputs to outputs; it has no biases."""


def second(maps: Float[np.ndarray, "*S m n"]) -> Float[np.ndarray, "*S"]:
    """The second singular values of end-to-end maps."""
    return np.linalg.svd(maps, compute_uv=False)[..., 1]


def add_jitter(nets: Nets, sizes: Sequence[int], scale: float, rng: np.random.Generator) -> None:
    """Add independent N(0, scale²) to every weight of networks of these ``sizes``, in place."""
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        nets[:, layer, :outputs, :inputs] += scale * rng.standard_normal((len(nets), outputs, inputs))
