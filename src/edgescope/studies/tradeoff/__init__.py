"""The norm-sharpness trade-off across learning rates, on networks and in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgescope.experiments.study_run import Runs
from edgescope.experiments.tradeoff.runs import tradeoff_tasks
from edgescope.figures import Figure
from edgescope.studies.study import Preset, Study
from edgescope.studies.tested_claim import Topic
from edgescope.studies.tradeoff.diagonal_claims import ONE_SAMPLE, SEVERAL_SAMPLES
from edgescope.studies.tradeoff.network_claims import BELOW_AND_ABOVE, CONDITIONS
from edgescope.studies.tradeoff.objection_claims import OSCILLATION, SCALE
from edgescope.studies.tradeoff.test_loss_claims import TEST_LOSS
from edgescope.sweep import Task


@dataclass(frozen=True)
class Tradeoff(Study):
    """Gradient flow, and gradient descent at learning rates over two decades, from one initialisation to one training
    loss."""

    name: ClassVar[str] = "tradeoff"
    title: ClassVar[str] = "The norm-sharpness trade-off across learning rates"
    abstract: ClassVar[str] = (
        "Gradient flow from an initialisation to a training loss gives a critical learning rate, 2 over the largest "
        "sharpness on its way. From the same initialisation to the same training loss, full-batch gradient descent at "
        "learning rates over two decades around it (quick: for costly networks from 0.3 or 0.4 of it on): fully "
        "connected, convolutional, residual networks and vision transformers, with the half-squared loss and "
        "cross-entropy. Compared are final sharpness, norms and test loss, beside norms of averaged iterates and after "
        "a last phase of small steps, and sharpness that the scale of weights does not change. Diagonal linear "
        "networks say the same in closed form. The paper uses 5,000 images of MNIST and CIFAR-10, these networks fewer "
        "of handwritten digits and of Fashion-MNIST; its widths, learning rates and thresholds are not known."
    )
    paper: ClassVar[str] = "Matveev, Fojtik et al. 2025 (arXiv 2505.21423)"
    topics: ClassVar[Sequence[Topic]] = (
        Topic("What the claims rest on", CONDITIONS),
        Topic("Below and above the critical learning rate", BELOW_AND_ABOVE),
        Topic("The test loss", TEST_LOSS),
        Topic("Is the growth of the norm an oscillation?", OSCILLATION),
        Topic("The scale of weights", SCALE),
        Topic("A diagonal network on one sample", ONE_SAMPLE),
        Topic("Diagonal networks on several samples", SEVERAL_SAMPLES),
    )
    unknown: ClassVar[tuple[str, ...]] = (
        "Known of the paper's runs: 5,000 images of MNIST and of CIFAR-10; fully connected, convolutional and residual "
        "networks and vision transformers, with ReLU and tanh; the half-squared loss and cross-entropy; full batch.",
        "Varied in the paper: size of the data, width, depth, loss threshold and initialisation.",
        "Not known: widths, learning rates, loss thresholds, initialisations and seeds. The fully connected and the "
        "convolutional networks are those of Cohen et al. 2021; the others are ours.",
        "Not known: of which parameters the paper takes the norm. Here it is that of all.",
        "Left out: maximal-update and kernel parametrisations, which the paper compares.",
    )

    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        return tradeoff_tasks(preset, seed)

    def figures(self, runs: Runs) -> list[Figure]:
        from edgescope.studies.tradeoff.figures import tradeoff_figures  # only here: charts take long to load

        return tradeoff_figures(runs)
