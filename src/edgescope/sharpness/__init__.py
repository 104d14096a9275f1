"""The largest curvature in the unit ball of a norm (generalized sharpness); curvature and headroom along one step; the
curvature that mini-batches see along their own gradients (batch sharpness); the loss at perturbed weights."""

from edgescope.sharpness.batch_sharpness import BatchSharpness, batch_sharpness
from edgescope.sharpness.bracket import GeneralizedSharpness
from edgescope.sharpness.generalized import generalized_sharpness
from edgescope.sharpness.headroom import Headroom, headroom
from edgescope.sharpness.perturbed_loss import PerturbedLoss, perturbed_losses
from edgescope.sharpness.smoothness import Smoothness, directional_smoothness

__all__ = [
    "BatchSharpness",
    "GeneralizedSharpness",
    "Headroom",
    "PerturbedLoss",
    "Smoothness",
    "batch_sharpness",
    "directional_smoothness",
    "generalized_sharpness",
    "headroom",
    "perturbed_losses",
]
