"""Checks that a ReLU network without output bias can interpolate a training set, with the reason where it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from edgescope.errors import InputError
from edgescope.models.shallow import known_architecture

Array = npt.NDArray[np.float64]


def interpolable(architecture: str, x: Tensor | np.ndarray, y: Tensor | np.ndarray) -> tuple[Array, Array]:
    """Inputs (n, d) and targets (n,) in float64, which some network of this architecture fits exactly.

    Any targets of distinct inputs can be fitted. Without bias a network is homogeneous, f(k x) = k f(x) for k > 0, so
    that targets along one ray must be proportional. Raises :class:`InputError` for all other training sets, and for
    repeated inputs with equal targets, since they would count twice in every mean.
    """
    known_architecture(architecture)
    inputs, targets = (np.asarray(_plain(values), dtype=np.float64) for values in (x, y))
    targets = targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
    if inputs.ndim != 2 or targets.shape != inputs.shape[:1] or inputs.size == 0:
        raise InputError(
            f"inputs of shape {inputs.shape} with targets of shape {targets.shape}",
            expected="(n, d) and (n,), n and d > 0",
        )
    for name, values in (("inputs", inputs), ("targets", targets)):
        if not bool(np.isfinite(values).all()):
            raise InputError(f"{name} with {int((~np.isfinite(values)).sum())} values that are NaN or infinite")
    if architecture == "batchnorm" and len(inputs) == 1:
        raise InputError("batch normalisation over a batch of 1", expected="at least 2 samples")
    _refuse_contradictions(architecture, inputs, targets)
    return inputs, targets


def _plain(values: Any) -> Any:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values


def _refuse_contradictions(architecture: str, inputs: Array, targets: Array) -> None:
    # Adding 0.0 makes -0.0 and 0.0 the same.
    _, first, which = np.unique(inputs + 0.0, axis=0, return_index=True, return_inverse=True)
    earlier = first[which.reshape(-1)]
    for i in np.flatnonzero(earlier != np.arange(len(inputs))).tolist():
        j = int(earlier[i])
        if targets[i] != targets[j]:
            raise InputError(
                f"targets that cannot be interpolated: inputs {j} and {i} are equal, their targets {targets[j]:g} and "
                f"{targets[i]:g}"
            )
        raise InputError(f"inputs {j} and {i} are equal", expected="distinct inputs", hint="each of them once")
    if architecture != "no-bias":
        return
    lengths = np.linalg.norm(inputs, axis=1)
    at_zero = lengths == 0
    if bool((at_zero & (targets != 0)).any()):
        i = int(np.flatnonzero(at_zero & (targets != 0))[0])
        raise InputError(
            f"targets that cannot be interpolated: input {i} is 0 and its target is not, but a network without bias "
            "maps 0 to 0"
        )
    rays = np.round(inputs[~at_zero] / lengths[~at_zero, None], 12)
    slopes, index = targets[~at_zero] / lengths[~at_zero], np.flatnonzero(~at_zero)
    _, first, which = np.unique(rays + 0.0, axis=0, return_index=True, return_inverse=True)
    earlier = first[which.reshape(-1)]
    for k in np.flatnonzero(~np.isclose(slopes, slopes[earlier], rtol=1e-9, atol=0)):
        raise InputError(
            f"targets that cannot be interpolated: inputs {index[earlier[k]]} and {index[k]} lie on one ray from the "
            "origin, along which a network without bias is linear",
            hint="'bias'",
        )
