"""Steps of particles in a corrugated bowl, in compiled code."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from edgescope.extras import compiled


@compiled(cache=True, error_model="numpy")
def advance(
    x: Float[np.ndarray, "N 2"], shift: Float[np.ndarray, " 2"], amplitude: float, frequency: float, lr: float
) -> tuple[float, float, float, float]:
    """One step of all particles, in place; the largest sigma_1 and sigma_2 before it, and their mean logarithms.

    The Hessian has 1 + a on its diagonal and b off it, so that the sigma are |1 - lr (1 + a -+ |b|)|.
    """
    highest_1, highest_2, total_1, total_2 = 0.0, 0.0, 0.0, 0.0
    pull, curve = amplitude * frequency, amplitude * frequency**2
    for i in range(x.shape[0]):
        c0, s0 = math.cos(frequency * x[i, 0]), math.sin(frequency * x[i, 0])
        c1, s1 = math.cos(frequency * x[i, 1]), math.sin(frequency * x[i, 1])
        middle, half_gap = 1 - lr * (1 + curve * c0 * c1), lr * abs(curve * s0 * s1)
        sigma_1 = abs(middle) + half_gap
        sigma_2 = abs(abs(middle) - half_gap)
        highest_1, highest_2 = max(highest_1, sigma_1), max(highest_2, sigma_2)
        total_1 += math.log(sigma_1)
        total_2 += math.log(sigma_2)
        x[i, 0] += shift[0] - lr * (x[i, 0] + pull * s0 * c1)
        x[i, 1] += shift[1] - lr * (x[i, 1] + pull * c0 * s1)
    return highest_1, highest_2, total_1 / x.shape[0], total_2 / x.shape[0]
