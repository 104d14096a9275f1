"""What can be measured, by name: ``MEASURES.build("sharpness:k=3")``; one file a measure; and one measure alone."""

from __future__ import annotations

from edgescope.measures.accuracy import Accuracy
from edgescope.measures.average_sharpness import AverageSharpness
from edgescope.measures.base import MEASURES, Measure, Moment, Previous
from edgescope.measures.batch_ratio import BatchRatio
from edgescope.measures.batch_sharpness import BatchSharpnessMeasure
from edgescope.measures.block_sharpness import BlockSharpness
from edgescope.measures.directional_smoothness import DirectionalSmoothness
from edgescope.measures.effective_sharpness import EffectiveSharpness
from edgescope.measures.generalized_sharpness import GeneralizedSharpnessMeasure
from edgescope.measures.gradient_noise import GradientNoise
from edgescope.measures.gradient_norm import GradientNorm
from edgescope.measures.headroom import HeadroomMeasure
from edgescope.measures.hessian_frobenius import HessianFrobenius
from edgescope.measures.hessian_trace import HessianTrace
from edgescope.measures.learning_coefficient import LearningCoefficientMeasure
from edgescope.measures.learning_rate import LearningRate
from edgescope.measures.loss import LossMeasure
from edgescope.measures.norms import Norms
from edgescope.measures.oscillation import Oscillation
from edgescope.measures.oscillation_cost import OscillationCost
from edgescope.measures.path_norm import PathNorm
from edgescope.measures.persistent_homology import PersistentHomology
from edgescope.measures.preconditioner_lag import PreconditionerLag
from edgescope.measures.quadratic_model import QuadraticModel
from edgescope.measures.ratio import Ratio
from edgescope.measures.rds_sharpness import RDSSharpness
from edgescope.measures.reading import Reading
from edgescope.measures.settled_norms import SettledNorms
from edgescope.measures.sharpness import Sharpness
from edgescope.measures.sharpness_dimension import SharpnessDimensionMeasure
from edgescope.measures.single import measure
from edgescope.measures.spectrum import HessianSpectrum
from edgescope.measures.step_ratio import StepRatio
from edgescope.measures.step_taken import StepTaken
from edgescope.measures.threshold import ThresholdMeasure
from edgescope.measures.time import Time
from edgescope.measures.training_loss import TrainingLoss
from edgescope.measures.update_norm import UpdateNorm
from edgescope.measures.worst_case_sharpness import WorstCaseSharpness

MEASURES.add("accuracy", Accuracy)
MEASURES.add("average_sharpness", AverageSharpness)
MEASURES.add("batch_ratio", BatchRatio)
MEASURES.add("batch_sharpness", BatchSharpnessMeasure)
MEASURES.add("block_sharpness", BlockSharpness)
MEASURES.add("directional_smoothness", DirectionalSmoothness)
MEASURES.add("effective_sharpness", EffectiveSharpness)
MEASURES.add("generalized_sharpness", GeneralizedSharpnessMeasure)
MEASURES.add("gradient_noise", GradientNoise)
MEASURES.add("gradient_norm", GradientNorm)
MEASURES.add("headroom", HeadroomMeasure)
MEASURES.add("hessian_frobenius", HessianFrobenius)
MEASURES.add("hessian_trace", HessianTrace)
MEASURES.add("learning_coefficient", LearningCoefficientMeasure)
MEASURES.add("learning_rate", LearningRate)
MEASURES.add("loss", LossMeasure)
MEASURES.add("norms", Norms)
MEASURES.add("oscillation", Oscillation)
MEASURES.add("oscillation_cost", OscillationCost)
MEASURES.add("path_norm", PathNorm)
MEASURES.add("persistent_homology", PersistentHomology)
MEASURES.add("preconditioner_lag", PreconditionerLag)
MEASURES.add("quadratic_model", QuadraticModel)
MEASURES.add("ratio", Ratio)
MEASURES.add("rds_sharpness", RDSSharpness)
MEASURES.add("settled_norms", SettledNorms)
MEASURES.add("sharpness", Sharpness)
MEASURES.add("sharpness_dimension", SharpnessDimensionMeasure)
MEASURES.add("spectrum", HessianSpectrum)
MEASURES.add("step_ratio", StepRatio)
MEASURES.add("threshold", ThresholdMeasure)
MEASURES.add("time", Time)
MEASURES.add("training_loss", TrainingLoss)
MEASURES.add("update_norm", UpdateNorm)
MEASURES.add("worst_case_sharpness", WorstCaseSharpness)

__all__ = ["MEASURES", "Measure", "Moment", "Previous", "Reading", "StepTaken", "measure"]
