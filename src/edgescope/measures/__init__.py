"""What can be measured, by name: ``MEASURES.build("sharpness:k=3")``; one file a measure."""

from __future__ import annotations

from edgescope.measures.accuracy import Accuracy
from edgescope.measures.directional_smoothness import DirectionalSmoothness
from edgescope.measures.effective_sharpness import EffectiveSharpness
from edgescope.measures.generalized_sharpness import GeneralizedSharpness
from edgescope.measures.gradient_norm import GradientNorm
from edgescope.measures.hessian_trace import HessianTrace
from edgescope.measures.learning_rate import LearningRate
from edgescope.measures.loss import Loss
from edgescope.measures.measure import Measure, Moment, Previous, Reading
from edgescope.measures.norms import Norms
from edgescope.measures.oscillation import Oscillation
from edgescope.measures.quadratic_model import QuadraticModel
from edgescope.measures.ratio import Ratio
from edgescope.measures.sharpness import Sharpness
from edgescope.measures.spectrum import HessianSpectrum
from edgescope.measures.threshold import Threshold
from edgescope.measures.time import Time
from edgescope.measures.training_loss import TrainingLoss
from edgescope.registry import Registry

MEASURES: Registry[Measure] = Registry("measure")
MEASURES.add("accuracy", Accuracy)
MEASURES.add("directional_smoothness", DirectionalSmoothness)
MEASURES.add("effective_sharpness", EffectiveSharpness)
MEASURES.add("generalized_sharpness", GeneralizedSharpness)
MEASURES.add("gradient_norm", GradientNorm)
MEASURES.add("hessian_trace", HessianTrace)
MEASURES.add("learning_rate", LearningRate)
MEASURES.add("loss", Loss)
MEASURES.add("norms", Norms)
MEASURES.add("oscillation", Oscillation)
MEASURES.add("quadratic_model", QuadraticModel)
MEASURES.add("ratio", Ratio)
MEASURES.add("sharpness", Sharpness)
MEASURES.add("spectrum", HessianSpectrum)
MEASURES.add("threshold", Threshold)
MEASURES.add("time", Time)
MEASURES.add("training_loss", TrainingLoss)

__all__ = ["MEASURES", "Measure", "Moment", "Previous", "Reading"]
