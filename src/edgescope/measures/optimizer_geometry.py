"""The geometry of an optimizer's steps, and the directional smoothness above which a step raises the loss."""

from __future__ import annotations

from edgescope.errors import NotKnownError
from edgescope.geometry import Diagonal, Euclidean, Geometry
from edgescope.linalg import metric
from edgescope.optim.rule import Threshold, UpdateRule


def geometry_of(rule: UpdateRule) -> Geometry:
    """The norm in which the optimizer's threshold is one of generalized sharpness, bound to its tensors.

    That of steepest descent, the norm of a preconditioner (frozen, of the step just taken), or the Euclidean one.
    Raises :class:`NotKnownError` where no norm or no preconditioner is known.
    """
    own = rule.threshold().geometry
    if own is not None:
        return own
    preconditioner = rule.metric()
    if preconditioner is None:
        return Euclidean()
    if isinstance(preconditioner, metric.DiagonalMetric) and bool(preconditioner.entries.isfinite().all()):
        return Diagonal(preconditioner.entries).bind([tuple(tensor.shape) for tensor in rule.tensors])
    raise NotKnownError(
        f"the preconditioner of {rule.name} is not one finite number a parameter",
        hint="the measure effective_sharpness, or naming a geometry",
    )


def is_of_geometry(rule: UpdateRule) -> bool:
    """Whether no eigenvalue decides on stability but the generalized sharpness, or its ratio to the gradient."""
    try:
        threshold = rule.threshold()
    except NotKnownError:
        return False
    return threshold.normalized or not isinstance(threshold.geometry, Euclidean | Diagonal | None)


def threshold_of_steps(rule: UpdateRule) -> Threshold | None:
    """The threshold above which the directional smoothness of a step says that it raised the loss.

    None where steps are not those of steepest descent from the gradient alone: with momentum, weight decay, a
    perturbation (SAM), or where the loss is maximized.
    """
    groups = rule.groups()
    if rule.gradients > 1 or rule.sign() < 0:
        return None
    decays = [rule.coupled_decay(group) or rule.decoupled_decay(group) for group in groups]
    return None if any(decays) or any(rule.momentum_of(group).memory for group in groups) else rule.threshold()
