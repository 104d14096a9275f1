"""Flatness: whether flattest networks generalize, whether minimizers of sharpness do, and whether one is the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgescope.experiments.flatness.runs import UNKNOWN, flatness_tasks
from edgescope.experiments.preset import Preset
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure
from edgescope.options import check_fields
from edgescope.studies.flatness.generalization import GENERALIZATION
from edgescope.studies.flatness.least_trace import LEAST_TRACE
from edgescope.studies.flatness.other_minimizers import OTHER_MINIMIZERS
from edgescope.studies.flatness.sample_complexity import SAMPLE_COMPLEXITY
from edgescope.studies.flatness.user_network import USER_NETWORK
from edgescope.studies.flatness.with_bias import WITH_BIAS
from edgescope.studies.study import Study
from edgescope.studies.tested_claim import Topic
from edgescope.sweep import Task
from edgescope.training import RunConfig


@dataclass(frozen=True)
class Flatness(Study):
    """Three scenarios on xor, and the general question for a network of the user's own.

    ``data``, ``model``, ``loss`` and ``lr`` are those of that network, named as everywhere, with ``;`` in the place of
    ``,``: ``flatness:data=digits,model=mlp:widths=64x64;activation=relu,lr=0.05``. The claims about the user's network
    are the same for all of these; their cases name the network in their factors.
    """

    name: ClassVar[str] = "flatness"
    title: ClassVar[str] = "Does flatness explain generalization?"
    abstract: ClassVar[str] = (
        "Shallow relu networks of four architectures learn the product of two signs among thirty from 100 samples, by "
        "single-sample SAM, label-noise SGD, full-batch SAM and gradient descent with weight decay; sharpness is the "
        "trace of the Hessian, beside the least that any interpolating network can have. Steps on single samples are "
        "compiled and equal to the optimizers in float64. Except in the preset paper, networks with batch norm and "
        "with three layers are narrower than the paper's 500, and most runs shorter than its 1e5 epochs. Then SAM on a "
        "network of the user's choice: does it flatten it, and did the test error follow?"
    )
    paper: ClassVar[str] = (
        "Wen, Li, Ma 2023 (arXiv 2307.11007); Foret et al. 2021 (arXiv 2010.01412); Dinh et al. 2017 (arXiv 1703.04933)"
    )
    topics: ClassVar[Sequence[Topic]] = (
        Topic("Which networks generalize under 1-SAM", GENERALIZATION),
        Topic("Networks with bias: flatter and worse", WITH_BIAS),
        Topic("The least trace", LEAST_TRACE),
        Topic("Other minimizers, and whether flatness explains the error", OTHER_MINIMIZERS),
        Topic("How many samples are enough", SAMPLE_COMPLEXITY),
        Topic("The network of the user's choice", USER_NETWORK),
    )
    unknown: ClassVar[tuple[str, ...]] = UNKNOWN

    data: str = "fashion-5k:train=1000;test=1000;pool=2"
    model: str = "mlp:widths=64;activation=relu"
    loss: str = "cross-entropy"
    lr: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self, "study 'flatness'")
        data, model, loss = self._named()
        RunConfig(data=data, model=model, loss=loss, lr=self.lr)  # which refuses what cannot be run

    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        return flatness_tasks(preset, seed, *self._named(), self.lr)

    def _named(self) -> tuple[str, str, str]:
        """Data, model and loss as they are named elsewhere."""
        data, model, loss = (name.replace(";", ",") for name in (self.data, self.model, self.loss))
        return data, model, loss

    def figures(self, runs: Runs) -> list[Figure]:
        from edgescope.studies.flatness.figures import flatness_figures  # only here: charts take long to load

        return flatness_figures(runs)
